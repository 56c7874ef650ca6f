"""Events reach receivers: signed, once if they respond, again if they do not, and never those of another webhook."""

from __future__ import annotations

import asyncio
import time
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest
from click.testing import CliRunner
from sqlalchemy import text

from provider_registration.cli import main
from provider_registration.deliveries import upkeep
from provider_registration.deliveries.models import WEBHOOK_DELETED
from provider_registration.deliveries.service import DeliveryService
from provider_registration.webhooks import delivering
from provider_registration.webhooks.sending import Sender
from tests.ports import a_port

from .conftest import staffed
from .receivers import OK, Receiver, answer, receiving


async def test_a_decision_arrives_thin_signed_and_once(staff):
    async with receiving() as receiver:
        webhook = await staff.add(receiver, types=["candidate.approved"])
        candidate = await staff.register()
        approved = (await staff.client.post(f"/candidates/{candidate}/approve")).json()
        [message] = await receiver.has(1)
        await staff.until(webhook, state="delivered", last_status=200, attempts=1)

    events = (await staff.client.get(f"/candidates/{candidate}/events")).json()["events"]
    [event] = [each for each in events if each["type"] == "candidate.approved"]
    assert message.verified(staff.secrets[webhook]) == {
        "type": "candidate.approved",
        "timestamp": event["at"],
        "data": {
            "candidate_id": candidate,
            "status": "approved",
            "version": 2,
            "sequence": 3,
            "provider_id": approved["provider_id"],
        },
    }
    assert message.id == event["id"]
    assert len(message.body) < 20_000
    assert len(receiver.messages) == 1


async def test_a_message_shows_the_candidate_as_it_was_after_the_event(staff):
    async with receiving(answer(503)) as receiver:
        webhook = await staff.add(receiver)
        candidate = await staff.register()
        await staff.client.post(f"/candidates/{candidate}/reject")
        await receiver.has(2)
        receiver.always(OK)
        while {row["state"] for row in await staff.deliveries(webhook)} != {"delivered"}:
            await staff.make_due(webhook)
            await asyncio.sleep(0.1)

    seen = {message.event["type"]: message.event["data"] for message in receiver.messages}
    assert seen["candidate.registered"]["status"] == "pending"
    assert seen["candidate.rejected"]["status"] == "rejected"
    assert {each["provider_id"] for each in seen.values()} == {None}
    bodies = {(message.id, message.body) for message in receiver.messages}
    assert len(bodies) == 2


async def add_event(staff, candidate, kind):
    """What another program would write."""
    await staff.database.execute(
        "INSERT INTO candidate_events (candidate_id, type, actor_kind) VALUES ($1::text::uuid, $2, 'service')",
        *(candidate, f"candidate.{kind}"),
    )


async def dispatched(staff):
    """Wait until every event has its position."""
    async with asyncio.timeout(20):
        while await staff.database.fetchval("SELECT EXISTS (SELECT FROM event_queue)"):
            await asyncio.sleep(0.05)


async def counted(staff):
    """Wait until the statistics have counted every event that has a position."""
    async with asyncio.timeout(20):
        while await staff.database.fetchval(
            "SELECT position < last_position FROM statistics_progress, event_dispatcher"
        ):
            await asyncio.sleep(0.05)


async def prune(staff):
    """Remove all events, as if they were old; unfinished deliveries protect theirs."""
    await dispatched(staff)
    await counted(staff)
    await staff.database.execute("INSERT INTO event_retention (minimum_days) VALUES (1)")
    await staff.database.execute("UPDATE candidate_events SET at = at - interval '9 days'")
    assert await staff.database.fetchval("SELECT prune_events(1, 1000)")


@pytest.mark.parametrize("kind", ["status_link_replaced", "erased"])
@pytest.mark.parametrize("decision", ["approve", "reject", None])
async def test_the_status_stays_right_when_retention_has_removed_the_decision(staff, decision, kind):
    async with receiving() as receiver:
        candidate = await staff.register()
        if decision is not None:
            assert (await staff.client.post(f"/candidates/{candidate}/{decision}")).status_code == 200
        await prune(staff)
        await staff.add(receiver)
        await add_event(staff, candidate, kind)
        [message] = await receiver.has(1)

    found = (await staff.client.get(f"/candidates/{candidate}")).json()
    assert (message.event["data"]["status"], message.event["data"]["provider_id"]) == (
        found["status"],
        found["provider_id"],
    )


