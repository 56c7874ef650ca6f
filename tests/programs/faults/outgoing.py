"""E-mails, webhooks and the broker while the processes that send to them die: nothing is lost, and nothing changes.

A real mail server, receivers of webhooks and a NATS keep what they get, and it is compared with the database. A message
may come again if its process died between sending it and recording that: then it has the same ID and content.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from email.message import EmailMessage
from random import Random
from typing import Any

import asyncpg
from standardwebhooks import WebhookVerificationError

from provider_registration.notifications.composing import message_id_of
from tests.mail_server import Mailbox, mailbox
from tests.nats_server import Nats, running_nats
from tests.service import SECRETS_KEY
from tests.webhooks.receivers import OK, Message, Receiver, receiving

from .event_log import COUNT_QUEUED, LAST_POSITION, PROBLEMS, SOME_MOMENT, Writers, find_problems
from .invariants import Findings, conclude
from .kills import ASKING, CALLING, DISPATCHING, MAILING, PUBLISHING, REPLAYING
from .postgres_cluster import PostgresCluster
from .service_process import Replica
from .world import World

SENDING = (*MAILING, *CALLING, *PUBLISHING)
DATABASE_PLACES = (*SENDING, *DISPATCHING, SOME_MOMENT)
REACHED_SECONDS = 60.0
SETTLED_SECONDS = 240.0  # on a busy machine; for one process
LINKS = 10  # of e-mails that are opened
DOMAIN, STAFF, PUBLIC_URL = "supply.example", "staff@supply.example", "https://supply.example"
LINK = re.compile(rf"{PUBLIC_URL}/applications/([A-Za-z0-9_-]+)")
TYPES = ([], ["candidate.approved", "candidate.rejected"])  # of each webhook; all if empty
DECIDED = {"candidate.approved": "approved", "candidate.rejected": "rejected"}

FORGET_WEBHOOKS = "DELETE FROM webhooks"
FORGET_DELIVERIES = "DELETE FROM deliveries WHERE kind IN ('email', 'webhook')"
FORGET_BROKER = "DELETE FROM broker_positions"
PUBLISH_AFTER = "INSERT INTO broker_positions (name, position) VALUES ('nats', $1)"
# Those of processes that are dead.
END_LEASES = """
    UPDATE deliveries SET next_attempt_at = clock_timestamp()
    WHERE kind IN ('email', 'webhook') AND state = 'delivering'
    RETURNING id
"""
END_LEASE_OF_BROKER = "UPDATE broker_positions SET lease_ends_at = clock_timestamp() WHERE holder IS NOT NULL"
COUNT_WAITING = """
    SELECT (SELECT count(*) FROM event_queue) AS "events without a position",
           (SELECT count(*) FROM deliveries WHERE kind IN ('email', 'webhook') AND state IN ('pending', 'delivering'))
               AS "messages to send",
           (SELECT count(*) FROM webhooks WHERE replay_since IS NOT NULL) AS "replays that go on",
           (SELECT count(*) FROM event_positions WHERE position > (SELECT position FROM statistics_progress))
               AS "events to count",
           (SELECT last_position FROM event_dispatcher) - (SELECT position FROM broker_positions)
               AS "events to publish"
"""
SUMMARISE = """
    SELECT kind, target, state, attempts, last_error, count(*),
           CAST(extract(epoch FROM min(next_attempt_at) - clock_timestamp()) AS integer) AS seconds
    FROM deliveries
    WHERE kind IN ('email', 'webhook')
    GROUP BY 1, 2, 3, 4, 5
