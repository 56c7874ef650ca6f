"""Old events are removed from both logs, by the serving role only as far as the owner allows."""

from __future__ import annotations

import asyncio
from uuid import uuid4

import asyncpg
import pytest

from provider_registration.activity import pruning
from provider_registration.db.database import Database
from provider_registration.db.grants import grant_service
from provider_registration.events.dispatcher import Dispatcher
from provider_registration.events.feed import Feed
from provider_registration.observability.metrics import EVENTS_PRUNED
from provider_registration.settings import DatabaseSettings
from provider_registration.statistics.counting import Counter

ADD_COMPANY = """
    INSERT INTO candidates (company_name, contact_email, products, truck_count, capacity_tons_per_day)
    VALUES ('Old', $1, '{apples}', 1, 1) RETURNING id
"""
ADD_EVENT = """
    INSERT INTO candidate_events (candidate_id, type, at, actor_kind, data)
    VALUES ($1, $2, now() - make_interval(days => $3), 'service', $4) RETURNING id
"""
ADD_AUDIT_EVENT = """
    INSERT INTO audit_events (type, at, actor_kind)
    VALUES ('user.created', now() - make_interval(days => $1), 'service')
"""
KEEP = """
    INSERT INTO event_retention (minimum_days) VALUES ($1)
    ON CONFLICT (only_one) DO UPDATE SET minimum_days = excluded.minimum_days
"""
AGES = """
    SELECT extract(days FROM now() - at)::integer FROM audit_events
    UNION ALL
    SELECT extract(days FROM now() - at)::integer FROM candidate_events WHERE candidate_id = $1 AND data @> '{"n": 1}'
    ORDER BY 1
"""
LEFT = "SELECT type FROM candidate_events WHERE candidate_id = $1 AND at < now() - interval '1 day' ORDER BY at, id"
CALL = "SELECT prune_events($1::integer, $2::integer)"
DAYS = (3, 10, 40, 100)


@pytest.fixture
async def owner(own_database_url):
    connection = await asyncpg.connect(own_database_url)
    yield connection
    await connection.close()


@pytest.fixture
async def own_database(own_database_url):
    database = Database(DatabaseSettings(_env_file=None, database_url=own_database_url).database_url, pool_size=1)
    yield database
    await database.close()


@pytest.fixture
def dispatch(own_database):
    """Give every event its position in the feed."""
    dispatcher = Dispatcher(own_database, subscriptions=[])

    async def dispatch():
        while await dispatcher.dispatch():
            pass

    return dispatch


@pytest.fixture
def count(own_database):
    """Count every event that has a position in the statistics."""
    counter = Counter(own_database)

    async def count():
        while await counter.count():
            pass

    return count


@pytest.fixture
async def company(owner, dispatch, count):
    """A company with events of DAYS in both logs, the oldest with details."""
    company = await owner.fetchval(ADD_COMPANY, f"{uuid4().hex}@example.com")
    for days in DAYS:
        event = await owner.fetchval(ADD_EVENT, company, "candidate.approval_failed", days, '{"n": 1}')
        await owner.execute(ADD_AUDIT_EVENT, days)
    await owner.execute("INSERT INTO candidate_event_details VALUES ($1, $2, '{}')", event, company)
    await dispatch()
    await count()
    return company


@pytest.fixture
async def serving(owner, own_database_url):
    """The URL of the database for a serving role with exactly its privileges."""
    role = f"serving_{uuid4().hex}"
    await owner.execute(f"CREATE ROLE {role} LOGIN PASSWORD '{role}'")
    database = Database(DatabaseSettings(_env_file=None, database_url=own_database_url).database_url, pool_size=1)
    await grant_service(database, role)
    await database.close()
    host = own_database_url.rpartition("@")[2] if "@" in own_database_url else own_database_url.partition("//")[2]
    yield f"postgresql://{role}:{role}@{host}"
    await owner.execute(f"DROP OWNED BY {role}")
    await owner.execute(f"DROP ROLE {role}")