async def test_an_event_before_a_decision_stays_pending_when_retention_has_removed_others(staff):
    async with receiving(answer(503)) as receiver:
        candidate = await staff.register()
        await dispatched(staff)
        webhook = await staff.add(receiver, types=["candidate.status_link_replaced"])
        await add_event(staff, candidate, "status_link_replaced")
        await staff.until(webhook, state="pending", attempts=1)
        await prune(staff)
        await staff.client.post(f"/candidates/{candidate}/reject")
        receiver.always(OK)
        await staff.make_due(webhook)
        first, second = await receiver.has(2)

    assert first.event["data"] == second.event["data"]
    assert first.event["data"]["status"] == "pending"


async def test_the_last_of_several_decisions_counts(staff):
    async with receiving() as receiver:
        candidate = await staff.register()
        await staff.client.post(f"/candidates/{candidate}/reject")
        await dispatched(staff)
        await staff.database.execute("UPDATE candidates SET status = 'pending', rejected_by = NULL")  # by hand
        await staff.add(receiver)
        approved = (await staff.client.post(f"/candidates/{candidate}/approve")).json()
        await dispatched(staff)
        await add_event(staff, candidate, "erased")
        messages = await receiver.has(3)

    seen = {message.event["type"]: message.event["data"] for message in messages}
    for kind in ("approved", "erased"):
        data = seen[f"candidate.{kind}"]
        assert (data["status"], data["provider_id"]) == ("approved", approved["provider_id"])


async def test_of_a_response_that_comes_after_the_erasure_only_the_status_is_kept(staff, own_database_url):
    going_on = asyncio.Event()

    async def slow(_message, writer):
        await going_on.wait()
        writer.write(answer(409, "duplicate of a company"))

    async with receiving() as receiver:
        receiver.respond = slow
        webhook = await staff.add(receiver)
        candidate = await staff.register()
        await receiver.has(1)
        email = (await staff.client.get(f"/candidates/{candidate}")).json()["contact_email"]
        arguments = ("erase-data", email, "--yes")
        environment = {"DATABASE_URL": own_database_url}
        result = await asyncio.to_thread(CliRunner().invoke, main, arguments, env=environment)
        assert result.exit_code == 0, result.output
        going_on.set()
        row = await staff.until(webhook, state="pending", last_status=409)

    assert row["last_error"] == "status 409"


async def test_a_failed_attempt_is_repeated_with_the_same_id_and_a_new_signature(staff, monkeypatch):
    monkeypatch.setattr(delivering, "WAITS", (1.0, *delivering.WAITS[1:]))
    async with receiving(answer(500, "database\nlocked")) as receiver:
        webhook = await staff.add(receiver)
        await staff.register()
        await receiver.has(1)
        row = await staff.until(webhook, state="pending", attempts=1)
        receiver.always(OK)
        first, second = await receiver.has(2)

    assert (row["last_status"], row["last_error"]) == (500, "status 500: database locked")
    assert first.id == second.id
    assert int(second.headers["webhook-timestamp"]) > int(first.headers["webhook-timestamp"])
    for message in (first, second):
        message.verified(staff.secrets[webhook])


@pytest.mark.parametrize(
    "response", [answer(301, Location="https://example.com/"), answer(404), answer(429), b"nonsense\r\n\r\n"]
)
async def test_whatever_is_not_2xx_is_repeated_later(staff, response):
    async with receiving(response) as receiver:
        webhook = await staff.add(receiver)
        await staff.register()
        row = await staff.until(webhook, state="pending", attempts=1)

    wait = (row["next_attempt_at"] - row["updated_at"]).total_seconds()
    assert 5 <= wait < 6


async def test_a_receiver_can_ask_for_a_longer_wait_up_to_a_day(staff):
    async with (
        receiving(answer(503, Retry_After="120")) as receiver,
        receiving(answer(503, Retry_After="9999999")) as other,
    ):
        webhooks = [await staff.add(each) for each in (receiver, other)]
        await staff.register()
        rows = [await staff.until(each, state="pending", attempts=1) for each in webhooks]

    waits = [(row["next_attempt_at"] - row["updated_at"]).total_seconds() for row in rows]
    assert 120 <= waits[0] < 133
    assert 86400 <= waits[1] < 95_100


