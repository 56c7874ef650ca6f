"""Every revision goes up, down and up again with rows, and keeps all data that both schemas can hold."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory

from provider_registration.db import migrations
from provider_registration.db.database import Database
from provider_registration.db.grants import PRIVILEGES, grant_service
from provider_registration.settings import DatabaseSettings

from .conftest import Upgraded

At = Callable[[str], Awaitable[tuple[str, asyncpg.Connection]]]

ROWS = 280  # every combination of a company (of 8), a time of creation (of 7) and one of a change (of 5)

REVISIONS = [
    script.revision for script in ScriptDirectory.from_config(Config(migrations.find_config())).walk_revisions()
][::-1]
STEPS = list(zip(["base", *REVISIONS], REVISIONS, strict=False))

COMPANIES = (
    "A",
    "x" * 255,
    "Obst & Gemüse Müller",
    "果物 株式会社",
    "🍎🥭",
    "O'Neil; DROP TABLE x",
    "a\tb\nc",
    'back\\slash "q"',
)
PRODUCTS = (
    ["apples"],
    ["mangoes", "apples"],
    ["apples", "apples"],
    ["apples", "oranges", "grapes", "bananas", "mangoes"],
)
TIMES = (
    "2024-02-29T23:59:59.999999",
    "2024-03-10T02:30:00.000001",  # New York has no such hour
    "2024-11-03T01:30:00.5",  # and has this one twice
    "1970-01-01T00:00:00",
    "0001-01-01T00:00:00",
    "9999-12-31T23:59:59.999999",
    "infinity",
)
COUNTS = (1, 42, 2**31 - 1)
REASONS = (None, "", "r" * 1000, "Grund: ungültig ✗")


def uuid(table: int, number: int) -> str:
    return str(UUID(int=(table << 64) + number))


def user(n: int) -> dict[str, Any]:
    return {
        "id": uuid(1, n),
        "email": f"User{n}@example.org",
        "password_hash": "$argon2id$…",
        "role": ("admin", "viewer")[n % 2],
        "disabled_at": (None, *TIMES)[n % 8],
        "created_at": TIMES[n % 7],
        "updated_at": TIMES[n % 5],
    }


def candidate(n: int) -> dict[str, Any]:
    status = ("pending", "approved", "rejected")[n % 3]
    return {
        "id": uuid(2, n),
        "status": status,
        "company_name": COMPANIES[n % 8],
        "contact_email": ("Ä" * 200 if n % 50 == 0 else "Sales.") + f"{n}@Example.org",
        "phone": (None, "", "+" * 50)[n % 3],
        "products": PRODUCTS[n % 4],
        "truck_count": COUNTS[n % 3],
        "capacity_tons_per_day": COUNTS[n % 2],
        "location": (None, "", "Zürich", "x" * 255)[n % 4],
        "created_at": TIMES[n % 7],
        "updated_at": TIMES[n % 5],
        "provider_id": (2**31 - 1 - n if n % 2 else n + 1) if status == "approved" else None,
        "version": (1, 2, 7, 2**31 - 1)[n % 4],
        "rejection_reason": REASONS[n % 4] if status == "rejected" else None,
        "status_secret_hash": f"\\x{n:064x}" if n % 2 else None,
        "rejected_by": uuid(1, n) if status == "rejected" and n % 4 else None,
        "search_text": (None, "", " obst 果物")[n % 3],
        "language": (None, "es", "zh-Hant-TW")[n % 3],
    }


def approval_intent(n: int) -> dict[str, Any]:
    return {
        "candidate_id": uuid(2, n),
        "idempotency_key": uuid(3, n),
        "provider_name": f"{n} 果物",
        "requested_by": uuid(1, n),
        "requested_by_kind": ("user", "api_key")[n % 2],
        "requested_at": TIMES[n % 7],
        "claim_id": uuid(4, n) if n % 2 else None,
        "next_attempt_at": TIMES[n % 5],
        "attempts": n,
        "last_error": REASONS[n % 4],
        "in_doubt_since": (None, *TIMES)[n % 8],
    }


def approval_event(n: int) -> dict[str, Any]:
    return {
        "id": 2**62 + n,
        "candidate_id": uuid(2, n % 10),
        "idempotency_key": uuid(3, n % 10),
        "event": ("requested", "failed", "orphaned")[n % 3],
        "at": TIMES[n % 7],
        "user_id": uuid(1, n) if n % 2 else None,
        "provider_id": (None, 1, 2**31 - 1)[n % 3],
        "detail": REASONS[n % 4],
    }


def session(n: int) -> dict[str, Any]:
    return {
        "id": uuid(5, n),
        "user_id": uuid(1, n % 10),
        "created_at": TIMES[n % 7],
        "expires_at": TIMES[n % 7],
        "revoked_at": (None, *TIMES)[n % 8],
    }


def refresh_token(n: int) -> dict[str, Any]:
    return {
        "token_hash": f"\\x{n:064x}",
        "session_id": uuid(5, n // 3),
        "expires_at": TIMES[n % 7],
        "used_at": (None, *TIMES)[n % 8],
    }


def browser_session(n: int) -> dict[str, Any]:
    return {"secret_hash": f"\\x{n:064x}", "session_id": uuid(5, n // 3), "seen_at": TIMES[n % 7]}


def candidate_keys(n: int) -> dict[str, Any]:
    return {"candidate_id": uuid(2, n), "keys": (None, [], [2**63 - 1, -(2**63), n])[n % 3]}


def status_link(n: int) -> dict[str, Any]:
    return {"secret_hash": f"\\x{n:064x}", "candidate_id": uuid(2, n % 10), "created_at": TIMES[n % 7]}


def idempotency_key(n: int) -> dict[str, Any]:
    return {
        "key_hash": f"\\x{n:064x}",
        "fingerprint": f"\\x{n + 1:064x}",
        "candidate_id": (None, uuid(2, n))[n % 2],
        "answer": (None, {}, {"obstacle": "not_found", "status_seen": None})[n % 3],
        "created_at": TIMES[n % 7],
    }


@dataclass(frozen=True)
class Table:
    """How to insert, read and change a table's rows at any revision."""

    row: Callable[[int], dict[str, Any]]
    insert: str
    select: str
    update: str | None = None


