"""Of 500 real companies, a search as people type it shows the right one among the first five."""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

import asyncpg
import pytest

from benchmarks.distortion import distorted
from provider_registration.candidates.browsing import BrowsingService
from provider_registration.candidates.search_text import search_text
from provider_registration.candidates.selection import Order, Selection
from provider_registration.db.database import Database
from provider_registration.settings import DatabaseSettings
from provider_registration.similar.filling import filler_of_keys

TESTS = Path(__file__).parents[1]
COMPANIES = [
    name
    for file in (TESTS / "similar/companies.txt", TESTS / "candidates/companies.txt")
    for name in file.read_text().splitlines()
    if name
]
QUERIES, FIRST, LEAST = 200, 5, 0.95
INSERT = """
    INSERT INTO candidates (company_name, contact_email, contact_email_canonical, products, truck_count,
                            capacity_tons_per_day, search_text)
    VALUES ($1, $2::text, $2::text, '{apples}', 1, 1, $3)
"""


@pytest.fixture
async def database(own_database_url):
    connection = await asyncpg.connect(own_database_url)
    emails = [f"{uuid4().hex}@fruits.example" for _ in COMPANIES]
    await connection.executemany(
        INSERT,
        [(name, email, search_text(name, email, None, None)) for name, email in zip(COMPANIES, emails, strict=True)],
    )
    await connection.close()
    database = Database(DatabaseSettings(_env_file=None, database_url=own_database_url).database_url, pool_size=2)
    await filler_of_keys(database).fill_all()
    yield database
    await database.close()


def test_there_are_500():
    assert len(set(COMPANIES)) == len(COMPANIES) == 500


async def test_the_right_company_is_among_the_first_five(database):
    browsing, missed = BrowsingService(database), []
    for name, typed in distorted(COMPANIES, QUERIES, seed=1):
        found = await browsing.page(Selection(words=typed, order=Order.RELEVANCE), limit=FIRST)
        if name not in [each.company_name for each in found.candidates]:
            missed.append((name, typed))

    assert len(missed) <= QUERIES * (1 - LEAST), missed


@pytest.mark.parametrize("name", COMPANIES[::100])
async def test_a_name_as_it_is_comes_first(database, name):
    found = await BrowsingService(database).page(Selection(words=name, order=Order.RELEVANCE), limit=FIRST)

    assert found.candidates[0].company_name == name