async def test_410_disables_the_webhook(staff):
    async with receiving(answer(410, "gone")) as receiver:
        webhook = await staff.add(receiver)
        await staff.register()
        await staff.until(webhook, state="failed", last_status=410)
        assert not (await staff.webhook(webhook))["enabled"]
        await staff.register()
        await asyncio.sleep(1.5)

    assert (await staff.webhook(webhook))["disabled_reason"] == "gone"
    assert len(receiver.messages) == 1
    assert len(await staff.deliveries(webhook)) == 1


async def test_after_the_last_wait_a_delivery_is_given_up(staff):
    async with receiving(answer(500)) as receiver:
        webhook = await staff.add(receiver)
        await staff.register()
        waits = []
        for attempt in range(1, len(delivering.WAITS) + 1):
            row = await staff.until(webhook, state="pending", attempts=attempt)
            waits.append((row["next_attempt_at"] - row["updated_at"]).total_seconds())
            await staff.make_due(webhook)
        row = await staff.until(webhook, state="dead", attempts=10)

    expected = [5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400]
    assert all(wait <= real <= wait * 1.11 for wait, real in zip(expected, waits, strict=True))
    assert len({message.id for message in receiver.messages}) == 1
    assert (await staff.webhook(webhook))["enabled"]  # ten failures in a row are an outage


@pytest.mark.parametrize("listens", [True, False])
async def test_an_hour_of_outage_loses_nothing_and_sends_nothing_twice(staff, listens):
    port = a_port()
    down = receiving(answer(503), port=port) if listens else nullcontext(Receiver(port))
    async with down as receiver:
        webhook = await staff.add(receiver)
        for _ in range(12):  # an event every five minutes
            await staff.register()
            await asyncio.sleep(0.2)
            await staff.database.execute(
                """
                UPDATE deliveries SET next_attempt_at = next_attempt_at - interval '5 min',
                                      created_at = created_at - interval '5 min'
                WHERE state = 'pending'
                """
            )
        async with asyncio.timeout(20):
            while sum(row["attempts"] > 0 for row in await staff.deliveries(webhook)) < 12:
                await asyncio.sleep(0.05)
        assert (await staff.webhook(webhook))["failing_since"] is not None
    async with receiving(port=port) as receiver:
        async with asyncio.timeout(30):
            while {row["state"] for row in await staff.deliveries(webhook)} != {"delivered"}:
                await staff.make_due(webhook)
                await asyncio.sleep(0.1)
        await asyncio.sleep(1.2)

    ids = [message.id for message in receiver.messages]
    assert sorted(ids) == sorted({str(row["event_id"]) for row in await staff.deliveries(webhook)})
    assert len(ids) == 12
    assert (await staff.webhook(webhook))["failing_since"] is None


async def test_a_dead_receiver_delays_no_other(staff):
    async def never(_message, _writer):
        await asyncio.sleep(3600)

    async with receiving() as dead, receiving() as alive:
        dead.respond = never
        dead_ones = [await staff.add(dead, path=f"/{index}") for index in range(20)]
        await staff.add(alive)
        for _ in range(5):
            await staff.register()
        await dead.has(20 * delivering.AT_ONCE)
        started = time.monotonic()
        await staff.register()
        await alive.has(6, seconds=5)
        assert time.monotonic() - started < 5
        assert len(dead.messages) == 20 * delivering.AT_ONCE  # so many at once, and no more
        rows = [await staff.deliveries(each) for each in dead_ones]

    assert {row["state"] for row in rows[0]} == {"delivering", "pending"}
    assert len(alive.messages) == 6


async def test_a_shutdown_finishes_what_is_being_sent_and_starts_nothing_more(own_database_url, shared_billing_url):
    going_on = asyncio.Event()

    async def slow(_message, writer):
        await going_on.wait()
        writer.write(OK)

    async with receiving() as receiver:
        receiver.respond = slow
        async with staffed(own_database_url, shared_billing_url) as staff:
            webhook = await staff.add(receiver)
            for _ in range(8):
                await staff.register()
            await dispatched(staff)
            await receiver.has(delivering.AT_ONCE)
            asyncio.get_running_loop().call_later(0.5, going_on.set)
        database = await asyncpg.connect(own_database_url)
        states = await database.fetch("SELECT state FROM deliveries WHERE target = $1", webhook)
        await database.close()

    found = sorted(row["state"] for row in states)
    assert found == ["delivered"] * delivering.AT_ONCE + ["pending"] * (8 - delivering.AT_ONCE)
    assert len(receiver.messages) == delivering.AT_ONCE


