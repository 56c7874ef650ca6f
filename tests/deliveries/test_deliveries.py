"""Messages are claimed, tried, listed, retried and deleted."""

from __future__ import annotations

import asyncio
import json
from uuid import UUID, uuid4

import asyncpg
import pytest
from sqlalchemy.dialects.postgresql import asyncpg as dialect

from provider_registration.audit.models import Actor
from provider_registration.db.database import Database
from provider_registration.deliveries import queries, service
from provider_registration.deliveries.errors import AlreadyDelivered, DeliveryInProgress, DeliveryNotFound
from provider_registration.deliveries.models import WEBHOOK_DELETED, Kind, Outcome, State
from provider_registration.deliveries.service import DeliveryService
from provider_registration.observability.metrics import OLDEST_DELIVERY_SECONDS
from tests.events.candidates import add_candidate

STAFF = Actor.user(uuid4())
ADD_WEBHOOK = "INSERT INTO webhooks (id, url, secret, disabled_reason) VALUES ($1, 'https://erp.example/', 'x', $2)"


@pytest.fixture
async def connection(own_database_url):
    connection = await asyncpg.connect(own_database_url)
    yield connection
    await connection.close()


@pytest.fixture
async def deliveries(own_database_url):
    database = Database(own_database_url.replace("postgresql://", "postgresql+asyncpg://"), pool_size=4)
    yield DeliveryService(database)
    await database.close()


@pytest.fixture
def add(connection):
    """Adds a message that is due."""

    async def add(target="x", kind="webhook", due="clock_timestamp()", event_id=None):
        return await connection.fetchval(
            f"INSERT INTO deliveries (kind, target, event_id, next_attempt_at) VALUES ($1, $2, $3, {due}) RETURNING id",
            kind,
            target,
            event_id,
        )

    return add


async def claim(deliveries, target="x", limit=10, lease_seconds=60.0):
    return await deliveries.claim(Kind.WEBHOOK, target, limit=limit, lease_seconds=lease_seconds)


async def test_a_claimed_message_has_its_event(deliveries, connection, add):
    candidate = await add_candidate(connection)
    event_id = await connection.fetchval("SELECT id FROM candidate_events")
    await connection.execute("INSERT INTO event_positions VALUES (7, $1, $2, 3)", event_id, candidate)
    await add(event_id=event_id)

    [delivery] = await claim(deliveries)

    assert (delivery.event.id, delivery.event.candidate_id, delivery.event.sequence) == (event_id, candidate, 3)
    assert (delivery.event.type, delivery.event.version, delivery.attempts) == ("candidate.registered", 1, 1)


async def test_everyone_claims_other_messages_and_each_once(deliveries, add):
    ids = {await add() for _ in range(40)}

    claimed = await asyncio.gather(*(claim(deliveries, limit=5) for _ in range(12)))

    found = [delivery.id for some in claimed for delivery in some]
    assert sorted(found) == sorted(set(found))
    rest = await claim(deliveries, limit=40)
    assert {*found, *(delivery.id for delivery in rest)} == ids


async def test_a_message_of_a_crashed_process_is_claimed_again_and_only_its_holder_records(deliveries, add):
    await add()
    [crashed] = await claim(deliveries, lease_seconds=0.05)
    await asyncio.sleep(0.1)
    [again] = await claim(deliveries)
    await deliveries.record(crashed, Outcome(State.FAILED, "late"))

    [record] = (await deliveries.page(limit=10)).deliveries
    assert (record.state, record.attempts) == (State.DELIVERING, 2)
    await deliveries.record(again, Outcome(State.DELIVERED, status=250))
    [record] = (await deliveries.page(limit=10)).deliveries
    assert (record.state, record.last_status, record.next_attempt_at) == (State.DELIVERED, 250, None)


async def test_a_message_that_waits_is_not_claimed_before_its_time(deliveries, add):
    await add()
    [delivery] = await claim(deliveries)
    await deliveries.record(delivery, Outcome(State.PENDING, "busy", 503, retry_after=0.3))

    assert await claim(deliveries) == []
    await asyncio.sleep(0.4)
    [again] = await claim(deliveries)
    assert again.attempts == 2


async def test_targets_are_found_by_how_long_they_wait(deliveries, add):
    for target, seconds in (("b", 5), ("c", 50), ("a", 20), ("later", -60)):
        for more in range(3):
            await add(target, due=f"clock_timestamp() - make_interval(secs => {seconds} + {more})")
    await add("mail", kind="email")

    assert await deliveries.due_targets(Kind.WEBHOOK, limit=10) == ["c", "a", "b"]
    assert await deliveries.due_targets(Kind.WEBHOOK, limit=2) == ["c", "a"]


