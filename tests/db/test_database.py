"""Transactions, their timeouts, and which driver errors mean that the database is unavailable."""

from __future__ import annotations

import asyncio
import logging
import socket
from time import monotonic
from types import SimpleNamespace
from urllib.parse import urlsplit
from uuid import uuid4

import asyncpg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, IntegrityError

from provider_registration.db import database as module
from provider_registration.db.database import (
    BATCH_LOCK_TIMEOUT,
    Database,
    DatabaseUnavailable,
    constraint_name,
)
from provider_registration.settings import DatabaseSettings
from tests.standby import at

INSERT = text("INSERT INTO users (email, password_hash, role) VALUES (:email, 'x', :role)")


def url_of(url):
    """The URL as the settings parse it."""
    return DatabaseSettings(_env_file=None, database_url=url).database_url


@pytest.fixture
async def database(migrated_database_url):
    database = Database(url_of(migrated_database_url), pool_size=2, time_limit=10)
    yield database
    await database.close()


@pytest.fixture
async def scratch(database):
    """Name of a table that only this test uses."""
    async with database.transaction() as session:
        await session.execute(
            text("CREATE TABLE scratch (value integer CONSTRAINT scratch_value_small CHECK (value < 5))")
        )
    yield "scratch"
    async with database.transaction() as session:
        await session.execute(text("DROP TABLE scratch"))


async def values(database):
    async with database.transaction() as session:
        return list(await session.scalars(text("SELECT value FROM scratch ORDER BY value")))


async def test_the_lock_timeout_of_a_batch_ends_with_its_statement(database):
    async with database.transaction() as session:
        await session.execute(
            text(f"WITH {module.LOCK_TIMEOUT_CTE} SELECT FROM lock_timeout").bindparams(BATCH_LOCK_TIMEOUT)
        )
        assert await session.scalar(text("SHOW lock_timeout")) == "100ms"
        connection = await session.scalar(text("SELECT pg_backend_pid()"))

    async with database.statement() as session:
        row = (await session.execute(text("SELECT pg_backend_pid(), current_setting('lock_timeout')"))).one()
    assert tuple(row) == (connection, "0")


async def test_a_fault_of_the_caller_is_not_the_databases(database):
    with pytest.raises(AttributeError):
        async with database.statement():
            raise AttributeError


async def test_how_long_callers_waited_for_a_connection_is_measured(database, monkeypatch):
    waits = []
    monkeypatch.setattr(module, "DATABASE_WAIT_SECONDS", SimpleNamespace(observe=waits.append))
    began = monotonic()

    async with database.statement(), database.statement():
        third = asyncio.create_task(database.ping())
        await asyncio.sleep(0.1)
    await third

    assert 0.09 < max(waits) < monotonic() - began


async def test_a_block_that_ends_is_committed(database, scratch):
    async with database.transaction() as session:
        await session.execute(text("INSERT INTO scratch VALUES (1)"))
        await session.execute(text("INSERT INTO scratch VALUES (2)"))

    assert await values(database) == [1, 2]


async def test_a_block_that_raises_is_rolled_back(database, scratch):
    with pytest.raises(KeyError):
        async with database.transaction() as session:
            await session.execute(text("INSERT INTO scratch VALUES (1)"))
            raise KeyError

    assert await values(database) == []


async def test_a_block_that_is_cancelled_is_rolled_back_and_gives_its_connection_back(database, scratch):
    async def hang():
        async with database.transaction() as session:
            await session.execute(text("INSERT INTO scratch VALUES (1)"))
            await session.execute(text("SELECT pg_sleep(30)"))

    for _ in range(3):  # more than the pool has
        task = asyncio.create_task(hang())
        await asyncio.sleep(0.1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    assert await values(database) == []


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("application_name", "provider-registration"),
        ("TimeZone", "UTC"),
        ("statement_timeout", "9s"),  # so that PostgreSQL says that it was too slow, before the connection is cut
        ("idle_in_transaction_session_timeout", "15s"),
        ("transaction_isolation", "read committed"),
    ],
)
async def test_every_connection_has_its_limits(database, setting, value):
    async with database.transaction() as session:
        assert await session.scalar(text(f"SHOW {setting}")) == value


UNFIT = {
    "default_transaction_isolation": "serializable",
    "default_transaction_deferrable": "on",
    "synchronous_commit": "off",
    "lock_timeout": "1ms",
    "statement_timeout": "1ms",
    "idle_in_transaction_session_timeout": "1ms",
    "TimeZone": "Pacific/Apia",
    "DateStyle": "SQL, DMY",
    "IntervalStyle": "sql_standard",
    "standard_conforming_strings": "off",
    "bytea_output": "escape",
}