def audit_event(n: int) -> dict[str, Any]:
    return {
        "id": 2**62 + n,
        "type": ("user.created", "session.started")[n % 2],
        "at": TIMES[n % 7],
        "actor_kind": ("service", "user", "api_key")[n % 3],
        "actor_id": uuid(1, n) if n % 3 else None,
        "subject_kind": (None, "user")[n % 2],
        "subject_id": uuid(1, n) if n % 2 else None,
        "data": ({}, {"reason": "signed_out"})[n % 2],
    }


def api_key(n: int) -> dict[str, Any]:
    return {
        "id": uuid(7, n),
        "name": COMPANIES[n % 8][:100],
        "key_hash": f"\\x{n:064x}",
        "prefix": f"prk_{n}",
        "role": ("viewer", "auditor", "admin")[n % 3],
        "created_at": TIMES[n % 2],
        "created_by": uuid(1, n) if n % 2 else None,
        "expires_at": (None, TIMES[-1])[n % 2],
        "revoked_at": (None, *TIMES)[n % 8],
        "last_used_at": (None, *TIMES)[n % 8],
    }


def job(n: int) -> dict[str, Any]:
    state = ("queued", "running", "done", "cancelled")[n % 4]
    has_ended, is_held = state in ("done", "cancelled"), state in ("running", "cancelled") and n % 8 > 3
    is_due = not has_ended or is_held
    return {
        "id": uuid(11, n),
        "kind": ("candidates.approve", "candidates.reject")[n % 2],
        "state": state,
        "actor_kind": ("user", "api_key")[n % 2],
        "actor_id": uuid(1, n),
        "parameters": {"reason": REASONS[n % 4], "notify": True} if is_due else None,
        "is_partial": n % 3 == 0,
        "total": 1,
        "done": int(state == "done"),
        "summary": {"approved": 1} if state == "done" else {},
        "cancel_reason": ("asked", "actor_not_allowed")[n % 8 > 3] if state == "cancelled" else None,
        "claim_id": uuid(12, n) if is_held else None,
        "due_at": TIMES[n % 7] if is_due else None,
        "created_at": TIMES[n % 7],
        "worked_at": TIMES[n % 5],
        "ended_at": TIMES[n % 5] if has_ended else None,
    }


def job_item(n: int) -> dict[str, Any]:
    status = (None, None, "approved", "failed")[n % 4]
    return {
        "job_id": uuid(11, n),
        "number": 0,
        "candidate_id": uuid(2, n),
        "version": (None, 1)[n % 2],
        "status": status,
        "code": "candidate-not-found" if status == "failed" else None,
        "attempts": n % 9,
        "claim_id": uuid(12, n) if status else None,
        "due_at": None if status else TIMES[n % 7],
    }


