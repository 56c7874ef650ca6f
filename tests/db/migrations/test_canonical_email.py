"""016: fills in canonical addresses under traffic; addresses that collide stop it before it starts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from uuid import UUID, uuid4

import asyncpg
import pytest

from provider_registration.db import migrations
from provider_registration.db.migrations import MigrationError
from provider_registration.web.text import canonical_email
from tests.conftest import create_database, drop_database

BEFORE, AFTER = "015_rejected_by", "016_canonical_email"
ROWS = 2500  # more than two batches
INSERT = """
    INSERT INTO candidates (id, company_name, contact_email, products, truck_count, capacity_tons_per_day)
    VALUES (coalesce($2, gen_random_uuid()), 'Obsthof', $1, '{apples}', 1, 1)
    RETURNING id
"""
INSERT_USER = "INSERT INTO users (email, password_hash, role) VALUES ($1, 'x', 'viewer') RETURNING id"


@pytest.fixture(params=["C", "C.UTF-8"])
async def url(server_url: str, request: pytest.FixtureRequest) -> AsyncIterator[str]:
    """A database of this LC_CTYPE, at the revision before."""
    name = f"test_{uuid4().hex}"
    options = f"ENCODING 'UTF8' LOCALE_PROVIDER libc LOCALE '{request.param}'"
    url = await create_database(server_url, name, "template0", options)
    await asyncio.to_thread(migrations.upgrade, url, BEFORE)
    yield url
    await drop_database(server_url, name)


@pytest.fixture
async def owner(url: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection to it."""
    connection = await asyncpg.connect(url)
    yield connection
    await connection.close()


async def upgrade(url: str) -> None:
    await asyncio.to_thread(migrations.upgrade, url, AFTER)


def address(number: int) -> str:
    """One of many addresses, each with a different spelling."""
    return (
        f"Sales{number}@Obsthof.example",
        f"JOSÉ{number}@x.example",
        f"{number}@BÜCHER.example",
        f"e\u0301{number}@xn--bcher-kva.example",
        f"ΟΔΟΣ{number}@no_domain",
    )[number % 5]


async def test_every_address_gets_its_form_and_nothing_else_changes(url: str, owner: asyncpg.Connection) -> None:
    await owner.executemany(INSERT, [(address(number), UUID(int=number)) for number in range(ROWS)])
    await owner.execute("UPDATE candidates SET location = 'here' WHERE contact_email LIKE '%7@%'")
    await owner.execute(INSERT_USER, "Eva@bücher.example")
    before = await owner.fetch("SELECT * FROM candidates ORDER BY id")
    user = await owner.fetchrow("SELECT * FROM users")

    await upgrade(url)

    after = await owner.fetch("SELECT * FROM candidates ORDER BY id")
    assert [tuple(row)[:-1] for row in after] == [tuple(row) for row in before]
    assert {row["contact_email_canonical"] for row in after} == {canonical_email(address(n)) for n in range(ROWS)}
    assert tuple(await owner.fetchrow("SELECT * FROM users")) == (*user, "eva@xn--bcher-kva.example")

    await asyncio.to_thread(migrations.downgrade, url, BEFORE)
    assert await owner.fetch("SELECT * FROM candidates ORDER BY id") == before
    assert await owner.fetchrow("SELECT * FROM users") == user


async def test_addresses_that_collide_stop_it_by_their_ids(
    url: str, owner: asyncpg.Connection, database_schema: Callable[[str], Awaitable[str]]
) -> None:
    groups = [
        ("eva@bücher.example", "eva@xn--bcher-kva.example"),
        ("jose\u0301@x.example", "josé@x.example"),
        ("οδος@x.example", "οδοσ@x.example"),
    ]
    ids = [[str(await owner.fetchval(INSERT, each, None)) for each in group] for group in groups]
    await owner.fetchval(INSERT, "nobody@elses.example", None)
    staff = [str(await owner.fetchval(INSERT_USER, each)) for each in groups[0]]
    rows, schema = await owner.fetch("SELECT * FROM candidates ORDER BY id"), await database_schema(url)

    with pytest.raises(MigrationError) as refused:
        await upgrade(url)

    sentence = str(refused.value)
    assert sentence.startswith("4 address(es) are shared by rows that spell them differently")
    for group in (*ids, staff):
        assert ", ".join(group) in sentence or ", ".join(group[::-1]) in sentence
    assert "@" not in sentence
    assert await owner.fetch("SELECT * FROM candidates ORDER BY id") == rows
    assert await database_schema(url) == schema
    assert await asyncio.to_thread(migrations.current, url) == BEFORE

    for group in (*ids, staff):
        await owner.execute("UPDATE candidates SET contact_email = 'n' || id || '@x.example' WHERE id = $1", group[0])
        await owner.execute("UPDATE users SET email = 'n' || id || '@x.example' WHERE id = $1", group[0])
    await upgrade(url)


async def test_what_is_stored_meanwhile_is_filled_too_and_nobody_waits(url: str, owner: asyncpg.Connection) -> None:
    await owner.executemany(INSERT, [(address(number), None) for number in range(ROWS)])
    writer = await asyncpg.connect(url)
    migrating = asyncio.create_task(upgrade(url))
    loop, longest, number = asyncio.get_running_loop(), 0.0, ROWS
    while not migrating.done():
        begun = loop.time()
        await writer.execute(INSERT, f"Sales{number}@Obsthof.example", None)
        longest = max(longest, loop.time() - begun)
        number += 1
        await asyncio.sleep(0.002)
    await migrating
    await writer.close()

    rows = await owner.fetch("SELECT contact_email, contact_email_canonical FROM candidates")
    assert len(rows) == number
    assert all(row["contact_email_canonical"] == canonical_email(row["contact_email"]) for row in rows)
    assert longest < 2  # seconds, on a machine that is busy with tests


async def test_it_goes_on_where_an_interrupted_run_stopped(
    url: str, owner: asyncpg.Connection, database_schema: Callable[[str], Awaitable[str]]
) -> None:
    await owner.executemany(INSERT, [(address(number), UUID(int=number)) for number in range(ROWS)])
    await upgrade(url)
    schema = await database_schema(url)
    await owner.execute(f"""
        UPDATE alembic_version SET version_num = '{BEFORE}';
        DROP INDEX uq_candidates_contact_email_canonical;
        DROP TRIGGER tr_candidates_canonical_email_inserted ON candidates;
        ALTER TABLE users DROP COLUMN email_canonical CASCADE;
        UPDATE candidates SET contact_email_canonical = NULL WHERE contact_email LIKE '%3@%';
    """)

    await upgrade(url)

    assert await owner.fetchval("SELECT count(*) FROM candidates WHERE contact_email_canonical IS NULL") == 0
    assert await owner.fetchval("SELECT max(version) FROM candidates") == 1
    assert await database_schema(url) == schema


async def test_the_old_index_stays_so_that_both_releases_refuse_what_either_has(
    url: str, owner: asyncpg.Connection
) -> None:
    await upgrade(url)
    await owner.execute(INSERT, "Eva@x.example", None)
    with pytest.raises(asyncpg.UniqueViolationError):
        await owner.execute(INSERT, "EVA@x.example", None)
    with pytest.raises(asyncpg.UniqueViolationError, match="canonical"):
        await owner.execute(
            "INSERT INTO candidates (company_name, contact_email, contact_email_canonical, products, truck_count, "
            "capacity_tons_per_day) VALUES ('x', 'other@x.example', 'eva@x.example', '{apples}', 1, 1)"
        )