async def ages(owner, company):
    return [row[0] for row in await owner.fetch(AGES, company)]


@pytest.fixture
async def as_service(serving):
    connection = await asyncpg.connect(serving)
    yield connection
    await connection.close()


async def test_without_an_age_of_the_owner_nothing_is_deleted(owner, company, as_service):
    assert await as_service.fetchval(CALL, 1, 1000) == 0

    assert await ages(owner, company) == sorted(DAYS * 2)


@pytest.mark.parametrize("statement", ["SELECT 1", "REVOKE EXECUTE ON FUNCTION prune_events FROM PUBLIC"])
async def test_the_service_says_that_it_keeps_all_events_while_the_owner_allows_nothing_else(
    owner, company, serving, caplog, statement
):
    if "REVOKE" in statement:
        await owner.execute(KEEP, 30)
    await owner.execute(statement)
    database = Database(DatabaseSettings(_env_file=None, database_url=serving).database_url, pool_size=1)
    pruning_task = asyncio.create_task(pruning.keep_pruning_events(database, days=30))
    async with asyncio.timeout(30):
        while not any("old events are kept" in record.getMessage() for record in caplog.records):
            await asyncio.sleep(0.05)
    pruning_task.cancel()
    await asyncio.wait([pruning_task])
    await database.close()

    assert await ages(owner, company) == sorted(DAYS * 2)


@pytest.mark.parametrize(
    ("asked", "kept"), [(30, 30), (1, 30), (None, 200), (0, 30), (-(2**31), 30), (50, 50), (2**31 - 1, 200)]
)
async def test_nothing_younger_than_the_owner_has_stored_is_deleted(owner, company, as_service, asked, kept):
    await owner.execute(KEEP, 30)

    await as_service.fetchval(CALL, asked, 1000)

    assert await ages(owner, company) == sorted([days for days in DAYS if days < kept] * 2)
    assert await owner.fetchval("SELECT count(*) FROM candidate_event_details") == (1 if kept > 100 else 0)


async def test_a_batch_has_its_size_and_begins_with_the_oldest(owner, company, as_service):
    await owner.execute(KEEP, 1)

    assert await as_service.fetchval(CALL, 1, 1) == 2
    assert await ages(owner, company) == [3, 3, 10, 10, 40, 40]
    assert await as_service.fetchval(CALL, 1, 1000) == 6
    assert await as_service.fetchval(CALL, 1, 1000) == 0


async def test_orphans_and_unfinished_approvals_keep_their_events(owner, company, as_service, dispatch):
    await owner.execute(KEEP, 1)
    await owner.execute(ADD_EVENT, company, "candidate.provider_orphaned", 100, "{}")
    unfinished = await owner.fetchval(ADD_COMPANY, f"{uuid4().hex}@example.com")
    user = await owner.fetchval(
        "INSERT INTO users (email, password_hash, role) VALUES ('a@x.org', '!', 'admin') RETURNING id"
    )
    await owner.execute(ADD_EVENT, unfinished, "candidate.approval_requested", 100, "{}")
    await owner.execute(
        "INSERT INTO approval_intents (candidate_id, idempotency_key, provider_name, requested_by, next_attempt_at)"
        " VALUES ($1, gen_random_uuid(), 'Old', $2, now())",
        *(unfinished, user),
    )
    await dispatch()

    await as_service.fetchval(CALL, 1, 1000)

    assert [row[0] for row in await owner.fetch(LEFT, company)] == ["candidate.provider_orphaned"]
    assert [row[0] for row in await owner.fetch(LEFT, unfinished)] == ["candidate.approval_requested"]


