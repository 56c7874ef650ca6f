"""What staff and commands do is recorded, by the statement or in the transaction that does it."""

from __future__ import annotations

import asyncio
import json
from uuid import UUID, uuid4

import asyncpg
import pytest
from click.testing import CliRunner
from sqlalchemy import text

from provider_registration.audit.models import SERVICE, AuditEvent, AuditType
from provider_registration.audit.service import AuditLog
from provider_registration.auth import queries
from provider_registration.auth.models import Role
from provider_registration.cli import main
from provider_registration.db.database import Database
from provider_registration.events.models import EventType
from provider_registration.settings import DatabaseSettings
from tests.service import PASSWORD, user_directory

LIST = """
    SELECT type, actor_kind, actor_id, subject_kind, subject_id, data::text FROM audit_events
    WHERE actor_id = $1 OR subject_id = $1 ORDER BY at, id
"""
COUNT_UNKNOWN = """
    SELECT count(*) - count(DISTINCT date_trunc('hour', at)) AS too_many, count(*) AS all_of_them
    FROM audit_events WHERE type = 'session.failed' AND subject_id IS NULL
"""


@pytest.fixture
async def someone(users):
    """A new admin: e-mail address and ID."""
    email = f"{uuid4().hex}@example.com"
    return email, await users.create(email, PASSWORD, Role.ADMIN)


@pytest.fixture
def recorded(database):
    """The events of a user: type, who (the user, or the kind of actor), and the data."""

    async def recorded(user_id):
        return [
            (row["type"], "self" if row["actor_id"] == user_id else row["actor_kind"], json.loads(row["data"]))
            for row in await database.fetch(LIST, user_id)
        ]

    return recorded


@pytest.fixture
def command(migrated_database_url):
    async def command(*arguments, stdin=None):
        environment = {"DATABASE_URL": migrated_database_url}
        result = await asyncio.to_thread(CliRunner().invoke, main, arguments, input=stdin, env=environment)
        assert result.exit_code == 0, result.output

    return command


async def sign_in(client, email, password=PASSWORD):
    return (await client.post("/auth/login", json={"username": email, "password": password})).json()


def without_ids(events):
    return [
        (event, who, {name: value for name, value in data.items() if name != "session_id"})
        for event, who, data in events
    ]


async def test_a_session_is_recorded_from_sign_in_to_sign_out(anonymous, someone, recorded):
    email, user_id = someone
    tokens = await sign_in(anonymous, email)
    authorization = {"Authorization": f"Bearer {tokens['access_token']}"}
    assert (await anonymous.post("/auth/logout", headers=authorization)).status_code == 204

    [created, started, ended] = await recorded(user_id)

    assert created == ("user.created", "service", {"role": "admin"})
    assert started == ("session.started", "self", {"kind": "api", "session_id": started[2]["session_id"]})
    assert ended == ("session.ended", "self", {"reason": "signed_out", "session_id": started[2]["session_id"]})


async def test_a_session_that_has_ended_is_not_ended_again(anonymous, someone, recorded, database):
    email, user_id = someone
    tokens = await sign_in(anonymous, email)
    authorization = {"Authorization": f"Bearer {tokens['access_token']}"}
    await database.execute("UPDATE sessions SET revoked_at = now() WHERE user_id = $1", user_id)

    await anonymous.post("/auth/logout", headers=authorization)  # it may be refused already

    assert [event for event, _, _ in await recorded(user_id)] == ["user.created", "session.started"]


async def test_a_reused_refresh_token_is_told_as_the_reason(anonymous, someone, recorded):
    email, user_id = someone
    tokens = await sign_in(anonymous, email)
    first = {"refresh_token": tokens["refresh_token"]}
    second = (await anonymous.post("/auth/refresh", json=first)).json()
    await anonymous.post("/auth/refresh", json={"refresh_token": second["refresh_token"]})  # the first is final now
    assert (await anonymous.post("/auth/refresh", json=first)).status_code == 401

    assert without_ids(await recorded(user_id))[-1] == ("session.ended", "service", {"reason": "token_reused"})


async def test_commands_are_recorded_with_the_sessions_that_they_end(anonymous, someone, recorded, command):
    email, user_id = someone
    for _ in range(2):
        await sign_in(anonymous, email)
    await command("set-role", email, "--role", "auditor")
    await command("set-password", email, "--password-stdin", stdin=f"{PASSWORD} 2\n")
    await sign_in(anonymous, email, f"{PASSWORD} 2")
    await command("disable-user", email)
    await command("enable-user", email)
    await command("export-data", email)
    await command("erase-data", email, "--yes")

    assert without_ids(await recorded(user_id)) == [
        ("user.created", "service", {"role": "admin"}),
        ("session.started", "self", {"kind": "api"}),
        ("session.started", "self", {"kind": "api"}),
        ("user.role_changed", "service", {"role": "auditor", "previous_role": "admin"}),
        ("session.ended", "service", {"reason": "role_changed", "sessions": 2}),
        ("user.password_changed", "service", {}),
        ("session.started", "self", {"kind": "api"}),
        ("user.disabled", "service", {}),
        ("session.ended", "service", {"reason": "disabled", "sessions": 1}),
        ("user.enabled", "service", {}),
        ("data.exported", "service", {}),
        ("user.erased", "service", {}),
    ]


