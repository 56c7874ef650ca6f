"""`GET /audit` and `GET /audit.csv`: both logs as one, newest first."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import shutil
import signal
import subprocess
import tempfile
import tracemalloc
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid4

import asyncpg
import pytest
from sqlalchemy.dialects.postgresql import asyncpg as dialect

from provider_registration.activity import export
from provider_registration.activity import service as activity_service
from provider_registration.activity.models import ActivityFilter
from provider_registration.activity.queries import PAGE_OF_ACTOR, PAGE_OF_NEWEST, PAGE_OF_TYPES
from provider_registration.activity.service import ActivityService
from provider_registration.audit.models import AuditType
from provider_registration.auth.models import Role
from provider_registration.db import migrations
from provider_registration.db.database import Database
from provider_registration.events.models import EventType
from provider_registration.local.accounts import account_for
from provider_registration.settings import DatabaseSettings
from provider_registration.web.pagination import NEWEST_END, Position
from tests.conftest import place_for_folders
from tests.ports import a_port
from tests.service import PASSWORD

AT = datetime(2024, 5, 17, 12, tzinfo=UTC)
ADD_COMPANY = """
    INSERT INTO candidates (company_name, contact_email, products, truck_count, capacity_tons_per_day)
    VALUES ($1, $2, '{apples}', 1, 1) RETURNING id