def file_of_companies(n: int) -> dict[str, Any]:
    has_run = n % 2 == 1
    return {
        "id": uuid(13, n),
        "is_read": n % 5 > 0,
        "format": (None, "csv", "xlsx")[n % 3],
        "details": {"separator": ";"} if n % 3 == 1 else {},
        "columns": ["Company", "E-mail"],
        "mapping": {"company_name": "Company"} if has_run else {},
        "row_count": n,
        "run": int(has_run),
        "is_dry_run": n % 4 == 1 if has_run else None,
        "notify": n % 7 == 1,
        "job_id": uuid(11, n) if has_run else None,
        "actor_kind": ("user", "api_key")[n % 2],
        "actor_id": uuid(1, n),
        "created_at": TIMES[n % 7],
        "touched_at": TIMES[n % 5],
    }


def row_of_file(n: int) -> dict[str, Any]:
    outcome = (None, "valid", "invalid", "registered", "already_registered", "erased")[n % 6]
    return {
        "import_id": uuid(13, n),
        "position": n,
        "row_number": n + 2,
        "cells": None if outcome in ("registered", "erased") else [COMPANIES[n % 8], f"{n}@example.com"],
        "addresses": f"{n}@example.com",
        "run": n % 2,
        "outcome": outcome,
        "errors": [{"field": "contact_email"}] if outcome == "invalid" else None,
        "email_canonical": f"{n}@example.com" if n % 2 else None,
    }


def webhook(n: int) -> dict[str, Any]:
    is_failing, is_replaying = n % 3 == 0, n % 5 == 0
    return {
        "id": uuid(6, n),
        "url": f"https://receiver.example/{n}",
        "types": ([], ["candidate.approved", "candidate.rejected"])[n % 2],
        "description": COMPANIES[n % 8],
        "secret": f"\\x{n:0120x}",
        "previous_secret": f"\\x{n:0120x}" if n % 2 else None,
        "previous_secret_expires_at": TIMES[n % 7] if n % 2 else None,
        "disabled_reason": (None, "staff", "gone", "failing")[n % 4],
        "failing_since": TIMES[n % 7] if is_failing else None,
        "last_failure_at": TIMES[n % 5] if is_failing else None,
        "warned_at": (None, *TIMES)[n % 8],
        "replay_since": TIMES[n % 7] if is_replaying else None,
        "replay_at": TIMES[n % 5] if is_replaying else None,
        "replay_id": n if is_replaying else None,
        "replay_until": TIMES[n % 7] if is_replaying else None,
        "created_at": TIMES[n % 7],
        "updated_at": TIMES[n % 5],
    }