"""
FIND_OTHER_DELIVERIES = """
    WITH event AS (
        SELECT candidate_events.*
        FROM event_positions
        JOIN candidate_events ON candidate_events.id = event_positions.event_id
        WHERE position > $1
    ), wanted AS (
        SELECT id AS event_id, 'email' AS kind, 'applicant' AS target
        FROM event
        WHERE type IN ('candidate.registered', 'candidate.approved', 'candidate.rejected') AND NOT data ? 'backfilled'
        UNION
        SELECT id, 'email', 'staff:1' FROM event WHERE type = 'candidate.registered' AND NOT data ? 'backfilled'
        UNION
        SELECT event.id, 'webhook', CAST(webhooks.id AS text)
        FROM event
        JOIN webhooks ON webhooks.created_at <= event.at AND (types = '{}' OR event.type = ANY(types))
    ), early AS (  -- what a webhook may get, because it came before it but was not in the feed yet
        SELECT event.id, 'webhook', CAST(webhooks.id AS text)
        FROM event
        JOIN webhooks ON webhooks.created_at > event.at AND (types = '{}' OR event.type = ANY(types))
    ), found AS (
        SELECT event_id, kind, target FROM deliveries WHERE kind IN ('email', 'webhook')
    )
    SELECT concat_ws(' ', 'no', kind, target, event_id) FROM (TABLE wanted EXCEPT TABLE found) AS missing
    UNION ALL
    SELECT concat_ws(' ', 'unwanted', kind, target, event_id) FROM (
        TABLE found EXCEPT (TABLE wanted UNION TABLE early)
    ) AS more
"""
READ_DELIVERIES = """
    SELECT deliveries.id, kind, target, state, attempts, deliveries.created_at, event_id, event.type, event.at,
           event.candidate_id, event.version, sequence, contact_email, company_name,
           CAST(event.data ->> 'provider_id' AS integer) AS provider_id
    FROM deliveries
    JOIN candidate_events AS event ON event.id = event_id
    JOIN event_positions USING (event_id)
    JOIN candidates ON candidates.id = event.candidate_id
    WHERE kind IN ('email', 'webhook')
    ORDER BY deliveries.id
"""
READ_EVENTS = """
    SELECT event.id, event.type, event.candidate_id, sequence
    FROM event_positions
    JOIN candidate_events AS event ON event.id = event_id
    WHERE position > $1
    ORDER BY position
