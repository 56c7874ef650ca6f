"""Search finds candidates by words in any script, whatever the database's locale."""

from __future__ import annotations

import asyncio
import json
from uuid import UUID, uuid4

import asyncpg
import pytest

from provider_registration.candidates import filling, queries
from provider_registration.candidates.browsing import BrowsingService
from provider_registration.candidates.company import Company, Product
from provider_registration.candidates.filling import filler_of_search_texts, keep_search_texts_filled
from provider_registration.candidates.search_text import query_patterns, search_text
from provider_registration.candidates.selection import Selection
from provider_registration.candidates.service import CandidateService
from provider_registration.db import migrations
from provider_registration.db.database import Database
from provider_registration.db.filling import BEFORE_ALL, Filler
from provider_registration.db.reading import Reader
from provider_registration.privacy.service import erase_person
from provider_registration.settings import DatabaseSettings
from tests.conftest import create_database, drop_database

AS_OLDER_RELEASE = """
    INSERT INTO candidates (company_name, contact_email, phone, location, products, truck_count, capacity_tons_per_day)
    VALUES ($1, $2, $3, $4, '{apples}', 1, 1)
    RETURNING id
"""
ERASE_AS_OLDER_RELEASE = """
    UPDATE candidates
    SET company_name = 'erased', contact_email = 'erased-' || id || '@erased.invalid', phone = NULL, location = NULL,
        status = 'rejected'
    WHERE id = $1
"""
TEXT_OF = "SELECT search_text FROM candidates WHERE id = $1"


@pytest.fixture(scope="module", params=["LOCALE 'C' LOCALE_PROVIDER libc", ""], ids=["C", "as made"])
async def url(request, server_url):
    """A database at head; one has a locale with only ASCII letters."""
    name = f"test_{uuid4().hex}"
    url = await create_database(server_url, name, "template0", f"ENCODING 'UTF8' {request.param}")
    await asyncio.to_thread(migrations.upgrade, url)
    yield url
    await drop_database(server_url, name)


@pytest.fixture
async def database(url):
    database = Database(DatabaseSettings(_env_file=None, database_url=url).database_url, pool_size=3)
    yield database
    await database.close()


@pytest.fixture
async def connection(url):
    connection = await asyncpg.connect(url)
    yield connection
    await connection.execute("DELETE FROM candidate_events; DELETE FROM candidates")
    await connection.close()


@pytest.fixture
def found(database):
    """The names of the companies that match the words."""

    async def found(words):
        return [
            each.company_name
            for each in (await BrowsingService(database).page(Selection(words=words), limit=50)).candidates
        ]

    return found


def a_company(name, **changes):
    values = {
        "company_name": name,
        "contact_email": f"{uuid4().hex}@fruits.example",
        "phone": None,
        "products": [Product.APPLES],
        "truck_count": 1,
        "capacity_tons_per_day": 1,
        "location": None,
    }
    return Company.model_construct(**values | changes)


@pytest.fixture
def register(database, connection):
    service = CandidateService(database, Reader(database, None), list, creates_status_links=False)

    async def register(name, **changes):
        return (await service.register(a_company(name, **changes))).record.candidate_id

    return register


@pytest.mark.parametrize(
    ("name", "asked"),
    [
        ("Muñoz e Hijos", "Munoz"),
        ("Munoz", "MUÑOZ"),
        ("ООО «Ромашка»", "Ромашка"),
        ("ООО «Ромашка»", "ромашка"),
        ("ООО «Ромашка»", "romashka ooo"),
        ("トヨタ自動車", "トヨタ"),
        ("トヨタ自動車", "toyota"),
        ("“Acme”", "Acme"),
        ("O’Neil & Söhne", "oneil sohne"),
        ("O'Neil", "o neil"),
        ("Straße 7", "STRASSE"),
        ("ＡＣＭＥ Ltd", "acme"),
        ("Ιωάννης Φρούτα", "ιωαννης"),
        ("शर्मा फल", "शर्मा"),
        ("Obsthandel Nord", "handel"),
        ("Huertas del Sol S.L.", "s l sol"),
        ("24/7 Fruit", "7 24"),
        ("Fruta 0034 963 555 017", "+34 963555017"),
        ("100% Bio_Fruit", "100% bio"),
    ],
)
async def test_a_company_is_found_by_its_name(register, found, name, asked):
    await register(name)
    await register("Another company")

    assert await found(asked) == [name]