KEPT_BY_TRIGGERS = {
    "candidate_counts",
    "candidate_events",
    "candidate_event_details",
    "event_queue",
    "event_positions",  # from the events
    "event_dispatcher",
    "daily_statistics",  # from the candidates and events
    "daily_backlogs",
    "statistics_progress",
    "deliveries",  # of the release that made them
    "staff_digest",  # one row
    "broker_positions",  # as above
}
OF_FEW_ROWS = {"event_retention", "pruned_sequences"}
TABLES = {  # referenced ones first
    "users": Table(
        user,
        "INSERT INTO users SELECT * FROM jsonb_populate_recordset(NULL::users, $1)",
        "SELECT to_jsonb(users) FROM users ORDER BY id",
        "UPDATE users SET created_at = created_at WHERE id = $1",
    ),
    "candidates": Table(
        candidate,
        "INSERT INTO candidates SELECT * FROM jsonb_populate_recordset(NULL::candidates, $1)",
        "SELECT to_jsonb(candidates) FROM candidates ORDER BY id",
        "UPDATE candidates SET created_at = created_at WHERE id = $1",
    ),
    "candidate_keys": Table(
        candidate_keys,
        "INSERT INTO candidate_keys SELECT * FROM jsonb_populate_recordset(NULL::candidate_keys, $1) "
        "ON CONFLICT (candidate_id) DO UPDATE SET keys = excluded.keys",
        "SELECT to_jsonb(candidate_keys) FROM candidate_keys ORDER BY candidate_id",
    ),
    "status_links": Table(
        status_link,
        "INSERT INTO status_links SELECT * FROM jsonb_populate_recordset(NULL::status_links, $1)",
        "SELECT to_jsonb(status_links) FROM status_links ORDER BY secret_hash",
    ),
    "idempotency_keys": Table(
        idempotency_key,
        "INSERT INTO idempotency_keys SELECT * FROM jsonb_populate_recordset(NULL::idempotency_keys, $1)",
        "SELECT to_jsonb(idempotency_keys) FROM idempotency_keys ORDER BY key_hash",
    ),
    "approval_intents": Table(
        approval_intent,
        "INSERT INTO approval_intents SELECT * FROM jsonb_populate_recordset(NULL::approval_intents, $1)",
        "SELECT to_jsonb(approval_intents) FROM approval_intents ORDER BY candidate_id",
    ),
    "approval_events": Table(
        approval_event,
        "INSERT INTO approval_events OVERRIDING SYSTEM VALUE "
        "SELECT * FROM jsonb_populate_recordset(NULL::approval_events, $1)",
        "SELECT to_jsonb(approval_events) FROM approval_events ORDER BY id",
    ),
    "sessions": Table(
        session,
        "INSERT INTO sessions SELECT * FROM jsonb_populate_recordset(NULL::sessions, $1)",
        "SELECT to_jsonb(sessions) FROM sessions ORDER BY id",
    ),
    "refresh_tokens": Table(
        refresh_token,
        "INSERT INTO refresh_tokens SELECT * FROM jsonb_populate_recordset(NULL::refresh_tokens, $1)",
        "SELECT to_jsonb(refresh_tokens) FROM refresh_tokens ORDER BY token_hash",
    ),
    "browser_sessions": Table(
        browser_session,
        "INSERT INTO browser_sessions SELECT * FROM jsonb_populate_recordset(NULL::browser_sessions, $1)",
        "SELECT to_jsonb(browser_sessions) FROM browser_sessions ORDER BY secret_hash",
    ),
    "audit_events": Table(
        audit_event,
        "INSERT INTO audit_events OVERRIDING SYSTEM VALUE "
        "SELECT * FROM jsonb_populate_recordset(NULL::audit_events, $1)",
        "SELECT to_jsonb(audit_events) FROM audit_events ORDER BY id",
    ),
    "api_keys": Table(
        api_key,
        "INSERT INTO api_keys SELECT * FROM jsonb_populate_recordset(NULL::api_keys, $1)",
        "SELECT to_jsonb(api_keys) FROM api_keys ORDER BY id",
    ),
    "jobs": Table(
        job,
        "INSERT INTO jobs SELECT * FROM jsonb_populate_recordset(NULL::jobs, $1)",
        "SELECT to_jsonb(jobs) FROM jobs ORDER BY id",
    ),
    "job_items": Table(
        job_item,
        "INSERT INTO job_items SELECT * FROM jsonb_populate_recordset(NULL::job_items, $1)",
        "SELECT to_jsonb(job_items) FROM job_items ORDER BY job_id",
    ),
    "imports": Table(
        file_of_companies,
        "INSERT INTO imports SELECT * FROM jsonb_populate_recordset(NULL::imports, $1)",
        "SELECT to_jsonb(imports) FROM imports ORDER BY id",
    ),
    "import_rows": Table(
        row_of_file,
        "INSERT INTO import_rows SELECT * FROM jsonb_populate_recordset(NULL::import_rows, $1)",
        "SELECT to_jsonb(import_rows) FROM import_rows ORDER BY import_id",
    ),
    "webhooks": Table(
        webhook,
        "INSERT INTO webhooks SELECT * FROM jsonb_populate_recordset(NULL::webhooks, $1)",
        "SELECT to_jsonb(webhooks) FROM webhooks ORDER BY id",
    ),
}

Contents = dict[str, list[dict[str, Any]]]