"""
ADD_CANDIDATE_EVENT = (
    "INSERT INTO candidate_events (candidate_id, type, at, actor_kind, actor_id) VALUES ($1, $2, $3, $4, $5)"
)
PROGRAMS_OF_15 = Path("/usr/lib/postgresql/15/bin")  # where Debian has them
ADD_AUDIT_EVENT = "INSERT INTO audit_events (type, at, actor_kind, actor_id) VALUES ($1, $2, $3, $4)"


@pytest.fixture
def everything(auditor):
    """Every event that parameters select, page by page."""

    async def everything(limit=100, **parameters):
        events, cursor = [], None
        while True:
            page = await auditor.get(
                "/audit", params={**parameters, "limit": limit, **({"cursor": cursor} if cursor else {})}
            )
            assert page.status_code == 200, page.text
            events += page.json()["events"]
            cursor = page.json()["pagination"]["next_cursor"]
            if cursor is None:
                return events

    return everything


@pytest.fixture
async def admin_of_its_own(users, service, connect):
    """The ID of a new admin, and a client of theirs."""
    email = f"{uuid4().hex}@example.com"
    user_id = await users.create(email, PASSWORD, Role.ADMIN)
    async with connect(service.url) as client:
        tokens = await client.post("/auth/login", json={"username": email, "password": PASSWORD})
    async with connect(service.url, tokens.json()["access_token"]) as client:
        yield user_id, email, client


async def test_what_an_admin_did_is_one_list_of_both_logs(admin_of_its_own, everything, register):
    user_id, email, client = admin_of_its_own
    candidate = await register()
    await client.post(f"/candidates/{candidate['candidate_id']}/reject")

    rejected, started = await everything(actor=user_id)

    assert (rejected["type"], started["type"]) == ("candidate.rejected", "session.started")
    assert rejected["actor"] == started["actor"] == {"kind": "user", "id": str(user_id), "name": email}
    assert rejected["subject"] == {
        "kind": "candidate",
        "id": candidate["candidate_id"],
        "name": candidate["company_name"],
    }
    assert (rejected["version"], started["version"]) == (2, None)
    assert started["subject"]["id"] == str(user_id)
    assert started["id"].startswith("a")
    assert rejected["at"] > started["at"]


async def test_an_event_of_a_candidate_has_the_same_id_in_both_lists(everything, register, auditor):
    candidate = await register()

    [event] = (await auditor.get(f"/candidates/{candidate['candidate_id']}/events")).json()["events"]
    found = [each for each in await everything(**{"from": event["at"]}) if each["id"] == event["id"]]

    assert [(each["type"], each["at"], each["data"]) for each in found] == [(event["type"], event["at"], {})]


async def test_auditors_see_the_errors_of_approvals(everything, admin, register, billing):
    candidate = await register()
    await billing.fail("refuse_400", names=[candidate["company_name"]])
    await admin.post(f"/candidates/{candidate['candidate_id']}/approve")

    failed = next(
        event
        for event in await everything(type="candidate.approval_failed")
        if event["subject"]["id"] == candidate["candidate_id"]
    )

    assert failed["data"]["error"]
    assert failed["data"]["idempotency_key"]


@pytest.fixture(scope="module")
async def filled(migrated_database_url):
    """Events of both logs at the same and at other times: three actors, some types; as (type, at, actor), in order."""
    connection = await asyncpg.connect(migrated_database_url)
    company = await connection.fetchval(ADD_COMPANY, "Ties", f"{uuid4().hex}@example.com")
    actors = [uuid4() for _ in range(3)]
    made = []
    for n in range(60):
        at, actor = AT + timedelta(seconds=n // 6), actors[n % 3]
        if n % 2:
            event = ("candidate.rejected", "candidate.approved", "candidate.status_link_replaced")[n // 2 % 3]
            await connection.execute(ADD_CANDIDATE_EVENT, company, event, at, "user", actor)
        else:
            event = ("session.started", "session.ended", "candidates.exported")[n // 2 % 3]
            await connection.execute(ADD_AUDIT_EVENT, event, at, "user", actor)
        made.append((event, at, str(actor)))
    await connection.execute(ADD_CANDIDATE_EVENT, company, "candidate.registered", AT, "applicant", None)
    made.append(("candidate.registered", AT, None))
    yield made
    await connection.execute("DELETE FROM candidate_events WHERE candidate_id = $1", company)
    await connection.execute("DELETE FROM audit_events WHERE at BETWEEN $1 AND $2", AT, AT + timedelta(days=1))
    await connection.execute("DELETE FROM candidates WHERE id = $1", company)
    await connection.close()


PERIOD = {"from": AT.isoformat(), "to": (AT + timedelta(hours=1)).isoformat()}


def told(events):
    return [(event["type"], datetime.fromisoformat(event["at"]), event["actor"]["id"]) for event in events]


@pytest.mark.parametrize("limit", [1, 2, 7, 100])
@pytest.mark.parametrize("actor", [None, 0, 2])
@pytest.mark.parametrize("event", [None, "candidate.rejected", "session.ended", "candidate.registered", "user.created"])
async def test_pages_of_every_filter_have_each_event_once_newest_first(everything, filled, limit, actor, event):
    parameters = dict(PERIOD)
    expected = filled
    if actor is not None:
        parameters["actor"] = filled[actor][2]
        expected = [each for each in expected if each[2] == parameters["actor"]]
    if event:
        parameters["type"] = event
        expected = [each for each in expected if each[0] == event]

    events = await everything(limit, **parameters)

    assert sorted(told(events), key=str) == sorted(expected, key=str)
    assert len({each["id"] for each in events}) == len(events)
    times = [each["at"] for each in events]
    assert times == sorted(times, reverse=True)


async def test_the_first_time_is_included_and_the_last_is_not(everything, filled):
    second = AT + timedelta(seconds=3)

    events = await everything(**{"from": second.isoformat(), "to": (second + timedelta(seconds=1)).isoformat()})

    assert sorted(told(events), key=str) == sorted([each for each in filled if each[1] == second], key=str)


@pytest.mark.parametrize(
    "parameters",
    [
        {"limit": 0},
        {"limit": 101},
        {"cursor": "x"},
        {"type": "candidate.unknown"},
        {"actor": "maria@example.com"},
        {"from": "2026-03-14T10:00:00"},  # in no time zone
        {"from": "0001-01-01T00:00:00+01:00"},
        {"to": "9999-12-31T23:59:59-01:00"},
        {"page": 1},
    ],
)
async def test_other_parameters_are_refused(auditor, parameters):
    for path in ("/audit", "/audit.csv"):
        assert (await auditor.get(path, params=parameters)).status_code == 422


async def test_an_unknown_type_is_one_error_that_lists_the_types_of_both_logs(auditor):
    response = await auditor.get("/audit", params={"type": "bogus"})

    [error] = response.json()["errors"]
    assert (error["location"], error["field"]) == ("query", "type")
    assert all(f"'{each}'" in error["detail"] for each in (*AuditType, *EventType))
    assert "bogus" not in response.text


@pytest.mark.parametrize("position", [Position(AT, UUID(int=2**128 - 1)), Position(AT, UUID(int=0)), NEWEST_END])
async def test_any_cursor_can_be_read(auditor, position):
    assert (await auditor.get("/audit", params={"cursor": position.to_cursor()})).status_code == 200


async def test_types_of_a_later_release_are_left_out(everything, database):
    await database.execute(ADD_AUDIT_EVENT, "user.of_a_later_release", AT, "service", None)
    try:
        assert "user.of_a_later_release" not in {event["type"] for event in await everything(**PERIOD)}
    finally:
        await database.execute("DELETE FROM audit_events WHERE type = 'user.of_a_later_release'")


async def test_a_csv_has_every_event_of_the_same_filters(auditor, everything, filled, monkeypatch):
    monkeypatch.setattr(activity_service, "MAX_PAGE", 7)
    monkeypatch.setattr(export, "CHUNK", 5)

    response = await auditor.get("/audit.csv", params=PERIOD)

    assert response.headers["Content-Type"].startswith("text/csv")
    assert ".csv" in response.headers["Content-Disposition"]
    rows = list(csv.DictReader(io.StringIO(response.text.removeprefix("\ufeff"))))
    events = await everything(**PERIOD)
    assert [row["id"] for row in rows] == [event["id"] for event in events]
    assert [(row["type"], row["actor_id"], row["at"]) for row in rows] == [
        (event["type"], event["actor"]["id"] or "", event["at"]) for event in events
    ]


async def test_a_csv_has_no_formulas(auditor, register):
    name = f"=1+1 {uuid4().hex}"
    candidate = await register(company_name=name)

    response = await auditor.get("/audit.csv", params={"type": "candidate.registered"})

    [row] = [
        row for row in csv.DictReader(io.StringIO(response.text)) if row["subject_id"] == candidate["candidate_id"]
    ]
    assert row["subject_name"] == f"'{name}"


async def test_an_export_is_recorded_with_the_names_of_its_filters(admin_of_its_own, everything):
    user_id, _, client = admin_of_its_own
    await client.get("/audit.csv", params={"type": "session.failed", **PERIOD})

    exported = (await everything(actor=user_id))[0]

    assert exported["type"] == "audit.exported"
    assert exported["data"] == {"format": "csv", "filters": ["type", "from", "to"]}


async def test_head_of_an_export_records_none(admin_of_its_own, everything):
    user_id, _, client = admin_of_its_own
    response = await client.head("/audit.csv")

    assert (response.status_code, response.content) == (200, b"")
    assert "attachment" in response.headers["Content-Disposition"]
    assert "Content-Length" not in response.headers
    assert "audit.exported" not in {event["type"] for event in await everything(actor=user_id)}


# -- the cost in large logs ------------------------------------------------------------------------------------------

FILL = """
    INSERT INTO candidate_events (candidate_id, type, at, actor_kind, actor_id)
    SELECT $1, CASE WHEN n % 2 = 0 THEN 'candidate.registered' WHEN n % 100 = 1 THEN 'candidate.rejected'
                    ELSE 'candidate.approved' END,
           $2::timestamptz + n * interval '1 s', CASE WHEN n % 2 = 0 THEN 'applicant' ELSE 'user' END,
           CASE WHEN n % 2 = 1 THEN CASE WHEN n % 100 = 3 THEN $4::uuid ELSE $3::uuid END END
    FROM generate_series($5::int, $6::int) AS n