async def test_a_webhook_only_gets_its_types(staff):
    async with receiving() as receiver, receiving() as everything:
        webhook = await staff.add(receiver, types=["candidate.rejected"])
        await staff.add(everything)
        candidate = await staff.register()
        await staff.client.post(f"/candidates/{candidate}/reject")
        await everything.has(2)
        await staff.until(webhook, state="delivered")

    assert [message.event["type"] for message in receiver.messages] == ["candidate.rejected"]


async def test_a_webhook_gets_what_another_release_did(staff):
    async with receiving() as receiver:
        await staff.add(receiver)
        await staff.database.execute(
            "INSERT INTO candidates (company_name, contact_email, products, truck_count, capacity_tons_per_day) "
            "VALUES ('x', 'x@y.example', '{apples}', 1, 1)"
        )
        await staff.database.execute("UPDATE candidates SET status = 'rejected'")
        messages = await receiver.has(2)

    assert {each.event["type"] for each in messages} == {"candidate.registered", "candidate.rejected"}


async def test_a_disabled_webhook_gets_nothing_until_it_is_enabled(staff):
    async with receiving(answer(500)) as receiver:
        webhook = await staff.add(receiver)
        await staff.register()
        await staff.until(webhook, state="pending", attempts=1)
        await staff.client.patch(f"/webhooks/{webhook}", json={"enabled": False})
        receiver.always(OK)
        await staff.make_due(webhook)
        await staff.register()
        await asyncio.sleep(1.7)
        assert len(receiver.messages) == 1
        await staff.client.patch(f"/webhooks/{webhook}", json={"enabled": True})
        await staff.until(webhook, state="delivered", attempts=2)

    assert len(await staff.deliveries(webhook)) == 1


@pytest.fixture
def upkeep_soon(monkeypatch):
    monkeypatch.setattr(upkeep, "SECONDS", 0.2)


async def test_what_was_pending_for_a_deleted_webhook_stays_visible_as_dead(upkeep_soon, staff):
    async with receiving(answer(500)) as receiver:
        webhook = await staff.add(receiver)
        await staff.register()
        await staff.until(webhook, state="pending", attempts=1)
        delivered = await staff.database.fetchval(
            "INSERT INTO deliveries (kind, target, state, next_attempt_at) VALUES ('webhook', $1, 'delivered', NULL)"
            " RETURNING id",
            webhook,
        )
        assert (await staff.client.delete(f"/webhooks/{webhook}")).status_code == 204
        await staff.register()
        dead = await staff.until(webhook, state="dead", attempts=1, last_error=WEBHOOK_DELETED)

    assert len(receiver.messages) == 1
    listed = (await staff.client.get("/deliveries", params={"kind": "webhook"})).json()["deliveries"]
    assert [(each["delivery_id"], each["target"], each["state"]) for each in listed] == [
        (str(delivered), webhook, "delivered"),
        (str(dead["id"]), webhook, "dead"),
    ]
    assert listed[1]["next_attempt_at"] is None
    retried = await staff.client.post(f"/deliveries/{dead['id']}/retry")
    assert retried.json()["type"].endswith("delivery-target-gone")
    assert (await staff.client.get(f"/webhooks/{webhook}")).status_code == 404


async def test_a_replay_sends_everything_since_then_once_more_with_the_same_ids(staff, monkeypatch):
    monkeypatch.setattr(delivering, "REPLAY_BATCH", 2)
    async with receiving() as receiver:
        await staff.register()
        before = datetime.now(UTC)
        missed = [await staff.register() for _ in range(3)]
        await dispatched(staff)
        webhook = await staff.add(receiver)
        seen = await staff.register()
        await receiver.has(1)
        response = await staff.client.post(f"/webhooks/{webhook}/replay", json={"since": before.isoformat()})
        assert response.status_code == 202
        await receiver.has(5)
        await asyncio.sleep(1.2)

    by_candidate = {}
    for message in receiver.messages:
        by_candidate.setdefault(message.event["data"]["candidate_id"], []).append(message.id)
    assert set(by_candidate) == {*missed, seen}
    assert len(by_candidate[seen]) == 2
    assert len(set(by_candidate[seen])) == 1
    assert (await staff.webhook(webhook))["replay_since"] is None