@pytest.fixture
async def role(migrated_database_url):
    """A role with the service's privileges, and a superuser's connection to change them."""
    name = f"serving_{uuid4().hex}"
    owner = await asyncpg.connect(migrated_database_url)
    await owner.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'secret'")
    await owner.execute(f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {name}")
    yield name, owner
    await owner.execute(f"DROP OWNED BY {name}")
    await owner.execute(f"DROP ROLE {name}")
    await owner.close()


def as_role(url, name):
    parts = urlsplit(url)
    return url_of(parts._replace(netloc=f"{name}:secret@{parts.hostname}:{parts.port}").geturl())


async def test_what_is_set_for_the_role_does_not_change_the_services_sessions(migrated_database_url, role, database):
    name, owner = role
    for setting, value in UNFIT.items():
        await owner.execute(f"ALTER ROLE {name} SET {setting} = '{value}'")
    of_the_role = Database(as_role(migrated_database_url, name), pool_size=1, time_limit=10)

    for setting in UNFIT:
        shown = []
        for each in (database, of_the_role):
            async with each.statement() as session:
                shown.append(await session.scalar(text(f"SHOW {setting}")))
        assert shown[0] == shown[1], setting

    await of_the_role.close()


async def test_commits_that_are_safer_than_the_usual_ones_stay_so(migrated_database_url, role):
    name, owner = role
    await owner.execute(f"ALTER ROLE {name} SET synchronous_commit = 'remote_apply'")
    database = Database(as_role(migrated_database_url, name), pool_size=1, time_limit=10)

    async with database.statement() as session:
        assert await session.scalar(text("SHOW synchronous_commit")) == "remote_apply"

    await database.close()


@pytest.mark.parametrize("prepared_statements", [True, False])
async def test_sessions_whose_triggers_are_off_are_refused_and_why_is_logged(
    migrated_database_url, role, caplog, prepared_statements
):
    name, owner = role
    await owner.execute(f"ALTER ROLE {name} SET session_replication_role = replica")
    database = Database(
        as_role(migrated_database_url, name), pool_size=1, time_limit=10, prepared_statements=prepared_statements
    )

    with pytest.raises(DatabaseUnavailable), caplog.at_level(logging.WARNING, module.__name__):
        async with database.statement() as session:
            await session.scalar(text("SELECT 1"))
    assert "session_replication_role" in caplog.records[0].reason

    await owner.execute(f"ALTER ROLE {name} RESET session_replication_role")
    async with database.statement() as session:
        assert await session.scalar(text("SELECT 1")) == 1
    await database.close()


async def test_a_violated_constraint_is_identified_by_its_name(database, scratch):
    with pytest.raises(IntegrityError) as caught:
        async with database.transaction() as session:
            await session.execute(text("INSERT INTO scratch VALUES (7)"))

    assert constraint_name(caught.value) == "scratch_value_small"


async def test_what_was_sent_is_not_in_the_text_of_an_error(database):
    with pytest.raises(IntegrityError) as caught:
        async with database.transaction() as session:
            await session.execute(INSERT, {"email": "somebody@example.com", "role": "MARKER"})

    assert constraint_name(caught.value) == "ck_users_role"
    assert "parameters hidden" in str(caught.value)


async def test_a_mistake_in_sql_is_not_taken_for_an_outage(database):
    with pytest.raises(DBAPIError):
        async with database.transaction() as session:
            await session.execute(text("SELECT nonsense"))


@pytest.mark.parametrize(
    ("limit", "statement"),
    [
        ("SET LOCAL statement_timeout = '50ms'", "SELECT pg_sleep(5)"),
        ("SET LOCAL lock_timeout = '50ms'", "LOCK TABLE scratch"),
        ("SELECT 1", "SELECT pg_terminate_backend(pg_backend_pid())"),
        ("SET TRANSACTION READ ONLY", "INSERT INTO scratch VALUES (1)"),
    ],
    ids=["statement too slow", "lock too slow", "connection cut", "server is a standby"],
)
async def test_what_the_server_could_not_do_just_now_is_an_outage(database, scratch, limit, statement):
    async with database.transaction() as other:
        await other.execute(text("SELECT 1 FROM scratch"))
        with pytest.raises(DatabaseUnavailable):
            async with database.transaction() as session:
                await session.execute(text(limit))
                await session.execute(text(statement))

    assert await values(database) == []


async def test_a_deadlock_is_an_outage_for_one_and_nothing_for_the_other(database, scratch):
    async with database.transaction() as session:
        await session.execute(text("INSERT INTO scratch VALUES (1), (2)"))
    both_have_one = asyncio.Barrier(2)

    async def update(first, second):
        async with database.transaction() as session:
            await session.execute(text("SET LOCAL deadlock_timeout = '10ms'"))
            await session.execute(text(f"UPDATE scratch SET value = value WHERE value = {first}"))
            await both_have_one.wait()
            await session.execute(text(f"UPDATE scratch SET value = value WHERE value = {second}"))

    outcomes = await asyncio.gather(update(1, 2), update(2, 1), return_exceptions=True)

    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["DatabaseUnavailable", "NoneType"]


async def test_connections_that_were_cut_while_idle_are_replaced_unnoticed(database):
    await asyncio.gather(database.ping(), database.ping())
    async with database.transaction() as session:
        await session.execute(
            text(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "  # waits until it has ended
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        )

    await asyncio.sleep(0.1)  # the client notices it

    await asyncio.gather(database.ping(), values_in_use(database))


async def test_transactions_get_the_connections_of_idle_sessions(database):
    both = await backends(database, "statement")

    assert len(both) == 2
    assert await backends(database, "transaction") == both
    assert await backends(database, "statement") == both


@pytest.mark.parametrize("way", ["transaction", "statement"])
async def test_connections_to_a_server_that_is_no_primary_any_more_are_replaced(database, scratch, way):
    async with database.statement() as one, database.statement() as other:
        for session in (one, other):
            await session.execute(text("SET default_transaction_read_only = on"))

    with pytest.raises(DatabaseUnavailable):
        async with getattr(database, way)() as session:
            await session.execute(text("INSERT INTO scratch VALUES (1)"))

    for value in (2, 3):
        async with getattr(database, way)() as session:
            await session.execute(text("INSERT INTO scratch VALUES (:value)"), {"value": value})
    assert await values(database) == [2, 3]


async def backends(database, way):
    """Process IDs of PostgreSQL's servers for two simultaneous blocks."""
    async with getattr(database, way)() as one, getattr(database, way)() as other:
        return {await session.scalar(text("SELECT pg_backend_pid()")) for session in (one, other)}


async def values_in_use(database):
    async with database.transaction() as session:
        return await session.scalar(text("SELECT 1"))


async def test_a_statement_is_a_transaction_by_itself(database, scratch):
    async with database.statement() as session:
        await session.execute(text("INSERT INTO scratch VALUES (1)"))
        assert await values(database) == [1]


async def test_a_statement_that_fails_leaves_the_connection_as_it_was(database, scratch):
    for value in (7, 7, 7):
        with pytest.raises(IntegrityError):
            async with database.statement() as session:
                await session.execute(text("INSERT INTO scratch VALUES (:value)"), {"value": value})

    assert await values(database) == []


async def test_first_come_first_served(migrated_database_url):
    single = Database(url_of(migrated_database_url), pool_size=1)
    served = []

    async def ask(number):
        async with single.statement() as session:
            await session.execute(text("SELECT 1"))
            served.append(number)

    await asyncio.gather(*(ask(number) for number in range(50)))
    await single.close()

    assert served == list(range(50))


@pytest.fixture
async def hurried(migrated_database_url):
    """A database with one connection and a short wait for it."""
    hurried = Database(url_of(migrated_database_url), pool_size=1, time_limit=0.3)
    yield hurried
    await hurried.close()


async def test_a_pool_that_is_exhausted_is_an_outage(hurried):
    await hurried.ping()

    async def hold():
        async with hurried.transaction() as session:
            await session.execute(text("SELECT pg_sleep(0.2)"))

    started = monotonic()
    outcomes = await asyncio.gather(*(hold() for _ in range(4)), return_exceptions=True)

    assert [type(outcome) for outcome in outcomes] == [type(None), *[DatabaseUnavailable] * 3]
    assert monotonic() - started < 0.8
    await hurried.ping()


@pytest.mark.asvs("V15.1.3", "V15.2.2")
async def test_statements_that_take_too_long_together_are_given_up(hurried, caplog):
    await hurried.ping()
    started = monotonic()
    with pytest.raises(DatabaseUnavailable), caplog.at_level(logging.WARNING):
        async with hurried.transaction() as session:
            for _ in range(5):
                await session.execute(text("SELECT pg_sleep(0.1)"))

    assert 0.3 <= monotonic() - started < 0.8
    [record] = [record for record in caplog.records if record.name == module.__name__]
    assert record.reason == "no response within 0.3 s"
    await hurried.ping()


async def test_a_slow_block_loses_only_its_own_connection(hurried, scratch, database):
    with pytest.raises(DatabaseUnavailable):
        async with hurried.transaction() as session:
            await session.execute(text("INSERT INTO scratch VALUES (1)"))
            await asyncio.sleep(0.5)

    assert await values(database) == []
    await hurried.ping()


async def test_closing_closes_a_connection_in_use_once_its_work_is_done(migrated_database_url):
    database = Database(url_of(migrated_database_url), pool_size=1, time_limit=5)
    in_use = asyncio.get_running_loop().create_future()

    async def work():
        async with database.statement() as session:
            raw = await (await session.connection()).get_raw_connection()
            in_use.set_result(raw.driver_connection)
            return await session.scalar(text("SELECT 1 FROM pg_sleep(0.2)"))

    working = asyncio.create_task(work())
    connection = await in_use
    await database.close()

    assert await working == 1
    assert connection.is_closed()


async def test_a_command_may_take_its_time(migrated_database_url):
    unlimited = Database(url_of(migrated_database_url), pool_size=1)
    async with unlimited.statement() as session:
        assert await session.scalar(text("SHOW statement_timeout")) == "0"
    await unlimited.close()


@pytest.fixture
def dead_port():
    """A port where nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


@pytest.mark.asvs("V16.3.4")
async def test_nobody_listening_is_an_outage_whose_cause_is_logged(dead_port, caplog):
    database = Database(url_of(f"postgresql://user:hunter2@127.0.0.1:{dead_port}/name"), pool_size=1)

    with pytest.raises(DatabaseUnavailable) as caught, caplog.at_level(logging.WARNING):
        await database.ping()

    assert str(caught.value) == "The database is temporarily unavailable. Try again in a moment."
    [record] = [record for record in caplog.records if record.name == module.__name__]
    assert "ConnectionRefusedError" in record.reason
    assert "hunter2" not in record.reason
    await database.close()


async def test_a_host_that_does_not_exist_is_an_outage():
    database = Database(url_of("postgresql://user@host.invalid/name"), pool_size=1)

    with pytest.raises(DatabaseUnavailable):
        await database.ping()

    await database.close()


async def test_a_server_that_never_answers_is_an_outage():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        database = Database(url_of(f"postgresql://user@127.0.0.1:{port}/name"), pool_size=1, time_limit=0.2)

        with pytest.raises(DatabaseUnavailable):
            await database.ping()

        await database.close()


async def test_a_server_that_stops_responding_delays_its_caller_no_longer_than_the_limit(migrated_database_url):
    server = urlsplit(migrated_database_url)
    responds = asyncio.Event()
    responds.set()

    async def pipe(reader, writer):
        while data := await reader.read(65536):
            await responds.wait()
            writer.write(data)
        writer.close()

    async def forward(reader, writer):
        server_reader, server_writer = await asyncio.open_connection(server.hostname, server.port)
        await asyncio.gather(pipe(reader, server_writer), pipe(server_reader, writer))

    async with await asyncio.start_server(forward, "127.0.0.1", 0) as proxy:
        port = proxy.sockets[0].getsockname()[1]
        database = Database(url_of(at(migrated_database_url, port)), pool_size=1, time_limit=0.3)
        await database.ping()
        responds.clear()
        began = monotonic()

        with pytest.raises(DatabaseUnavailable):
            await database.ping()

        assert 0.3 <= monotonic() - began < 1.3  # closing the connection politely would take two seconds more
        responds.set()
        await database.close()


async def test_a_connection_that_is_lost_while_it_is_checked_is_an_outage(migrated_database_url):
    server = urlsplit(migrated_database_url)

    async def pipe(reader, writer):
        while data := await reader.read(65536):
            if b"session_replication_role" in data:
                break
            writer.write(data)
        writer.close()

    async def forward(reader, writer):
        server_reader, server_writer = await asyncio.open_connection(server.hostname, server.port)
        await asyncio.gather(pipe(reader, server_writer), pipe(server_reader, writer))

    async with await asyncio.start_server(forward, "127.0.0.1", 0) as proxy:
        port = proxy.sockets[0].getsockname()[1]
        database = Database(url_of(at(migrated_database_url, port)), pool_size=1, time_limit=5)
        try:
            with pytest.raises(DatabaseUnavailable):
                await database.ping()
            with pytest.raises(DatabaseUnavailable):
                async with database.transaction() as session:
                    await session.execute(text("SELECT 1"))
        finally:
            await database.close()


async def test_a_server_that_speaks_something_else_is_an_outage():
    async def speak(_reader, writer):
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(speak, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        database = Database(url_of(f"postgresql://user@127.0.0.1:{port}/name"), pool_size=1)

        with pytest.raises(DatabaseUnavailable):
            await database.ping()

        await database.close()


async def test_an_outage_is_not_logged_for_every_request(dead_port, caplog):
    database = Database(url_of(f"postgresql://user@127.0.0.1:{dead_port}/name"), pool_size=1)

    with caplog.at_level(logging.WARNING):
        for _ in range(50):
            with pytest.raises(DatabaseUnavailable):
                await database.ping()

    assert len([record for record in caplog.records if record.name == module.__name__]) < 50 / 5
    await database.close()