"""


@dataclass
class Hook:
    """A webhook, and the receiver behind it."""

    id: str
    created_at: str
    receiver: Receiver
    seen: int = 0  # messages before the last replay
    replayed: set[str] = field(default_factory=set)  # events that the last replay must send again
    replays: int = 0


@dataclass
class Messages:
    """An API, writers, and everybody who gets messages; the processes that send come and go."""

    world: World
    random: Random
    settings: dict[str, object]
    start: int  # the last position before
    api: Replica
    box: Mailbox
    hooks: list[Hook]
    nats: Nats
    writers: Writers
    writing: asyncio.Task[None]
    forged: list[str]
    interrupted: Counter[int] = field(default_factory=Counter)  # how often each delivery was, by a death
    counted: Counter[str] = field(default_factory=Counter)

    @classmethod
    @asynccontextmanager
    async def written(cls, world: World, random: Random) -> AsyncIterator[Messages]:
        """Write events during the block; nobody sends anything yet."""
        await _number_earlier_events(world)
        [row] = await world.fetch(LAST_POSITION)
        for statement in (FORGET_WEBHOOKS, FORGET_DELIVERIES, FORGET_BROKER):
            await world.fetch(statement)
        await world.fetch(PUBLISH_AFTER, row["last_position"])
        async with AsyncExitStack() as stopping:
            box = await stopping.enter_async_context(mailbox())
            # A short window, so that repeated messages are kept, and can be counted.
            nats = await stopping.enter_async_context(running_nats(duplicate_window=0.1))
            settings = {
                "RATE_LIMIT_REGISTRATION": "",
                "PUBLIC_PAGES": True,
                "SECRETS_KEY": SECRETS_KEY,
                "SMTP_URL": box.url(),
                "MAIL_FROM": f"Supply <supply@{DOMAIN}>",
                "PUBLIC_URL": PUBLIC_URL,
                "STAFF_MAIL_TO": STAFF,
                "STAFF_DIGEST": "each",
                "WEBHOOKS_ALLOW_HTTP": True,
                "WEBHOOKS_ALLOWED_NETWORKS": "127.0.0.0/8",
                "EVENTS_NATS_URL": nats.url,
            }
            api = await world.start("api", **settings, WORKERS=False)
            await world.log_in(api)
            forged: list[str] = []
            hooks = [await _add_webhook(world, api, types, forged, stopping) for types in TYPES]
            writers = Writers(world, [api], random, count=1, left=0)
            writing = asyncio.create_task(writers.run())
            start = row["last_position"]
            try:
                yield cls(world, random, settings, start, api, box, hooks, nats, writers, writing, forged)
            finally:
                writing.cancel()
                with suppress(asyncio.CancelledError):
                    await writing
                await world.fetch(FORGET_WEBHOOKS)
                await world.fetch(FORGET_DELIVERIES)

    async def start_sender(self, name: str, place: str = SOME_MOMENT, *, action: str = "kill") -> Replica:
        """Start a process that sends, and dies or waits at a failpoint."""
        how: dict[str, object] = dict(self.settings)
        if place != SOME_MOMENT:
            # Approvals are rare, and the first look queues a replay.
            hit = 1 if place in (*ASKING, REPLAYING) else self.random.randint(1, 2)
            how |= {"failpoint": place, "hit": hit, "action": action}
        is_worker = place in SENDING and self.random.random() < 0.5
        sender = await self.world.start(name, **how, COMMAND="work" if is_worker else "serve")
        if place in ASKING:
            self.writers.replicas.clear()  # so that it soon has an approval
        if not is_worker:
            self.writers.replicas.append(sender)
        return sender

    async def end(self, senders: Sequence[Replica]) -> None:
        """Kill the processes that send, and end their leases, as time would."""
        self.writers.replicas[:] = [self.api]
        for sender in senders:
            await self.world.kill(sender)
        self.interrupted.update([row["id"] for row in await self.world.fetch(END_LEASES)])
        await self.world.fetch(END_LEASE_OF_BROKER)

    async def until(self, is_reached: Callable[[], bool]) -> None:
        """Let companies register until a process is at its failpoint, but not more than it can handle."""
        async with asyncio.timeout(REACHED_SECONDS):
            while not is_reached():
                self.writers.left = 2
                with suppress(TimeoutError):
                    async with asyncio.timeout(1):
                        while not is_reached():
                            await asyncio.sleep(0.02)

    async def some_moment(self) -> None:
        """Let a few companies register meanwhile."""
        self.writers.left = 5
        await asyncio.sleep(self.random.uniform(0.0, 3.0))

    async def replay(self) -> None:
        """Ask for everything again while nobody sends."""
        for hook in self.hooks:
            response = await self.world.ask(
                self.api, "POST", f"/webhooks/{hook.id}/replay", json={"since": hook.created_at}
            )
            assert response is not None
            assert response.status_code == 202, response.text
            hook.replays += 1
            hook.seen, hook.replayed = len(hook.receiver.messages), {one.id for one in hook.receiver.messages}

    async def check(self) -> Findings:
        """Stop writing, wait until everything is sent, and compare."""
        self.writers.is_done = True
        await self.writing
        candidates = await self.writers.candidates()
        findings = await conclude(self.world, self.api, candidates)
        await self.end([])  # also what PostgreSQL committed for a process after its death
        sender = await self.start_sender("last")
        await self._until_sent()
        await self.world.stop(sender)
        deliveries = await self.world.fetch(READ_DELIVERIES)
        other = [row[0] for row in await self.world.fetch(FIND_OTHER_DELIVERIES, self.start)]
        for problems in (
            await find_problems(self.world, PROBLEMS, self.start, candidates),
            other,
            [f"delivery {row['id']} is {row['state']}" for row in deliveries if row["state"] != "delivered"],
            self._problems_of_mails([row for row in deliveries if row["kind"] == "email"]),
            await self._problems_of_links(),
            *(self._problems_of(hook, [row for row in deliveries if row["target"] == hook.id]) for hook in self.hooks),
            self.forged,
            await self._problems_of_broker(),
        ):
            if problems:
                findings.problems.append(f"{len(problems)}: {'; '.join(map(str, problems[:3]))}")
        assert len(deliveries) > len(candidates) > 0, "nothing happened"
        findings.counted = self.counted
        return findings

    async def _until_sent(self) -> None:
        waiting: dict[str, Any] = {}
        with suppress(TimeoutError):
            async with asyncio.timeout(SETTLED_SECONDS):
                while True:
                    [row] = await self.world.fetch(COUNT_WAITING)
                    waiting = dict(row)
                    if not any(waiting.values()):
                        return
                    await asyncio.sleep(0.3)
        unsent = [dict(row) for row in await self.world.fetch(SUMMARISE)]
        raise AssertionError(f"after {SETTLED_SECONDS:.0f} s there are {waiting}: {unsent}")

    def _repeats(self, what: str, row: asyncpg.Record, copies: int, allowed: int) -> str | None:
        """Count a message; what is wrong with the number of its copies."""
        self.counted[f"{what} messages"] += 1
        self.counted[f"{what} messages again"] += max(0, copies - 1)
        if not 1 <= copies <= allowed:
            return f"delivery {row['id']}, interrupted {self.interrupted[row['id']]} times, arrived {copies} times"
        return None

    def _problems_of_mails(self, deliveries: Sequence[asyncpg.Record]) -> list[str]:
        copies: dict[str, list[EmailMessage]] = defaultdict(list)
        for mail in self.box.mails:
            copies[mail["Message-ID"]].append(mail)
        subjects: dict[tuple[str, str], set[str]] = defaultdict(set)
        problems: list[str | None] = []
        for row in deliveries:
            found = copies.pop(f"<{message_id_of(row['id'], row['created_at'])}@{DOMAIN}>", [])
            problems.append(
                self._repeats("e-mail", row, len(found), min(row["attempts"], 1 + self.interrupted[row["id"]]))
            )
            to = row["contact_email"] if row["target"] == "applicant" else STAFF
            problems += [f"delivery {row['id']} went to another person" for mail in found if mail["To"] != to]
            subjects[row["target"], row["type"]] |= {mail["Subject"].replace(row["company_name"], "") for mail in found}
        problems += [f"{message_id} is no delivery's" for message_id in copies]
        if any(len(each) != 1 for each in subjects.values()) or len(set.union(*subjects.values())) != len(subjects):
            problems.append(f"other subjects: {dict(subjects)}")
        return [each for each in problems if each]

    async def _problems_of_links(self) -> list[str]:
        """Open some of the links in e-mails to companies: a repeated e-mail has another one, and both work."""
        mails = [mail for mail in self.box.mails if mail["To"] != STAFF]
        problems = []
        for mail in self.random.sample(mails, min(LINKS, len(mails))):
            link = LINK.search(mail.get_body(("plain",)).get_content())
            response = link and await self.world.ask(self.api, "GET", f"/applications/{link[1]}")
            if response is None or response.status_code != 200:
                problems.append(f"the link of {mail['Message-ID']} does not work: {link and response}")
        return problems

    def _problems_of(self, hook: Hook, deliveries: Sequence[asyncpg.Record]) -> list[str]:
        copies: dict[str, list[Message]] = defaultdict(list)
        for message in hook.receiver.messages:
            copies[message.id].append(message)
        problems: list[str | None] = []
        # Recorded before the webhook was added, and not in the feed by then: such an event is sent, but not replayed.
        began = datetime.fromisoformat(hook.created_at)
        early = {str(row["event_id"]) for row in deliveries if row["at"] < began}
        for row in deliveries:
            found = copies.pop(str(row["event_id"]), [])
            allowed = 1 + self.interrupted[row["id"]]
            allowed = allowed + hook.replays if hook.replays else min(row["attempts"], allowed)
            problems.append(self._repeats("webhook", row, len(found), allowed))
            if len({message.body for message in found}) > 1:
                problems.append(f"event {row['event_id']} arrived with several meanings")
            if found and str(row["event_id"]) not in early and not _is_about(found[0].event, row):
                problems.append(f"event {row['event_id']}, {dict(row)}, arrived as {found[0].event}")
        problems += [f"{message_id} is no delivery's" for message_id in copies]
        again = {message.id for message in hook.receiver.messages[hook.seen :]}
        problems += [f"event {event_id} was not sent again" for event_id in hook.replayed - again - early]
        return [each for each in problems if each]

    async def _problems_of_broker(self) -> list[str]:
        """Compare the events in the stream, once repeated ones are removed, with the feed."""
        stored = await self.nats.stored()
        first: dict[str, dict[str, Any]] = {}
        for message in stored:
            event = first.setdefault(message.headers["Nats-Msg-Id"], json.loads(message.data))
            if event != json.loads(message.data):
                return [f"event {event['id']} has several meanings"]
        self.counted["broker messages"] += len(first)
        self.counted["broker messages again"] += len(stored) - len(first)
        wanted = [
            (str(row["id"]), row["type"], str(row["candidate_id"]), row["sequence"])
            for row in await self.world.fetch(READ_EVENTS, self.start)
        ]
        found = [(event["id"], event["type"], event["subject"], event["data"]["sequence"]) for event in first.values()]
        if found == wanted:
            return []
        place = next((n for n, (one, other) in enumerate(zip(found, wanted, strict=False)) if one != other), -1)
        return [f"the stream has {len(found)} events instead of {len(wanted)}; the first other one is number {place}"]


def _is_about(event: dict[str, Any], row: asyncpg.Record) -> bool:
    """Whether a webhook's message says what the event of a delivery is."""
    return event["type"] == row["type"] and event["data"] == {
        "candidate_id": str(row["candidate_id"]),
        "status": DECIDED.get(row["type"], "pending"),
        "version": row["version"],
        "sequence": row["sequence"],
        "provider_id": row["provider_id"],
    }