@pytest.mark.parametrize("state", [State.FAILED, State.DEAD, State.UNKNOWN])
async def test_a_message_that_was_given_up_is_sent_again_when_staff_ask(deliveries, connection, add, state):
    webhook = str(uuid4())
    await connection.execute(ADD_WEBHOOK, webhook, None)
    delivery_id = await add(webhook)
    [delivery] = await claim(deliveries, webhook)
    await deliveries.record(delivery, Outcome(state, "no"))
    assert await claim(deliveries, webhook) == []

    await deliveries.retry(delivery_id, actor=STAFF)

    [again] = await claim(deliveries, webhook)
    assert again.attempts == 1


async def test_what_was_delivered_or_is_under_way_is_not_sent_again(deliveries, add):
    delivery_id = await add()
    [delivery] = await claim(deliveries)
    with pytest.raises(DeliveryInProgress):
        await deliveries.retry(delivery_id, actor=STAFF)
    await deliveries.record(delivery, Outcome(State.DELIVERED))
    with pytest.raises(AlreadyDelivered):
        await deliveries.retry(delivery_id, actor=STAFF)
    with pytest.raises(DeliveryNotFound):
        await deliveries.retry(delivery_id + 1, actor=STAFF)
    assert await claim(deliveries) == []


async def test_messages_to_deleted_webhooks_end_except_attempts_under_way(deliveries, connection, add, monkeypatch):
    monkeypatch.setattr(service, "ENDED_AT_ONCE", 2)
    known, deleted, more = (str(uuid4()) for _ in range(3))
    await connection.execute(ADD_WEBHOOK, UUID(known), None)
    under_way, ended_lease = await add(deleted), await add(deleted)
    await claim(deliveries, deleted)
    await connection.execute("UPDATE deliveries SET next_attempt_at = now() WHERE id = $1", ended_lease)
    waiting = {await add(target, due="now() + interval '1 day'") for target in (deleted, more, more)}
    others = {await add(known), await add("applicant", kind="email")}

    assert [await deliveries.end_without_webhook() for _ in range(3)] == [True, True, False]

    rows = await connection.fetch("SELECT id, state, last_error, next_attempt_at FROM deliveries")
    found = {row["id"]: (row["state"], row["last_error"]) for row in rows}
    assert {each for each, how in found.items() if how == ("dead", WEBHOOK_DELETED)} == {ended_lease, *waiting}
    assert found[under_way] == ("delivering", None)
    assert {found[each] for each in others} == {("pending", None)}
    assert {row["next_attempt_at"] for row in rows if row["state"] == "dead"} == {None}


async def test_only_old_messages_that_ended_are_deleted(deliveries, connection, add):
    old, young, waiting = [await add() for _ in range(3)]
    for delivery in await claim(deliveries, limit=2):
        await deliveries.record(delivery, Outcome(State.DELIVERED))
    days = "clock_timestamp() - make_interval(days => 31)"
    await connection.execute(f"UPDATE deliveries SET updated_at = {days} WHERE id = ANY($1)", [old, waiting])

    assert await deliveries.prune(30) is False

    assert {record.id for record in (await deliveries.page(limit=10)).deliveries} == {young, waiting}


async def oldest(deliveries, kind):
    """The metric."""
    await deliveries.observe()
    return OLDEST_DELIVERY_SECONDS.labels(kind)._value.get()


async def make_old(connection, seconds, target):
    await connection.execute(
        "UPDATE deliveries SET queued_at = clock_timestamp() - make_interval(secs => $1) WHERE target = $2",
        *(seconds, target),
    )


async def test_the_oldest_message_that_is_tried_is_a_metric(deliveries, connection, add):
    working, disabled, deleted = (str(uuid4()) for _ in range(3))
    await connection.execute(ADD_WEBHOOK, working, None)
    await connection.execute(ADD_WEBHOOK, disabled, "staff")
    for target, seconds in ((disabled, 9000), (deleted, 8000), (working, 500)):
        await add(target)
        await make_old(connection, seconds, target)
        await add(target)

    assert 500 <= await oldest(deliveries, "webhook") < 560
    assert await oldest(deliveries, "email") == 0
    for target in ("applicant", "staff:1"):
        await add(target, kind="email")
    await make_old(connection, 700, "staff:1")
    assert 700 <= await oldest(deliveries, "email") < 760


async def test_the_age_of_a_message_that_is_sent_again_begins_anew(deliveries, connection, add):
    webhook = str(uuid4())
    await connection.execute(ADD_WEBHOOK, webhook, None)
    delivery_id = await add(webhook)
    await make_old(connection, 500, webhook)
    [delivery] = await claim(deliveries, webhook)
    await deliveries.record(delivery, Outcome(State.PENDING, "busy", 503, retry_after=5))
    assert await oldest(deliveries, "webhook") >= 500  # an attempt is not a new beginning

    await deliveries.retry(delivery_id, actor=STAFF)

    assert await oldest(deliveries, "webhook") < 60