async def test_what_is_not_in_the_feed_or_not_delivered_yet_stays(owner, company, as_service):
    await owner.execute(KEEP, 1)
    events = await owner.fetch("SELECT id FROM candidate_events WHERE data @> '{\"n\": 1}' ORDER BY at")
    await owner.execute("INSERT INTO event_queue (event_id, candidate_id) VALUES ($1, $2)", events[0]["id"], company)
    for event, state in ((events[1], "pending"), (events[2], "dead")):
        await owner.execute(
            "INSERT INTO deliveries (kind, target, event_id, state, next_attempt_at)"
            " VALUES ('webhook', 'x', $1, $2, CASE WHEN $2 = 'pending' THEN now() END)",
            *(event["id"], state),
        )

    await as_service.fetchval(CALL, 1, 1000)

    left = await owner.fetch("SELECT id FROM candidate_events WHERE data @> '{\"n\": 1}' ORDER BY at")
    assert left == events[:2]


@pytest.mark.parametrize(("days_without_use", "stays"), [(0, True), (6, True), (8, False)])
async def test_what_the_broker_does_not_have_yet_stays_while_somebody_publishes(
    owner, company, as_service, days_without_use, stays
):
    await owner.execute(KEEP, 1)
    await owner.execute(
        "INSERT INTO broker_positions (name, position, used_at) VALUES ('nats', 3, now() - make_interval(days => $1))",
        days_without_use,
    )

    await as_service.fetchval(CALL, 1, 1000)

    left = await owner.fetchval("SELECT array_agg(position ORDER BY position) FROM event_positions WHERE position > 1")
    assert left == ([4, 5] if stays else None)


async def test_what_the_statistics_have_not_counted_yet_stays(owner, company, as_service, dispatch, count):
    await owner.execute(KEEP, 1)
    await owner.execute(ADD_EVENT, company, "candidate.approval_linked", 100, '{"n": 2}')
    await dispatch()

    await as_service.fetchval(CALL, 1, 1000)
    assert [row[0] for row in await owner.fetch(LEFT, company)] == ["candidate.approval_linked"]

    await count()
    await as_service.fetchval(CALL, 1, 1000)
    assert await owner.fetch(LEFT, company) == []


async def test_the_feed_says_where_it_begins_and_sequences_go_on(owner, company, as_service, dispatch):
    await owner.execute(KEEP, 1)
    await owner.execute("UPDATE candidate_events SET at = at - interval '9 days'")  # the registration, too
    last = await owner.fetchval("SELECT last_position FROM event_dispatcher")

    await as_service.fetchval(CALL, 1, 1000)
    await owner.execute(ADD_EVENT, company, "candidate.status_link_replaced", 0, "{}")
    await dispatch()

    assert await owner.fetchval("SELECT pruned_position FROM event_dispatcher") == last
    assert await owner.fetchval("SELECT array_agg(sequence) FROM event_positions") == [len(DAYS) + 2]


async def prune_except_the_first(owner, as_service):
    """The first event, of an orphaned provider, stays."""
    await owner.execute(KEEP, 1)
    await owner.execute("UPDATE candidate_events SET at = at - interval '9 days'")
    await owner.execute(
        "UPDATE candidate_events SET type = 'candidate.provider_orphaned'"
        " WHERE id = (SELECT event_id FROM event_positions WHERE position = 1)"
    )
    await as_service.fetchval(CALL, 1, 1000)


async def test_a_sequence_is_not_given_again_while_an_earlier_event_is_kept(owner, company, as_service, dispatch):
    await prune_except_the_first(owner, as_service)

    await owner.execute(ADD_EVENT, company, "candidate.status_link_replaced", 0, "{}")
    await dispatch()

    sequences = await owner.fetchval("SELECT array_agg(sequence ORDER BY position) FROM event_positions")
    assert sequences == [1, len(DAYS) + 2]