async def tables_of(connection: asyncpg.Connection) -> list[str]:
    found = {row[0] for row in await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")}
    assert found <= {*TABLES, *KEPT_BY_TRIGGERS, *OF_FEW_ROWS, "alembic_version"}, "a new table needs rows here"
    return [table for table in TABLES if table in found]


async def fill(connection: asyncpg.Connection) -> None:
    """Insert ROWS rows into each table."""
    for table in await tables_of(connection):
        await connection.execute(TABLES[table].insert, rows_of(table))


@cache
def rows_of(table: str) -> str:
    """The rows as JSON."""
    return json.dumps([TABLES[table].row(n) for n in range(ROWS)])


async def read(connection: asyncpg.Connection) -> Contents:
    """Every row of every table, with all timestamps in one format."""
    contents: Contents = {}
    for table in await tables_of(connection):
        rows = await connection.fetchval(
            f"SELECT coalesce(json_agg(row), '[]') FROM ({TABLES[table].select}) AS _(row)"
        )
        contents[table] = json.loads(rows.replace('+00:00"', '"'))
    return contents


def within(contents: Contents, schema: Contents) -> Contents:
    """The part of `contents` that the tables and columns of `schema` hold."""
    return {table: [{name: row[name] for name in rows[0]} for row in contents[table]] for table, rows in schema.items()}


async def migrate(url: str, revision: str, *, up: bool) -> None:
    await asyncio.to_thread(migrations.upgrade if up else migrations.downgrade, url, revision)


@pytest.fixture
async def at(upgraded_to: Upgraded) -> AsyncIterator[At]:
    """Makes a database at a revision; returns its URL and a connection.

    Sessions of it that do not request UTC use the time zone of New York.
    """
    async with AsyncExitStack() as closing:

        async def at(revision: str) -> tuple[str, asyncpg.Connection]:
            url = await upgraded_to(revision)
            connection = await asyncpg.connect(url, server_settings={"timezone": "UTC"})
            closing.push_async_callback(connection.close)
            name = await connection.fetchval("SELECT quote_ident(current_database())")
            await connection.execute(f"ALTER DATABASE {name} SET timezone = 'America/New_York'")
            return url, connection

        yield at


@pytest.mark.parametrize(("older", "newer"), STEPS, ids=REVISIONS)
async def test_rows_of_the_older_schema_survive_up_down_up(at: At, older: str, newer: str) -> None:
    url, connection = await at(older)
    await fill(connection)
    before = await read(connection)

    for up in (True, False, True):
        await migrate(url, newer if up else older, up=up)
        assert within(await read(connection), before) == before


@pytest.mark.parametrize(("older", "newer"), STEPS, ids=REVISIONS)
async def test_rows_of_the_newer_schema_keep_what_the_older_holds(at: At, older: str, newer: str) -> None:
    url, connection = await at(newer)
    await fill(connection)
    full = await read(connection)
    assert all(len(rows) == ROWS for rows in full.values())

    await migrate(url, older, up=False)
    kept = await read(connection)
    assert kept == within(full, kept)

    await migrate(url, newer, up=True)
    assert within(await read(connection), kept) == kept


@pytest.mark.parametrize("revision", REVISIONS)
async def test_updates_move_the_timestamp_and_the_version(at: At, revision: str) -> None:
    _, connection = await at(revision)
    await fill(connection)
    before = await read(connection)
    for name, rows in before.items():
        if update := TABLES[name].update:
            await connection.execute(update, rows[0]["id"])
    after = await read(connection)

    for name in before:
        assert after[name][1:] == before[name][1:]
        old, new = before[name][0], after[name][0]
        if not TABLES[name].update:
            continue
        moved = datetime.fromisoformat(new["updated_at"]).replace(tzinfo=UTC)
        assert abs(datetime.now(UTC) - moved) < timedelta(minutes=1)
        assert new.get("version") == (old["version"] + 1 if "version" in old else None)


@pytest.mark.parametrize("revision", REVISIONS[1::3])
async def test_the_service_gets_privileges_on_what_the_schema_has(at: At, revision: str) -> None:
    url, connection = await at(revision)
    role = f"serving_{uuid4().hex}"
    await connection.execute(f"CREATE ROLE {role}")
    database = Database(DatabaseSettings(_env_file=None, database_url=url).database_url, pool_size=1)
    try:
        await grant_service(database, role)

        tables = await connection.fetch(
            "SELECT table_name FROM information_schema.column_privileges WHERE grantee = $1", role
        )
        present = await connection.fetch(
            "SELECT name FROM unnest($1::text[]) AS name WHERE to_regclass(name) IS NOT NULL", [*PRIVILEGES]
        )
        assert {table for [table] in tables} == {table for [table] in present} != set()
    finally:
        await database.close()
        await connection.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")


async def test_new_timestamps_type_rewrites_no_row(empty_database_url: str, connection: asyncpg.Connection) -> None:
    await migrate(empty_database_url, "002_add_rejection_reason", up=True)
    file_before = await connection.fetchval("SELECT pg_relation_filenode('candidates')")

    await migrate(empty_database_url, "003_timestamps_with_time_zone", up=True)

    assert await connection.fetchval("SELECT pg_relation_filenode('candidates')") == file_before


async def test_downgrade_to_base_leaves_only_alembic_version(
    empty_database_url: str, connection: asyncpg.Connection
) -> None:
    await migrate(empty_database_url, "head", up=True)
    await fill(connection)

    await migrate(empty_database_url, "base", up=False)

    left = await connection.fetch("""
        SELECT relname::text FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind <> 'i'
        UNION ALL SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace
            AND NOT EXISTS (SELECT FROM pg_depend WHERE objid = pg_proc.oid AND deptype = 'e')
    """)
    assert [row[0] for row in left] == ["alembic_version"]
    assert await asyncio.to_thread(migrations.current, empty_database_url) is None