async def test_an_event_that_gets_its_position_later_is_not_lost_between_creation_and_replay(staff, own_database_url):
    dispatcher = await asyncpg.connect(own_database_url)
    async with receiving() as receiver:
        async with dispatcher.transaction():
            await dispatcher.execute("SELECT FROM event_dispatcher FOR SHARE")  # nothing is numbered meanwhile
            before = datetime.now(UTC)
            await staff.register()
            webhook = await staff.add(receiver)
            await staff.client.post(f"/webhooks/{webhook}/replay", json={"since": before.isoformat()})
            async with asyncio.timeout(20):
                while (await staff.webhook(webhook))["replay_since"]:
                    await asyncio.sleep(0.05)
        await receiver.has(1)
    await dispatcher.close()


async def test_a_replay_has_what_is_being_numbered_while_it_begins(staff, own_database_url):
    dispatcher = await asyncpg.connect(own_database_url)
    async with receiving() as receiver:
        transaction = dispatcher.transaction()
        await transaction.start()
        await dispatcher.execute("SELECT FROM event_dispatcher FOR UPDATE")
        before = datetime.now(UTC)
        await staff.register()
        await dispatcher.execute(  # its subscriptions do not see the webhook
            """
            WITH numbered AS (UPDATE event_dispatcher SET last_position = last_position + 1 RETURNING last_position)
            INSERT INTO event_positions (position, event_id, candidate_id, sequence)
            SELECT last_position, event_id, candidate_id, 1 FROM numbered, event_queue
            """
        )
        await dispatcher.execute("DELETE FROM event_queue")
        webhook = await staff.add(receiver)
        body = {"since": before.isoformat()}
        replaying = asyncio.create_task(staff.client.post(f"/webhooks/{webhook}/replay", json=body))
        async with asyncio.timeout(20):
            while not await staff.database.fetchval("SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)"):
                await asyncio.sleep(0.01)
        await transaction.commit()
        assert (await replaying).status_code == 202
        await receiver.has(1)
    await dispatcher.close()


async def test_a_replay_goes_on_after_an_event_that_is_removed_meanwhile(staff, own_database_url, caplog):
    remover = await asyncpg.connect(own_database_url)
    async with receiving() as receiver:
        before = datetime.now(UTC)
        removed, kept = await staff.register(), await staff.register()
        await dispatched(staff)
        webhook = await staff.add(receiver)
        async with remover.transaction():
            await remover.execute("SET LOCAL session_replication_role = replica")
            await remover.execute("DELETE FROM event_positions WHERE candidate_id = $1::text::uuid", removed)
            await remover.execute("DELETE FROM candidate_events WHERE candidate_id = $1::text::uuid", removed)
            await staff.client.post(f"/webhooks/{webhook}/replay", json={"since": before.isoformat()})
            async with asyncio.timeout(20):
                while not await staff.database.fetchval("SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)"):
                    await asyncio.sleep(0.01)
        [message] = await receiver.has(1)
    await remover.close()

    assert message.event["data"]["candidate_id"] == kept
    assert "looking for due webhooks failed" not in caplog.text


@pytest.mark.parametrize(
    ("since", "expected"), [(8, (7, 42)), (7, (7, 0)), (3, (3, 0)), (1, (1, 0))], ids=["ahead", "at", "behind", "older"]
)
async def test_a_second_replay_goes_back_only_as_far_as_it_has_to(staff, monkeypatch, since, expected):
    monkeypatch.setattr(delivering, "REPLAY_BATCH", 0)  # nothing moves
    start = datetime(2026, 1, 1, tzinfo=UTC)
    async with receiving() as receiver:
        webhook = await staff.add(receiver)
    await staff.database.execute(
        "UPDATE webhooks SET replay_since = $1, replay_at = $2, replay_id = 42, replay_until = $2",
        *(start + timedelta(days=2), start + timedelta(days=7)),
    )

    body = {"since": (start + timedelta(days=since)).isoformat()}
    assert (await staff.client.post(f"/webhooks/{webhook}/replay", json=body)).status_code == 202

    row = await staff.database.fetchrow("SELECT * FROM webhooks")
    days, last = expected
    assert (row["replay_at"], row["replay_id"]) == (start + timedelta(days=days), last)
    assert row["replay_since"] == start + timedelta(days=min(2, since))
    assert row["replay_until"] > start + timedelta(days=7)


