"""Every event reaches the broker in order, whatever stops or is killed, and repeated ones have the same ID."""

from __future__ import annotations

import asyncio
import json
import subprocess
from contextlib import AsyncExitStack, asynccontextmanager

import asyncpg
import pytest

from provider_registration import failpoints
from provider_registration.broker import jetstream as connections
from provider_registration.broker import publisher as publishing
from provider_registration.broker.errors import BrokerUnavailable
from provider_registration.broker.jetstream import JetStream
from provider_registration.broker.models import SUBJECTS
from provider_registration.broker.publisher import PAGE, Publisher
from provider_registration.db.database import Database
from provider_registration.events.dispatcher import Dispatcher
from provider_registration.observability.metrics import OLDEST_UNPUBLISHED_SECONDS
from tests.events.candidates import add_candidate, add_event
from tests.nats_server import STREAM, Nats
from tests.ports import a_port

SOURCE = "https://supply.example"


@pytest.fixture
def nats(tmp_path):
    """A NATS without a stream."""
    nats = Nats(tmp_path)
    nats.start()
    yield nats
    nats.stop()


@pytest.fixture
async def stream(nats):
    """A NATS with a stream for the events."""
    await nats.add_stream()
    return nats


class Events:
    """The test's own database: writes events, numbers them, opens publishers."""

    def __init__(self, url, connection, stack):
        self.connection = connection
        self._url = url.replace("postgresql://", "postgresql+asyncpg://")
        self._stack = stack
        self._dispatcher = Dispatcher(self._database(), [])

    def _database(self):
        database = Database(self._url, pool_size=2)
        self._stack.push_async_callback(database.close)
        return database

    def publisher(self, url):
        """A publisher as in a process of its own."""
        jetstream = JetStream(url)
        self._stack.push_async_callback(jetstream.aclose)
        return Publisher(self._database(), jetstream, source=SOURCE)

    async def add(self, count=1):
        """Add a candidate with events; return the IDs of all of them."""
        candidate = await add_candidate(self.connection)
        await self.connection.execute(
            "INSERT INTO candidate_events (candidate_id, type, actor_kind) "
            "SELECT $1, 'candidate.approval_failed', 'service' FROM generate_series(2, $2)",
            candidate,
            count,
        )
        while await self._dispatcher.dispatch():
            pass
        await self._dispatcher.dispatch()
        query = "SELECT id FROM candidate_events WHERE candidate_id = $1 ORDER BY id"
        return [str(row["id"]) for row in await self.connection.fetch(query, candidate)]

    async def position(self):
        return await self.connection.fetchval("SELECT position FROM broker_positions")


@pytest.fixture
async def events(own_database_url):
    async with AsyncExitStack() as stack:
        connection = await asyncpg.connect(own_database_url)
        stack.push_async_callback(connection.close)
        yield Events(own_database_url, connection, stack)


def ids(messages):
    return [json.loads(message.data)["id"] for message in messages]


async def drain(publisher):
    while await publisher.publish():
        pass


async def test_an_event_is_a_cloud_event_without_names(events, stream):
    publisher = events.publisher(stream.url)
    await publisher.publish()
    [event_id] = await events.add()
    candidate = await events.connection.fetchrow("SELECT id, contact_email FROM candidates")
    await events.connection.execute(
        "UPDATE candidate_events "
        """SET data = '{"idempotency_key": "k", "provider_id": 7}', at = '2026-03-14 09:26:53+00'"""
    )

    await publisher.publish()

    [message] = await stream.stored()
    assert json.loads(message.data) == {
        "specversion": "1.0",
        "id": event_id,
        "source": SOURCE,
        "type": "candidate.registered",
        "time": "2026-03-14T09:26:53Z",
        "subject": str(candidate["id"]),
        "sequence": "0000000001",
        "datacontenttype": "application/json",
        "data": {"candidate_id": str(candidate["id"]), "version": 1, "sequence": 1, "data": {"provider_id": 7}},
    }
    assert message.subject == "provider_registration.candidate.registered"
    assert message.headers == {"Nats-Msg-Id": event_id, "Content-Type": "application/cloudevents+json"}


async def test_every_event_arrives_in_order_from_the_first_start_on(events, stream):
    await events.add(3)  # before the first start
    publisher = events.publisher(stream.url)
    assert await publisher.publish() is False
    added = await events.add(2 * PAGE + 1) + await events.add()

    assert [await publisher.publish() for _ in range(4)] == [True, True, False, False]

    assert ids(await stream.stored()) == added


async def test_an_event_of_a_type_that_only_a_later_release_knows_is_published(events, stream):
    publisher = events.publisher(stream.url)
    await publisher.publish()
    candidate = await add_candidate(events.connection)
    await add_event(events.connection, candidate, "teleported")
    await events.add()
    await publisher.publish()

    types = [message.subject.removeprefix(f"{SUBJECTS}.candidate.") for message in await stream.stored()]
    assert types == ["registered", "teleported", "registered"]