async def test_a_reader_that_starts_again_reaches_the_end_though_events_are_kept(
    owner, company, as_service, dispatch, own_database
):
    await prune_except_the_first(owner, as_service)
    for _ in range(2):
        await owner.execute(ADD_EVENT, company, "candidate.status_link_replaced", 0, "{}")
    await dispatch()
    feed = Feed(own_database)

    first = await feed.page(None, limit=1)
    second = await feed.page(first.next, limit=1)

    assert [event.sequence for event in [*first.events, *second.events]] == [len(DAYS) + 2, len(DAYS) + 3]


async def test_the_copies_for_the_release_before_go_too(owner, company, as_service):
    await owner.execute(KEEP, 30)
    for days in DAYS:
        await owner.execute(
            "INSERT INTO approval_events (candidate_id, idempotency_key, event, at)"
            " VALUES ($1, gen_random_uuid(), 'failed', now() - make_interval(days => $2))",
            *(company, days),
        )

    await as_service.fetchval(CALL, 30, 1000)

    assert await owner.fetchval("SELECT min(at) > now() - interval '11 days' FROM approval_events")
    assert await owner.fetchval("SELECT count(*) FROM approval_events") == 2


async def test_young_copies_are_not_read(owner, company, as_service):
    await owner.execute(KEEP, 30)
    await owner.execute(
        "INSERT INTO approval_events (candidate_id, idempotency_key, event, at)"
        " SELECT $1, gen_random_uuid(), 'failed', now() - make_interval(days => 40 * (n = 3000)::integer)"
        " FROM generate_series(1, 3000) AS n",
        company,
    )
    await owner.execute("ANALYZE approval_events")
    for _ in range(7):  # from the sixth call on, PostgreSQL may use a plan for any values
        async with as_service.transaction():
            await as_service.fetchval(CALL, 30, 500)
            read = await as_service.fetchval(
                "SELECT seq_tup_read + idx_tup_fetch FROM pg_stat_xact_user_tables WHERE relname = 'approval_events'"
            )
        assert read < 100

    assert await owner.fetchval("SELECT count(*) FROM approval_events") == 2999


async def test_a_role_that_does_not_write_the_logs_may_not_prune_them(owner, company, server_url):
    await owner.execute(KEEP, 1)
    role = f"reader_{uuid4().hex}"
    await owner.execute(f"CREATE ROLE {role}")
    try:
        # session_user is who connected; SET ROLE would not change it.
        await owner.execute(f"SET SESSION AUTHORIZATION {role}")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await owner.fetchval(CALL, 1, 1000)
    finally:
        await owner.execute("RESET SESSION AUTHORIZATION")
        await owner.execute(f"DROP ROLE {role}")
    assert await ages(owner, company) == sorted(DAYS * 2)


@pytest.mark.parametrize("log", ["audit_events", "candidate_events", "candidate_event_details", "event_retention"])
@pytest.mark.parametrize("statement", ["UPDATE {} SET {} = DEFAULT", "DELETE FROM {}", "TRUNCATE {}"])
@pytest.mark.usefixtures("company")
async def test_the_serving_role_can_change_nothing_in_the_logs(owner, as_service, log, statement):
    await owner.execute(KEEP, 30)
    column = {"event_retention": "minimum_days", "candidate_event_details": "details"}.get(log, "data")

    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await as_service.execute(statement.format(log, column))


async def test_the_service_removes_old_events_batch_by_batch(owner, company, serving, monkeypatch):
    await owner.execute(KEEP, 30)
    monkeypatch.setattr(pruning, "BATCH", 1)
    before = EVENTS_PRUNED._value.get()
    database = Database(DatabaseSettings(_env_file=None, database_url=serving).database_url, pool_size=1, time_limit=5)

    task = asyncio.create_task(pruning.keep_pruning_events(database, days=30))
    async with asyncio.timeout(20):
        while EVENTS_PRUNED._value.get() < before + 4:  # it is counted after the commit
            await asyncio.sleep(0.05)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await database.close()

    assert EVENTS_PRUNED._value.get() == before + 4
    assert await ages(owner, company) == [3, 3, 10, 10]