async def test_a_released_message_is_as_before(deliveries, connection, add):
    await add()
    [first] = await claim(deliveries)
    await deliveries.record(first, Outcome(State.PENDING, "busy", 503, retry_after=0))
    [second] = await claim(deliveries)
    await deliveries.release(second)
    [record] = (await deliveries.page(limit=10)).deliveries
    assert (record.state, record.attempts, record.last_error, record.last_status) == (State.PENDING, 1, "busy", 503)

    [third] = await claim(deliveries)
    await deliveries.release(third, error="no key", seconds=60)
    await deliveries.release(third, error="late")  # its lease is over
    [record] = (await deliveries.page(limit=10)).deliveries
    assert (record.state, record.attempts, record.last_error) == (State.PENDING, 1, "no key")
    assert await claim(deliveries) == []


async def fill(connection, first, last):
    """Messages of which nearly all are delivered, to one webhook."""
    await connection.execute(
        """
        INSERT INTO deliveries (kind, target, state, next_attempt_at)
        SELECT CASE WHEN n % 1000 = 1 THEN 'email' ELSE 'webhook' END,
               CASE WHEN n % 1000 = 1 THEN 'applicant' WHEN n % 1000 = 2 THEN 'rare' ELSE 'busy' END,
               CASE WHEN n % 1000 < 3 THEN 'dead' ELSE 'delivered' END, NULL
        FROM generate_series($1::integer, $2::integer) AS n
        """,
        *(first, last),
    )
    await connection.execute("VACUUM ANALYZE deliveries")


async def blocks(connection, before):
    """How many blocks PostgreSQL reads for each list."""
    found = {}
    for target in (None, "busy", "rare", "none"):
        for kind in (None, *Kind):
            for state in (None, *State):
                if target and kind is not Kind.WEBHOOK:
                    continue
                query = queries.LIST_DELIVERIES_TO if target else queries.LIST_DELIVERIES
                values = {
                    "kinds": [kind] if kind else list(Kind),
                    "states": [state] if state else list(State),
                    "target": target,
                    "before": before,
                    "limit": 21,
                }
                compiled = query.compile(dialect=dialect.dialect())
                plan = await connection.fetchval(
                    f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {compiled}",
                    *[values[name] for name in compiled.positiontup],
                )
                top = json.loads(plan)[0]["Plan"]
                found[target, kind, state] = top["Shared Hit Blocks"] + top["Shared Read Blocks"]
    return found


@pytest.mark.parametrize("mode", ["force_custom_plan", "force_generic_plan"])
async def test_no_list_costs_more_with_more_messages(connection, mode):
    await connection.execute(f"SET plan_cache_mode = {mode}")
    await fill(connection, 1, 5_000)
    small = await blocks(connection, 4_000)
    await fill(connection, 5_001, 60_000)
    large = await blocks(connection, 50_000)

    assert {which: (small[which], large[which]) for which in small if large[which] > 1.2 * small[which] + 60} == {}


async def test_admins_list_and_retry_deliveries(admin, viewer, database):
    target = str(uuid4())
    await database.execute(ADD_WEBHOOK, target, None)
    ids = [
        str(
            await database.fetchval(
                "INSERT INTO deliveries (kind, target, state, next_attempt_at, last_status, last_error) "
                "VALUES ('webhook', $1, 'dead', NULL, 500, 'status 500') RETURNING id",
                target,
            )
        )
        for _ in range(3)
    ]
    assert (await viewer.get("/deliveries")).status_code == 403
    found, cursor = [], None
    while not found or cursor:
        parameters = {"kind": "webhook", "state": "dead", "limit": 2, **({"cursor": cursor} if cursor else {})}
        page = (await admin.get("/deliveries", params=parameters)).json()
        found += [each for each in page["deliveries"] if each["target"] == target]
        cursor = page["pagination"]["next_cursor"]
    assert [each["delivery_id"] for each in found] == ids[::-1]
    assert found[0]["last_error"] == "status 500"

    response = await admin.post(f"/deliveries/{ids[0]}/retry")

    assert response.status_code == 202
    assert await database.fetchval("SELECT state FROM deliveries WHERE id = $1", int(ids[0])) == "pending"
    assert (await admin.post("/deliveries/9223372036854775807/retry")).status_code == 404
    events = (await admin.get("/audit?type=delivery.retried&limit=100")).json()["events"]
    [event] = [event for event in events if event["data"]["delivery_id"] == ids[0]]
    assert (event["actor"]["kind"], event["data"]["kind"]) == ("user", "webhook")

    await database.execute("DELETE FROM webhooks")
    response = await admin.post(f"/deliveries/{ids[1]}/retry")
    assert (response.status_code, response.json()["type"].rpartition(":")[2]) == (409, "delivery-target-gone")
    assert await database.fetchval("SELECT state FROM deliveries WHERE id = $1", int(ids[1])) == "dead"
    events = (await admin.get("/audit?type=delivery.retried&limit=100")).json()["events"]
    assert [event["data"]["delivery_id"] for event in events if event["data"]["delivery_id"] in ids] == ids[:1]
    await database.execute("DELETE FROM deliveries")