"""
FILL_AUDIT = """
    INSERT INTO audit_events (type, at, actor_kind, actor_id)
    SELECT CASE WHEN n % 100 = 1 THEN 'candidates.exported' ELSE 'session.started' END,
           $1::timestamptz + n * interval '1 s', 'user', $2::uuid
    FROM generate_series($3::int, $4::int) AS n
"""
SMALL, LARGE = 20_000, 100_000
BUSY, RARE = UUID(int=1), UUID(int=2)


@pytest.fixture
def oldest_server_url():
    """A database on PostgreSQL 15, whose scans end later than those of version 18."""
    folder = Path(tempfile.mkdtemp(prefix="provider-registration-oldest-", dir=place_for_folders()))
    folder.chmod(0o755)
    data, port = folder / "data", a_port()
    data.mkdir()
    account = account_for(folder)
    account.own(folder, data)
    identity = account.as_popen_arguments()
    settings = ("fsync=off", f"port={port}", "listen_addresses=127.0.0.1", "unix_socket_directories=")
    options = [part for each in settings for part in ("-c", each)]
    initdb = [PROGRAMS_OF_15 / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8"]
    subprocess.run(initdb, check=True, stdout=subprocess.DEVNULL, cwd=folder, **identity)
    server = subprocess.Popen(
        [PROGRAMS_OF_15 / "postgres", "-D", data, *options], stderr=subprocess.DEVNULL, **identity
    )
    with server:
        yield f"postgresql://postgres@127.0.0.1:{port}/postgres"
        server.send_signal(signal.SIGINT)
    shutil.rmtree(folder)


@asynccontextmanager
async def logs_at(url):
    connection = await asyncpg.connect(url, server_settings={"jit": "off", "timezone": "UTC"})
    yield connection
    await connection.close()


@pytest.mark.skipif(not PROGRAMS_OF_15.exists(), reason="PostgreSQL 15 is not installed (Debian 12: postgresql-15)")
async def test_no_page_costs_more_in_larger_logs_of_the_oldest_postgresql(oldest_server_url):
    async with asyncio.timeout(30):
        while True:
            try:
                await asyncio.to_thread(migrations.upgrade, oldest_server_url)
                break
            except migrations.MigrationError:
                await asyncio.sleep(0.1)
    async with logs_at(oldest_server_url) as logs:
        await pages_cost_the_same(logs)


@pytest.fixture
async def logs(own_database_url):
    async with logs_at(own_database_url) as logs:
        yield logs


async def fill(connection, first, last):
    company = await connection.fetchval(ADD_COMPANY, "Large", f"{first}@example.com")
    await connection.execute(FILL, company, AT, BUSY, RARE, first, last)
    await connection.execute(FILL_AUDIT, AT, BUSY, first, last)
    await connection.execute("VACUUM ANALYZE candidate_events, audit_events")


async def blocks(connection, rows):
    """Blocks that PostgreSQL reads for each kind of page, at the newest end and in the middle, with either plan."""
    return {
        (kind, *page): count for kind in ("custom", "generic") for page, count in await costs(connection, rows, kind)
    }


async def costs(connection, rows, kind):
    found = {}
    await connection.execute(f"SET plan_cache_mode = force_{kind}_plan")
    for which in (
        ActivityFilter(),
        ActivityFilter(type=EventType.REGISTERED),
        ActivityFilter(type=EventType.REJECTED),
        ActivityFilter(type=AuditType.CANDIDATES_EXPORTED),
        ActivityFilter(type=AuditType.USER_CREATED),  # none
        ActivityFilter(actor=BUSY),
        ActivityFilter(actor=RARE),
        ActivityFilter(actor=BUSY, type=EventType.REJECTED),
        ActivityFilter(actor=RARE, type=EventType.REJECTED),  # none
    ):
        query = PAGE_OF_ACTOR if which.actor else PAGE_OF_TYPES
        if which.actor is None and which.type in (None, EventType.REGISTERED):
            query = PAGE_OF_NEWEST
        oldest, middle = datetime.min.replace(tzinfo=UTC), AT + timedelta(seconds=rows // 2)
        latest = AT + timedelta(seconds=rows - 5)
        for place, since, before in (
            ("first", oldest, NEWEST_END.at),
            ("deep", oldest, middle),
            ("few", latest, NEWEST_END.at),
            ("none", middle, middle),
        ):
            values = {
                "actor": which.actor,
                "audit_types": [str(each) for each in AuditType if which.type in (None, each)],
                "candidate_types": [str(each) for each in EventType if which.type in (None, each)],
                "since": since,
                "before": before,
                "before_id": 2**63 - 1,
                "before_audit_id": 2**63 - 1,
                "limit": 51,
            }
            compiled = query.compile(dialect=dialect.dialect())
            plan = await connection.fetchval(
                f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {compiled}", *[values[name] for name in compiled.positiontup]
            )
            found[which, place] = sum(json.loads(plan)[0]["Plan"][f"Shared {how} Blocks"] for how in ("Hit", "Read"))
    return found.items()


async def test_no_page_costs_more_in_larger_logs(logs):
    await pages_cost_the_same(logs)


async def pages_cost_the_same(logs):
    await fill(logs, 1, SMALL)
    small = await blocks(logs, SMALL)
    await fill(logs, SMALL + 1, LARGE)
    large = await blocks(logs, LARGE)

    more = {page: (small[page], large[page]) for page in small if large[page] > 1.2 * small[page] + 60}
    assert more == {}


async def test_a_long_export_needs_no_more_memory(logs, own_database_url):
    await fill(logs, 1, 10_000)
    database = Database(DatabaseSettings(_env_file=None, database_url=own_database_url).database_url, pool_size=1)
    service = ActivityService(database)
    tracemalloc.start()

    length = sum([len(part) async for part in export.as_csv(service.all(ActivityFilter()))])

    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    await database.close()
    assert length > 2_000_000
    assert most < 4_000_000