async def test_a_long_replay_to_a_slow_receiver_delays_neither_new_events_nor_other_replays(staff, monkeypatch):
    monkeypatch.setattr(delivering, "REPLAY_BATCH", 4)
    monkeypatch.setattr(delivering, "LOOK_SECONDS", 0.05)
    going_on = asyncio.Event()

    async def slow(_message, writer):
        await going_on.wait()
        writer.write(OK)

    async with receiving() as receiver, receiving() as other:
        receiver.respond = slow
        before = datetime.now(UTC)
        missed = [await staff.register() for _ in range(30)]
        await dispatched(staff)
        webhooks = sorted([await staff.add(receiver, path=f"/{number}") for number in range(4)])
        other_webhook = await staff.add(other)
        for webhook in (*webhooks, other_webhook):
            await staff.client.post(f"/webhooks/{webhook}/replay", json={"since": before.isoformat()})
        await other.has(30)
        await receiver.has(4 * delivering.AT_ONCE)
        waiting = [len(await staff.deliveries(webhook)) for webhook in webhooks]
        assert all(count <= delivering.AT_ONCE + 2 * 4 for count in waiting), waiting
        newest = await staff.register()
        await dispatched(staff)
        going_on.set()
        await receiver.has(4 * 31)

    for webhook in range(4):
        order = [each.event["data"]["candidate_id"] for each in receiver.messages if each.path == f"/{webhook}"]
        assert order.index(newest) < 20
        assert set(order) == {*missed, newest}


async def test_an_event_claimed_while_its_webhook_is_disabled_waits_as_it_was(staff, monkeypatch):
    claim = DeliveryService.claim
    disabling = False

    async def claim_and_disable(self, *args, **parameters):
        claimed = await claim(self, *args, **parameters)
        if claimed and disabling:
            async with self._database.transaction() as session:  # the test's own connection is in use meanwhile
                await session.execute(text("UPDATE webhooks SET disabled_reason = 'staff'"))
        return claimed

    monkeypatch.setattr(DeliveryService, "claim", claim_and_disable)
    async with receiving(answer(500)) as receiver:
        webhook = await staff.add(receiver)
        await staff.register()
        await staff.until(webhook, state="pending", attempts=1)
        disabling = True
        before = await staff.database.fetchval("SELECT clock_timestamp()")
        await staff.make_due(webhook)
        async with asyncio.timeout(20):
            while (await staff.deliveries(webhook))[0]["updated_at"] < before or (await staff.deliveries(webhook))[0][
                "state"
            ] != "pending":
                await asyncio.sleep(0.05)
        [row] = await staff.deliveries(webhook)

    assert (row["attempts"], row["last_status"], row["last_error"]) == (1, 500, "status 500")
    assert len(receiver.messages) == 1


async def test_an_unexpected_error_counts_as_an_attempt(staff, monkeypatch):
    async def broken(*_args):
        raise RuntimeError("a bug")

    async with receiving() as receiver:
        with monkeypatch.context() as patch:
            patch.setattr(Sender, "post", broken)
            webhook = await staff.add(receiver)
            await staff.register()
            row = await staff.until(webhook, state="pending", attempts=1)
        await staff.make_due(webhook)
        await staff.until(webhook, state="delivered", attempts=2)

    assert row["last_error"]
    assert "a bug" not in row["last_error"]


async def test_an_http_url_is_not_used_once_it_is_not_allowed(own_database_url, shared_billing_url):
    async with receiving() as receiver:
        async with staffed(own_database_url, shared_billing_url) as staff:
            webhook = await staff.add(receiver)
        async with staffed(own_database_url, shared_billing_url, webhooks_allow_http=False) as staff:
            await staff.register()
            row = await staff.until(webhook, state="pending", attempts=1)
            result = (await staff.client.post(f"/webhooks/{webhook}/test")).json()

    assert "WEBHOOKS_ALLOW_HTTP" in row["last_error"]
    assert result["error"] == row["last_error"]
    assert receiver.connections == 0