@pytest.mark.parametrize(
    "asked",
    ["963 555 017", "+34 963-555-017", "0034963555017", "34963555017", "555017", "(963) 555017", "köln", "KOLN Munoz",
     "josé@müller.example", "JOSE@MULLER"],
)  # fmt: skip
async def test_a_company_is_found_by_its_telephone_its_place_and_its_address(register, found, asked):
    await register("Muñoz", phone="+34 963 555 017", location="Köln", contact_email="José@müller.example")
    await register("Another company", phone="+34 963 555 018")

    assert await found(asked) == ["Muñoz"]


@pytest.mark.parametrize("asked", ["munoz weg", "%", "___", "\\", "--", "'", "oñoz", "z"])
async def test_what_not_every_word_matches_is_not_found(register, found, asked):
    await register("Muñoz")

    assert await found(asked) == []


async def test_a_search_without_words_finds_nothing(database):
    found = await BrowsingService(database).page(Selection(words="'"), limit=50)

    assert (found.candidates, found.total) == ([], 0)


async def test_the_index_looks_for_the_words(register, connection):
    await register("Muñoz")
    await connection.execute("SET enable_seqscan = off")
    for patterns in (["%munoz%"], ["% mu%"]):
        plan = "\n".join(
            row[0]
            for row in await connection.fetch(f"EXPLAIN SELECT FROM candidates WHERE search_text LIKE '{patterns[0]}'")
        )
        assert "ix_candidates_search_text" in plan


def test_the_text_is_bounded_and_nothing_pushes_the_address_out():
    text = search_text(
        "\u337f" * 255, "a@b.example", "1" * 50, "🍎" * 255
    )  # one that is transliterated to twelve letters

    assert len(text) < 2000
    assert text.startswith(" a b example ")
    assert text.isascii()


def test_the_rarest_words_come_first():
    assert query_patterns("of fruit 36145 company") == ["%36145%", "%company%", "%fruit%", "% of%"]
    assert query_patterns("12 abc") == ["%abc%", "% 12%"]


async def test_what_an_older_release_writes_is_filled_and_nothing_else_changes(connection, database, found):
    company = await connection.fetchval(AS_OLDER_RELEASE, "Ромашка", "info@older.example", "+34 963 555 017", "Köln")
    before = await connection.fetchrow("SELECT * FROM candidates WHERE id = $1", company)
    assert before["search_text"] is None

    assert await filler_of_search_texts(database).fill() == 1

    after = await connection.fetchrow("SELECT * FROM candidates WHERE id = $1", company)
    made = search_text("Ромашка", "info@older.example", "+34 963 555 017", "Köln")
    assert dict(after) == dict(before) | {"search_text": made}
    assert await found("romashka koln") == ["Ромашка"]
    assert await filler_of_search_texts(database).fill() == 0


@pytest.mark.parametrize("column", ["company_name", "contact_email", "phone", "location"])
async def test_a_change_by_an_older_release_empties_the_text_until_it_is_filled(
    register, connection, database, found, column
):
    company = await register("Muñoz", phone="1", location="Köln")

    await connection.execute(f"UPDATE candidates SET {column} = 'otherwise@x.example' WHERE id = $1", company)

    assert await connection.fetchval(TEXT_OF, company) is None
    assert await connection.fetchval("SELECT version FROM candidates WHERE id = $1", company) == 2
    await filler_of_search_texts(database).fill()
    assert len(await found("otherwise")) == 1


async def test_other_changes_leave_the_text(register, connection):
    company = await register("Muñoz")
    before = await connection.fetchval(TEXT_OF, company)

    await connection.execute("UPDATE candidates SET status = 'rejected', truck_count = 2 WHERE id = $1", company)
    await connection.execute("UPDATE candidates SET company_name = company_name WHERE id = $1", company)

    assert await connection.fetchval(TEXT_OF, company) == before
    assert await connection.fetchval("SELECT version FROM candidates WHERE id = $1", company) == 3