async def test_commands_that_change_nothing_record_nothing(users, someone, recorded):
    email, user_id = someone
    await users.set_role(email, Role.ADMIN)
    await users.enable(email)
    for _ in range(2):
        await users.disable(email)

    assert [event for event, _, _ in await recorded(user_id)] == ["user.created", "user.disabled"]


async def test_ending_all_sessions_is_recorded_for_each_user_who_had_one(own_database_url):
    connection = await asyncpg.connect(own_database_url)
    async with user_directory(own_database_url) as users:
        ids = [await users.create(f"{n}@example.com", PASSWORD, Role.VIEWER) for n in range(3)]
        for user_id, hours in ((ids[0], 1), (ids[0], 2), (ids[1], 1), (ids[2], -1)):
            await connection.execute(
                "INSERT INTO sessions (user_id, expires_at) VALUES ($1, now() + make_interval(hours => $2))",
                *(user_id, hours),
            )
        await connection.execute(
            "INSERT INTO sessions (user_id, expires_at, revoked_at) VALUES ($1, now() + interval '1 h', now())", ids[0]
        )

        assert await users.end_all_sessions() == 3

    rows = await connection.fetch("SELECT subject_id, data::text FROM audit_events WHERE type = 'session.ended'")
    await connection.close()
    assert {row["subject_id"]: json.loads(row["data"]) for row in rows} == {
        ids[0]: {"reason": "command", "sessions": 2},
        ids[1]: {"reason": "command", "sessions": 1},
    }


async def test_the_first_admin_is_recorded(own_database_url):
    async with user_directory(own_database_url) as users:
        assert await users.create_first_admin("a@example.com", PASSWORD)
        assert not await users.create_first_admin("b@example.com", PASSWORD)
    connection = await asyncpg.connect(own_database_url)
    rows = await connection.fetch("SELECT type, data::text FROM audit_events")
    await connection.close()

    assert [tuple(row) for row in rows] == [("user.created", '{"role": "admin"}')]


async def test_failed_sign_ins_are_one_event_an_account_and_hour(anonymous, someone, database):
    email, user_id = someone

    await asyncio.gather(*(sign_in(anonymous, spelling, "wrong") for spelling in [email, email.upper()] * 3))

    rows = await database.fetch(
        "SELECT at, actor_kind FROM audit_events WHERE subject_id = $1 AND type LIKE '%failed'", user_id
    )
    hours = {row["at"].replace(minute=0, second=0, microsecond=0) for row in rows}
    assert len(rows) == len(hours) >= 1
    assert {row["actor_kind"] for row in rows} == {"service"}


async def test_strangers_cannot_fill_the_log_with_accounts_that_do_not_exist(anonymous, database):
    for n in range(4):
        await sign_in(anonymous, f"{n}-{uuid4().hex}@example.com", "wrong")

    row = await database.fetchrow(COUNT_UNKNOWN)
    assert (row["too_many"], row["all_of_them"] >= 1) == (0, True)


async def test_a_disabled_user_who_tries_to_sign_in_is_recorded(anonymous, someone, users, recorded):
    email, user_id = someone
    await users.disable(email)

    await sign_in(anonymous, email)

    assert (await recorded(user_id))[-1] == ("session.failed", "service", {})


async def test_the_commit_of_a_failed_sign_in_is_not_waited_for(own_database_url):
    """The wait would tell an account that exists from one that does not."""
    database = Database(DatabaseSettings(_env_file=None, database_url=own_database_url).database_url, pool_size=1)
    async with database.transaction() as session:
        assert await session.scalar(text("SHOW synchronous_commit")) == "on"
        await session.execute(queries.RECORD_FAILURE, {"user_id": None})
        assert await session.scalar(text("SHOW synchronous_commit")) == "off"
    await database.close()


async def test_a_statement_that_fails_records_nothing(someone, users, recorded, database):
    email, user_id = someone
    await database.execute("ALTER TABLE audit_events ADD CONSTRAINT none CHECK (type <> 'user.disabled') NOT VALID")
    try:
        with pytest.raises(Exception, match="none"):
            await users.disable(email)
    finally:
        await database.execute("ALTER TABLE audit_events DROP CONSTRAINT none")

    assert await database.fetchval("SELECT disabled_at FROM users WHERE id = $1", user_id) is None
    assert [event for event, _, _ in await recorded(user_id)] == ["user.created"]


async def test_the_export_of_a_companys_data_is_recorded_and_part_of_the_next(command, register, database):
    candidate = await register()
    await command("export-data", candidate["contact_email"])

    row = await database.fetchrow(
        "SELECT type, actor_kind, subject_kind FROM audit_events WHERE subject_id = $1", UUID(candidate["candidate_id"])
    )

    assert tuple(row) == ("data.exported", "service", "candidate")


async def test_every_type_can_be_recorded_and_belongs_to_this_log(own_database_url):
    database = Database(DatabaseSettings(_env_file=None, database_url=own_database_url).database_url, pool_size=1)
    for event in AuditType:
        await AuditLog(database).record(AuditEvent(event, SERVICE))
    async with database.statement() as session:
        recorded = set(await session.scalars(text("SELECT type FROM audit_events")))
    await database.close()

    assert recorded == set(AuditType)
    assert not recorded & set(EventType)