async def test_the_old_secret_signs_along_for_a_day(staff):
    async with receiving() as receiver:
        webhook = await staff.add(receiver)
        old = staff.secrets[webhook]
        new = (await staff.client.post(f"/webhooks/{webhook}/rotate-secret")).json()["secret"]
        await staff.register()
        [message] = await receiver.has(1)
        await staff.database.execute(
            "UPDATE webhooks SET previous_secret_expires_at = clock_timestamp() - interval '1 s'"
        )
        await staff.register()
        _, later = await receiver.has(2)

    assert old != new
    assert message.verified(old) == message.verified(new)
    assert len(later.headers["webhook-signature"].split()) == 1
    assert later.verified(new)
    assert (await staff.webhook(webhook))["previous_secret_expires_at"] is None


async def test_an_expired_secret_is_deleted(own_database_url, shared_billing_url, monkeypatch):
    monkeypatch.setattr(delivering, "RESEAL_SECONDS", 0.2)
    async with receiving() as receiver, staffed(own_database_url, shared_billing_url) as staff:
        webhooks = [await staff.add(receiver) for _ in range(2)]
        for each in webhooks:
            await staff.client.post(f"/webhooks/{each}/rotate-secret")
        await staff.database.execute(
            "UPDATE webhooks SET previous_secret_expires_at = clock_timestamp() WHERE id = $1::text::uuid", webhooks[0]
        )
        kept = "SELECT id::text FROM webhooks WHERE previous_secret IS NOT NULL"
        async with asyncio.timeout(10):
            while [row["id"] for row in await staff.database.fetch(kept)] != [webhooks[1]]:
                await asyncio.sleep(0.05)


async def failing(staff, webhook, *, days, warned_days=None, last_failure=timedelta(hours=20)):
    """Let a webhook have failed for so long."""
    await staff.database.execute(
        """
        UPDATE webhooks
        SET failing_since = clock_timestamp() - $2 * interval '1 day',
            last_failure_at = clock_timestamp() - $4::interval,
            warned_at = clock_timestamp() - $3 * interval '1 day'
        WHERE id = $1::text::uuid
        """,
        webhook,
        days,
        warned_days,
        last_failure,
    )
    await staff.make_due(webhook)


async def warned(staff, webhook):
    return await staff.database.fetchval("SELECT warned_at FROM webhooks WHERE id = $1::text::uuid", webhook)


async def test_staff_are_warned_before_a_webhook_that_only_fails_is_disabled(staff, caplog):
    async with receiving(answer(500)) as receiver:
        webhook = await staff.add(receiver)
        await staff.register()
        await staff.until(webhook, state="pending", attempts=1)
        assert await warned(staff, webhook) is None

        await failing(staff, webhook, days=6)  # nobody was warned: nothing is disabled yet
        await staff.until(webhook, state="pending", attempts=2)
        assert await warned(staff, webhook)
        assert (await staff.webhook(webhook))["enabled"]
        assert "webhook failing; after 5 days of nothing but failures it is disabled" in caplog.messages

        await failing(staff, webhook, days=4.9, warned_days=3)
        await staff.until(webhook, state="pending", attempts=3)
        assert (await staff.webhook(webhook))["enabled"]

        await failing(staff, webhook, days=5.1, warned_days=3)
        await staff.until(webhook, state="pending", attempts=4)

    assert (await staff.webhook(webhook))["disabled_reason"] == "failing"
    assert "webhook disabled" in caplog.messages
    enabled = (await staff.client.patch(f"/webhooks/{webhook}", json={"enabled": True})).json()
    assert (enabled["enabled"], enabled["failing_since"]) == (True, None)


async def test_one_failure_long_after_the_last_is_no_reason_to_disable(staff):
    async with receiving(answer(500)) as receiver:
        webhook = await staff.add(receiver)
        await staff.register()
        await staff.until(webhook, state="pending", attempts=1)
        await failing(staff, webhook, days=30, warned_days=29, last_failure=timedelta(days=25))
        await staff.until(webhook, state="pending", attempts=2)

    found = await staff.webhook(webhook)
    assert found["enabled"]
    assert datetime.fromisoformat(found["failing_since"]) > datetime.now(UTC) - timedelta(minutes=5)


async def test_a_success_ends_the_failures(staff):
    async with receiving(answer(500)) as receiver:
        webhook = await staff.add(receiver)
        await staff.register()
        await staff.until(webhook, state="pending", attempts=1)
        receiver.always(OK)
        await failing(staff, webhook, days=6, warned_days=5)
        await staff.until(webhook, state="delivered")

    assert (await staff.webhook(webhook))["failing_since"] is None
    assert await warned(staff, webhook) is None