async def kill_senders_at(world: World, places: Sequence[str], random: Random) -> Findings:
    """Kill a process at each failpoint in turn, alone or with a second one, and start others."""
    async with Messages.written(world, random) as messages:
        for place in places:
            if place == REPLAYING:
                await messages.replay()
            senders = []
            if place != REPLAYING and random.random() < 0.5:
                senders.append(await messages.start_sender("beside"))
            victim = await messages.start_sender("victim", place)
            senders.append(victim)
            if place == SOME_MOMENT:
                await messages.some_moment()
            else:
                await messages.until(lambda victim=victim: not victim.is_alive)
            await messages.end(senders)
            messages.counted["kills"] += 1
        return await messages.check()


async def kill_database_of_senders_at(world: World, places: Sequence[str], random: Random) -> Findings:
    """Kill PostgreSQL while a process is at each failpoint in turn; it continues before or after PostgreSQL is back."""
    cluster = world.cluster
    assert isinstance(cluster, PostgresCluster), "this PostgreSQL must not be killed"
    async with Messages.written(world, random) as messages:
        for place in places:
            if place == REPLAYING:
                await messages.replay()
            sender = await messages.start_sender("sender", place, action="wait")
            if place == SOME_MOMENT:
                await messages.some_moment()
            else:
                await messages.until(lambda sender=sender: sender.reached)
            cluster.kill()
            messages.counted["kills of PostgreSQL"] += 1
            goes_on_before = place != SOME_MOMENT and random.random() < 0.5
            try:
                if goes_on_before:
                    sender.pass_failpoint()
                    await asyncio.sleep(random.uniform(0.0, 0.5))
            finally:
                await cluster.restart()
            if place != SOME_MOMENT and not goes_on_before:
                sender.pass_failpoint()
            await asyncio.sleep(random.uniform(0.0, 0.5))
            await messages.end([sender])
        return await messages.check()


async def _number_earlier_events(world: World) -> None:
    """Let the events of earlier scenarios get their positions, so that no message is about them."""
    dispatcher = await world.start("dispatcher")
    async with asyncio.timeout(SETTLED_SECONDS):
        while (await world.fetch(COUNT_QUEUED))[0][0]:
            await asyncio.sleep(0.05)
    await world.kill(dispatcher)


async def _add_webhook(
    world: World, api: Replica, types: Sequence[str], forged: list[str], stopping: AsyncExitStack
) -> Hook:
    receiver = await stopping.enter_async_context(receiving())
    url = f"http://127.0.0.1:{receiver.port}/"
    response = await world.ask(api, "POST", "/webhooks", json={"url": url, "types": types})
    assert response is not None
    assert response.status_code == 201, response.text
    added = response.json()

    async def respond(message: Message, writer: asyncio.StreamWriter) -> None:
        try:
            message.verified(added["secret"])
        except WebhookVerificationError as error:
            forged.append(f"message {message.id}: {error}")
        writer.write(OK)

    receiver.respond = respond
    return Hook(added["webhook_id"], added["created_at"], receiver)