async def test_while_nats_is_down_events_wait_and_then_arrive_in_order(events, stream):
    publisher = events.publisher(stream.url)
    await publisher.publish()
    first = await events.add(2)
    await publisher.publish()
    stream.stop()
    second = await events.add(3)
    for _ in range(2):
        with pytest.raises(BrokerUnavailable):
            await publisher.publish()
    assert OLDEST_UNPUBLISHED_SECONDS._value.get() > 0
    stream.start()

    await publisher.publish()
    await publisher.publish()

    assert ids(await stream.stored()) == first + second
    assert OLDEST_UNPUBLISHED_SECONDS._value.get() == 0


async def test_a_position_in_use_is_told_from_one_that_nobody_uses(events, stream):
    publisher = events.publisher(stream.url)
    await publisher.publish()
    is_recent = "SELECT used_at > now() - interval '1 hour' FROM broker_positions"
    await events.connection.execute("UPDATE broker_positions SET used_at = now() - interval '2 hours'")
    assert not await events.connection.fetchval(is_recent)
    stream.stop()

    await publisher.publish()

    assert await events.connection.fetchval(is_recent)
    stream.start()


async def test_when_a_publisher_is_killed_before_it_moves_the_position_repeats_are_removed(events, stream, monkeypatch):
    killed, other = events.publisher(stream.url), events.publisher(stream.url)
    await killed.publish()
    added = await events.add(3)

    class Killed(BaseException):
        pass

    async def die(name):
        if name == "broker.before-release":
            raise Killed

    monkeypatch.setattr(failpoints, "hook", die)
    with pytest.raises(Killed):
        await killed.publish()
    monkeypatch.setattr(failpoints, "hook", None)
    assert ids(await stream.stored()) == added
    added += await events.add()
    await other.publish()
    assert len(await stream.stored()) == 3  # the lease has not ended

    await events.connection.execute("UPDATE broker_positions SET lease_ends_at = clock_timestamp()")
    await other.publish()

    assert ids(await stream.stored()) == added
    assert await events.position() == 4


async def test_a_publisher_that_lost_its_lease_does_not_move_the_position(events, stream, monkeypatch):
    slow, other = events.publisher(stream.url), events.publisher(stream.url)
    await slow.publish()
    added = await events.add(2)

    async def lose(name):
        monkeypatch.setattr(failpoints, "hook", None)
        await events.connection.execute("UPDATE broker_positions SET lease_ends_at = clock_timestamp()")
        added.extend(await events.add(2))
        await other.publish()

    monkeypatch.setattr(failpoints, "hook", lose)
    await slow.publish()

    assert await events.position() == 4
    assert ids(await stream.stored()) == added


async def test_two_processes_do_not_publish_at_the_same_time(events, stream, monkeypatch):
    publishers = [events.publisher(stream.url) for _ in range(3)]
    for publisher in publishers:
        await publisher.publish()
    active, most = 0, 0
    send = JetStream.publish

    async def publish(self, messages):
        nonlocal active, most
        active += 1
        most = max(most, active)
        await asyncio.sleep(0.01)
        stored = await send(self, messages)
        active -= 1
        return stored

    monkeypatch.setattr(JetStream, "publish", publish)
    monkeypatch.setattr(publishing, "PAGE", 5)
    added = await events.add(40)

    async def work(publisher):
        for _ in range(30):
            await publisher.publish()

    await asyncio.gather(*(work(publisher) for publisher in publishers))

    assert most == 1
    while await publishers[0].publish():  # the rounds may end before the events, if others had the turn in most of them
        pass
    assert ids(await stream.stored()) == added


async def test_without_a_stream_events_wait_until_there_is_one(events, nats):
    publisher = events.publisher(nats.url)
    await publisher.publish()
    added = await events.add(2)
    with pytest.raises(BrokerUnavailable, match="no stream"):
        await publisher.publish()
    await nats.add_stream()

    await publisher.publish()

    assert ids(await nats.stored()) == added


async def test_a_stream_that_is_full_does_not_lose_events(events, nats):
    await nats.add_stream(max_msgs=2, discard="new")
    publisher = events.publisher(nats.url)
    await publisher.publish()
    added = await events.add(5)
    await publisher.publish()
    with pytest.raises(BrokerUnavailable, match="maximum messages"):
        await publisher.publish()
    async with nats.client() as client:
        await client.jetstream().update_stream(name=STREAM, subjects=[f"{SUBJECTS}.>"], max_msgs=-1, discard="new")

    await publisher.publish()

    assert ids(await nats.stored()) == added