async def test_with_a_new_key_old_secrets_are_read_and_encrypted_again(
    own_database_url, shared_billing_url, monkeypatch
):
    monkeypatch.setattr(delivering, "RESEAL_SECONDS", 0.3)
    old, new = "0123456789abcdef" * 3, "fedcba9876543210" * 3
    async with receiving() as receiver:
        async with staffed(own_database_url, shared_billing_url, secrets_key=old) as staff:
            webhook = await staff.add(receiver)
            secret = staff.secrets[webhook]
            await staff.client.post(f"/webhooks/{webhook}/rotate-secret")
            sealed = await staff.database.fetchval("SELECT secret FROM webhooks")
        rotated = {"secrets_key": new, "secrets_previous_key": old}
        async with staffed(own_database_url, shared_billing_url, **rotated) as staff:
            async with asyncio.timeout(10):
                while await staff.database.fetchval("SELECT secret FROM webhooks") == sealed:
                    await asyncio.sleep(0.05)
        async with staffed(own_database_url, shared_billing_url, secrets_key=new) as staff:
            await staff.register()
            [message] = await receiver.has(1)

    assert message.verified(secret)


async def test_a_secret_is_encrypted_again_even_if_the_previous_one_cannot_be_read(
    own_database_url, shared_billing_url, monkeypatch
):
    monkeypatch.setattr(delivering, "RESEAL_SECONDS", 0.2)
    old, new = "0123456789abcdef" * 3, "fedcba9876543210" * 3
    async with receiving() as receiver:
        async with staffed(own_database_url, shared_billing_url, secrets_key=old) as staff:
            webhook = await staff.add(receiver)
            await staff.client.post(f"/webhooks/{webhook}/rotate-secret")
            sealed = await staff.database.fetchrow("UPDATE webhooks SET previous_secret = 'lost' RETURNING *")
        rotated = {"secrets_key": new, "secrets_previous_key": old}
        async with staffed(own_database_url, shared_billing_url, **rotated) as staff, asyncio.timeout(10):
            while (now := await staff.database.fetchrow("SELECT * FROM webhooks"))["secret"] == sealed["secret"]:
                await asyncio.sleep(0.05)

    assert now["previous_secret"] == sealed["previous_secret"]


async def test_after_its_key_was_lost_a_new_secret_is_enough(own_database_url, shared_billing_url):
    async with receiving() as receiver:
        async with staffed(own_database_url, shared_billing_url) as staff:
            webhook = await staff.add(receiver)
        async with staffed(own_database_url, shared_billing_url, secrets_key="fedcba9876543210" * 3) as staff:
            rotated = (await staff.client.post(f"/webhooks/{webhook}/rotate-secret")).json()
            await staff.register()
            [message] = await receiver.has(1)

    assert rotated["previous_secret_expires_at"] is None
    assert message.verified(rotated["secret"])


async def test_without_its_key_a_secret_waits_and_the_webhook_is_not_blamed(own_database_url, shared_billing_url):
    async with receiving() as receiver:
        async with staffed(own_database_url, shared_billing_url) as staff:
            webhook = await staff.add(receiver)
        async with staffed(own_database_url, shared_billing_url, secrets_key="fedcba9876543210" * 3) as staff:
            await staff.register()
            for _ in range(len(delivering.WAITS) + 2):  # for as long as it takes
                row = await staff.until(webhook, state="pending", attempts=0, last_status=None)
                await staff.database.execute("UPDATE deliveries SET last_error = NULL")
                await staff.make_due(webhook)
                async with asyncio.timeout(20):
                    while (row := (await staff.deliveries(webhook))[0])["last_error"] is None:
                        await asyncio.sleep(0.02)
            found = await staff.webhook(webhook)
            test = await staff.client.post(f"/webhooks/{webhook}/test")
            assert receiver.messages == []
        async with staffed(own_database_url, shared_billing_url) as staff:
            await staff.make_due(webhook)
            await receiver.has(1)

    assert "SECRETS_KEY" in row["last_error"]
    assert test.status_code == 409
    assert test.json()["type"].endswith(":webhook-secret-unreadable")
    assert (found["enabled"], found["failing_since"]) == (True, None)