async def test_a_change_that_writes_the_text_counts_as_a_change(connection):
    company = await connection.fetchval(AS_OLDER_RELEASE, "Obst", "info@own.example", None, None)

    await connection.execute(
        "UPDATE candidates SET company_name = 'Fruit', search_text = ' fruit' WHERE id = $1", company
    )

    row = await connection.fetchrow("SELECT search_text, version FROM candidates WHERE id = $1", company)
    assert tuple(row) == (" fruit", 2)


async def test_a_locked_candidate_is_filled_later(connection, database, url):
    company = await connection.fetchval(AS_OLDER_RELEASE, "Obst", "info@held.example", None, None)
    holder = await asyncpg.connect(url)
    async with holder.transaction():
        await holder.execute("SELECT FROM candidates WHERE id = $1 FOR UPDATE", company)
        async with asyncio.timeout(10):
            await filler_of_search_texts(database).fill()
        assert await connection.fetchval(TEXT_OF, company) is None
    await holder.close()

    await filler_of_search_texts(database).fill()
    assert await connection.fetchval(TEXT_OF, company)


@pytest.mark.parametrize("release", ["this", "an older one"])
async def test_an_erased_candidate_is_never_found(register, connection, database, found, release):
    company = await register("Muñoz", contact_email="erase@me.example")
    if release == "this":
        await erase_person(database, "erase@me.example")
        assert await connection.fetchval(TEXT_OF, company) == ""
    else:
        await connection.execute(ERASE_AS_OLDER_RELEASE, company)
        assert await connection.fetchval(TEXT_OF, company) is None

    await filler_of_search_texts(database).fill()

    assert await connection.fetchval(TEXT_OF, company) == ""
    assert [await found(words) for words in ("muñoz", "me.example", "erased")] == [[], [], []]


@pytest.mark.parametrize("erase", [True, False])
async def test_what_was_read_before_an_erasure_is_not_written_after_it(connection, database, erase):
    company = await connection.fetchval(AS_OLDER_RELEASE, "Muñoz", "late@me.example", None, None)
    async with database.statement() as session:
        [row] = (await session.execute(queries.FIND_WITHOUT_SEARCH_TEXT, {"after": BEFORE_ALL, "max_rows": 10})).all()
    if erase:
        await connection.execute(ERASE_AS_OLDER_RELEASE, company)

    made = [{**row._asdict(), "id": str(row.id), "search_text": " munoz"}]
    async with database.statement() as session:
        await session.execute(queries.FILL_SEARCH_TEXTS, {"made": json.dumps(made)})

    assert await connection.fetchval(TEXT_OF, company) == (None if erase else " munoz")


async def test_the_background_task_fills_every_batch_and_goes_on_after_an_error(
    connection, database, monkeypatch, caplog
):
    monkeypatch.setattr(filling, "SECONDS", 0.01)
    monkeypatch.setattr(filling, "BATCH", 2)
    fill, failed = Filler.fill, []

    async def fail_once(self):
        if not failed:
            failed.append(True)
            raise ValueError
        return await fill(self)

    monkeypatch.setattr(Filler, "fill", fail_once)
    companies: list[UUID] = [
        await connection.fetchval(AS_OLDER_RELEASE, f"Obst {n}", f"info@many-{n}.example", None, None) for n in range(5)
    ]

    task = asyncio.create_task(keep_search_texts_filled(database))

    async with asyncio.timeout(30):
        while await connection.fetchval("SELECT count(search_text) FROM candidates") < len(companies):
            await asyncio.sleep(0.01)
    task.cancel()
    texts = [await connection.fetchval(TEXT_OF, company) for company in companies]
    assert texts == [search_text(f"Obst {n}", f"info@many-{n}.example", None, None) for n in range(5)]
    assert [record.levelname for record in caplog.records if record.name == filling.__name__] == ["ERROR"]