@asynccontextmanager
async def slow_line(target, *, seconds):
    """A port that passes answers on one at a time, each after `seconds`."""
    port = a_port()

    async def serve(reader, writer):
        other_reader, other_writer = await asyncio.open_connection("127.0.0.1", target)

        async def forward():
            while data := await reader.read(65536):
                other_writer.write(data)

        async def back():
            while line := await other_reader.readline():
                if b"PubAck" in line or line.startswith(b'{"stream"'):
                    await asyncio.sleep(seconds)
                writer.write(line)

        # The publisher closes its connection while answers are on their way: one side ends first, or fails.
        passing = [asyncio.create_task(each()) for each in (forward, back)]
        await asyncio.wait(passing, return_when=asyncio.FIRST_COMPLETED)
        for each in passing:
            each.cancel()
        await asyncio.gather(*passing, return_exceptions=True)
        for side in (writer, other_writer):
            side.close()

    server = await asyncio.start_server(serve, "127.0.0.1", port)
    yield f"nats://127.0.0.1:{port}"
    server.close()


async def test_slow_acknowledgements_hold_nothing_up_for_ever(events, stream, monkeypatch):
    monkeypatch.setattr(connections, "PUBLISH_SECONDS", 0.5)
    async with slow_line(stream.port, seconds=0.1) as url:
        publisher = events.publisher(url)
        await publisher.publish()
        added = await events.add(12)
        positions = []
        async with asyncio.timeout(30):
            while not positions or positions[-1] < 12:
                await publisher.publish()
                positions.append(await events.position())

    assert len(set(positions)) > 2  # some of them at a time
    assert ids(await stream.stored()) == added


async def test_no_socket_stays_open_if_the_client_does_not_close_it_in_time(stream, monkeypatch):
    jetstream = JetStream(stream.url)
    await jetstream.connect()
    socket = jetstream._client._transport._io_writer
    close = jetstream._client.close
    monkeypatch.setattr(connections, "CLOSE_SECONDS", 0.01)
    monkeypatch.setattr(jetstream._client, "close", lambda: asyncio.sleep(60))

    await jetstream.aclose()

    assert socket.is_closing()
    await close()


async def test_events_that_were_deleted_before_they_were_published_are_reported(events, stream, caplog):
    publisher = events.publisher(stream.url)
    await publisher.publish()
    await events.add(2)
    later = await events.add(2)
    await events.connection.execute("DELETE FROM event_positions WHERE position <= 2")
    await events.connection.execute("UPDATE event_dispatcher SET pruned_position = 2")

    await publisher.publish()
    await publisher.publish()

    assert ids(await stream.stored()) == later
    assert [record.message for record in caplog.records] == ["events were deleted before they were published"]


async def test_after_the_events_were_numbered_again_all_are_published_again(events, stream):
    publisher = events.publisher(stream.url)
    await publisher.publish()
    first = await events.add(3)
    await publisher.publish()
    await events.connection.execute("UPDATE broker_positions SET position = 1000")
    second = await events.add()

    await publisher.publish()

    assert ids(await stream.stored()) == first + second
    assert await events.position() == 4


async def test_tls_is_required_before_the_password_is_sent(tmp_path, events):
    config = tmp_path / "nats.conf"
    config.write_text('authorization { user: publisher, password: "p@ss" }')
    nats = Nats(tmp_path / "store", "-c", config)
    nats.start()
    try:
        publisher = events.publisher(f"tls://publisher:p%40ss@127.0.0.1:{nats.port}")
        await publisher.publish()
        await events.add()
        with pytest.raises(BrokerUnavailable, match="TLS"):
            await publisher.publish()
        with pytest.raises(BrokerUnavailable, match="Authorization"):
            await events.publisher(f"nats://publisher:wrong@127.0.0.1:{nats.port}").publish()
        nats.url = f"nats://publisher:p%40ss@127.0.0.1:{nats.port}"
        with pytest.raises(BrokerUnavailable, match="no stream"):
            await events.publisher(nats.url).publish()
    finally:
        nats.stop()


@pytest.fixture
def certificate(tmp_path):
    """A certificate for 127.0.0.1 with its key, in PEM files."""
    paths = tmp_path / "certificate.pem", tmp_path / "key.pem"
    new = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=127.0.0.1"
    names = ["-addext", "subjectAltName=IP:127.0.0.1", "-out", paths[0], "-keyout", paths[1]]
    subprocess.run([*new.split(), *names], check=True, capture_output=True)
    return paths


async def test_with_tls_the_certificate_must_be_valid(events, certificate, tmp_path, monkeypatch):
    options = "--user", "publisher", "--pass", "p@ss", "--tls", "--tlscert", certificate[0], "--tlskey", certificate[1]
    nats = Nats(tmp_path / "store", *options)
    nats.start()
    url = f"tls://publisher:p%40ss@127.0.0.1:{nats.port}"
    try:
        publisher = events.publisher(url)
        await publisher.publish()
        await events.add()
        with pytest.raises(BrokerUnavailable, match="CERTIFICATE_VERIFY_FAILED"):
            await publisher.publish()
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
        with pytest.raises(BrokerUnavailable, match="no stream"):
            await publisher.publish()
    finally:
        nats.stop()
