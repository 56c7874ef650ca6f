"""The feed of events, by pages and as a stream."""

from __future__ import annotations

import asyncio
import json
import random
from contextlib import asynccontextmanager

import asyncpg
import pytest

from provider_registration.events.stream import MAX_STREAMS
from tests.events.candidates import add_candidate, add_event
from tests.service import PASSWORD

LONG = 30.0  # seconds, longer than anything here takes on a busy machine


async def read_until(admin, ids, after="0", types=None, limit=100):
    """Read pages from a cursor until the events with these IDs came; all that came, and the cursor."""
    seen = []
    async with asyncio.timeout(LONG):
        while not ids <= {event["id"] for event in seen}:
            parameters = {"after": after, "limit": limit} | ({"types": types} if types else {})
            response = await admin.get("/events", params=parameters)
            assert response.status_code == 200, response.text
            seen += response.json()["events"]
            after = response.json()["next_after"]
            await asyncio.sleep(0.02)
    return seen, after


async def latest(admin):
    """The cursor after all that is in the feed, with nothing left in the queue."""
    return (await admin.get("/events", params={"after": "latest"})).json()["next_after"]


@pytest.fixture
def events_of(admin):
    async def events_of(candidate):
        return (await admin.get(f"/candidates/{candidate['candidate_id']}/events")).json()["events"][::-1]

    return events_of


async def test_every_event_comes_once_in_order_and_the_cursor_goes_on(admin, register, events_of):
    start = await latest(admin)
    candidates = [await register() for _ in range(3)]
    for candidate in candidates:
        await admin.post(f"/candidates/{candidate['candidate_id']}/reject", json={"reason": "No"})
    ids = {event["id"] for candidate in candidates for event in await events_of(candidate)}

    seen, cursor = await read_until(admin, ids, start, limit=2)

    found = [event["id"] for event in seen if event["id"] in ids]
    assert sorted(found) == sorted(ids)
    for candidate in candidates:
        own = [event for event in seen if event["candidate_id"] == candidate["candidate_id"]]
        assert [(event["sequence"], event["type"]) for event in own] == [
            (1, "candidate.registered"),
            (2, "candidate.rejected"),
        ]
    assert "name" not in seen[-1]["actor"]
    again = (await admin.get("/events", params={"after": cursor})).json()
    assert not ids & {event["id"] for event in again["events"]}


async def test_a_page_of_other_types_is_empty_and_goes_on(admin, register, events_of):
    start = await latest(admin)
    candidate = await register()
    await admin.post(f"/candidates/{candidate['candidate_id']}/reject", json={"reason": "No"})
    [_, rejected] = await events_of(candidate)

    seen, cursor = await read_until(admin, {rejected["id"]}, start, types="candidate.rejected,candidate.erased")

    assert {event["type"] for event in seen} <= {"candidate.rejected", "candidate.erased"}
    assert int(cursor) > int(start)
    nothing = (await admin.get("/events", params={"after": start, "types": "candidate.provider_orphaned"})).json()
    assert nothing["events"] == []
    assert int(nothing["next_after"]) >= int(cursor)


async def test_a_cursor_that_is_not_kept_is_gone_and_one_never_issued_is_unknown(admin, register, database, events_of):
    candidate = await register()
    [event] = await events_of(candidate)
    _, cursor = await read_until(admin, {event["id"]})
    future = str(int(cursor) + 1_000_000)
    response = await admin.get("/events", params={"after": future})
    assert response.status_code == 422
    assert response.json()["type"].endswith("cursor-unknown")

    await database.execute("UPDATE event_dispatcher SET pruned_position = 1")
    try:
        response = await admin.get("/events", params={"after": "0"})
        assert response.status_code == 410
        assert response.json()["type"].endswith("cursor-expired")
        assert (await admin.get("/events")).status_code == 200
    finally:
        await database.execute("UPDATE event_dispatcher SET pruned_position = 0")


@pytest.mark.parametrize(
    "parameters",
    [{"after": "x"}, {"after": "-1"}, {"after": "9" * 19}, {"types": "candidate.eaten"}, {"limit": 1001}, {"page": 1}],
)
async def test_other_parameters_are_refused(admin, parameters):
    assert (await admin.get("/events", params=parameters)).status_code == 422


async def test_viewers_read_no_feed(viewer):
    assert (await viewer.get("/events")).status_code == 403
    assert (await viewer.get("/events/stream")).status_code == 403


@asynccontextmanager
async def streaming(client, **options):
    async with client.stream("GET", "/events/stream", timeout=LONG, **options) as response:
        assert response.status_code == 200, await response.aread()
        assert response.headers["content-type"].startswith("text/event-stream")
        yield response.aiter_lines()


async def next_event(lines):
    """The next message of a stream: its fields."""
    fields = {}
    async with asyncio.timeout(LONG):
        async for line in lines:
            if not line and "data" in fields:
                return fields
            if not line:
                fields = {}
            elif not line.startswith(":"):
                name, _, value = line.partition(": ")
                fields[name] = value
    raise EOFError


async def follow(lines, ids):
    """Events of a stream until those with these IDs came."""
    seen = []
    while not ids <= {event["id"] for event in seen}:
        fields = await next_event(lines)
        seen.append({**json.loads(fields["data"]), "cursor": fields["id"]})
    return seen


async def test_a_stream_tells_what_happens_from_now_on(admin, register, events_of):
    before = await register()
    async with streaming(admin) as lines:
        await anext(lines)  # it is open
        candidate = await register()
        ids = {event["id"] for event in await events_of(candidate)}
        seen = await follow(lines, ids)

    assert [event["type"] for event in seen if event["id"] in ids] == ["candidate.registered"]
    assert before["candidate_id"] not in {event["candidate_id"] for event in seen[1:]}


async def test_a_stream_goes_on_after_the_last_event_that_was_seen(admin, register, events_of):
    start = await latest(admin)
    first, second = await register(), await register()
    [one], [two] = await events_of(first), await events_of(second)
    async with streaming(admin, params={"after": start}) as lines:
        seen = await follow(lines, {one["id"]})
    async with streaming(admin, headers={"Last-Event-ID": seen[-1]["cursor"]}) as lines:
        more = await follow(lines, {two["id"]} - {event["id"] for event in seen})

    ids = [event["id"] for event in [*seen, *more]]
    assert len(set(ids)) == len(ids)
    assert {one["id"], two["id"]} <= set(ids)


async def test_a_stream_that_was_cut_before_its_first_event_goes_on_where_it_began(admin, register, events_of):
    async with streaming(admin, params={"after": "latest"}) as lines:
        name, _, start = (await anext(lines)).partition(": ")
    [event] = await events_of(await register())

    async with streaming(admin, headers={"Last-Event-ID": start}) as lines:
        seen = await follow(lines, {event["id"]})

    assert name == "id"
    assert event["id"] in {each["id"] for each in seen}


@pytest.mark.parametrize("cursor", ["999999999999", "9" * 19, "-1", "of another service"])
async def test_a_stream_whose_cursor_is_not_kept_or_is_none_says_so(admin, cursor):
    async with streaming(admin, headers={"Last-Event-ID": cursor}) as lines:
        fields = await next_event(lines)

    assert fields["event"] == "resync"
    assert int(json.loads(fields["data"])["next_after"]) < 999999999999


async def test_an_empty_cursor_is_none(admin, register, events_of):
    async with streaming(admin, headers={"Last-Event-ID": ""}) as lines:
        await anext(lines)  # it is open
        [event] = await events_of(await register())
        await follow(lines, {event["id"]})


async def test_a_session_has_a_bounded_number_of_streams(service, users, connect):
    async with connect(service.url) as client:
        await users.create("streams@example.com", PASSWORD, "admin")
        login = {"username": "streams@example.com", "password": PASSWORD}
        token = (await client.post("/auth/login", json=login)).json()["access_token"]
    async with connect(service.url, token) as client:
        opened = [streaming(client) for _ in range(MAX_STREAMS)]
        lines = [await each.__aenter__() for each in opened]
        for each in lines:
            await anext(each)

        response = await client.get("/events/stream")

        assert response.status_code == 429
        assert int(response.headers["retry-after"]) > 0
        assert f"{MAX_STREAMS} open streams" in response.json()["detail"]
        for each in opened:
            await each.__aexit__(None, None, None)
        async with asyncio.timeout(LONG):
            while (await open_and_close(client)) == 429:
                await asyncio.sleep(0.1)


async def open_and_close(client):
    async with client.stream("GET", "/events/stream", timeout=LONG) as response:
        return response.status_code


async def test_head_of_a_stream_opens_none(admin):
    for _ in range(MAX_STREAMS + 1):
        response = await admin.head("/events/stream")
        assert (response.status_code, response.content) == (200, b"")


async def test_a_stream_ends_soon_after_its_session(service, users, connect):
    async with connect(service.url) as client:
        await users.create("ended@example.com", PASSWORD, "admin")
        login = {"username": "ended@example.com", "password": PASSWORD}
        token = (await client.post("/auth/login", json=login)).json()["access_token"]
    async with connect(service.url, token) as client, streaming(client) as lines:
        await anext(lines)
        assert (await client.post("/auth/logout")).status_code == 204
        with pytest.raises(EOFError):
            while True:
                await next_event(lines)


async def test_many_writers_and_a_reader_that_reconnects_at_random(admin, database, migrated_database_url):
    """Every event comes once, in order, and each candidate's own in theirs; by pages and by streams in turns."""
    start = cursor = await latest(admin)
    choose = random.Random(20261129)  # noqa: S311 - a reader
    candidates = [await add_candidate(database) for _ in range(10)]
    ids: set[str] = set()

    async def write(candidate):
        connection = await asyncpg.connect(migrated_database_url)
        try:
            for _ in range(30):
                ids.add(str(await add_event(connection, candidate)))
        finally:
            await connection.close()

    writing = asyncio.gather(*(write(candidate) for candidate in candidates for _ in range(2)))
    seen = []
    async with asyncio.timeout(60):
        while not (writing.done() and ids <= {event["id"] for event in seen}):
            if choose.random() < 0.5:
                page = (await admin.get("/events", params={"after": cursor, "limit": choose.randint(1, 50)})).json()
                seen += page["events"]
                cursor = page["next_after"]
            else:
                async with streaming(admin, headers={"Last-Event-ID": cursor}) as lines:
                    for _ in range(choose.randint(1, 40)):
                        try:
                            async with asyncio.timeout(1.5):
                                fields = await next_event(lines)
                        except TimeoutError:
                            break
                        seen.append(json.loads(fields["data"]))
                        cursor = fields["id"]
    await writing

    found = [event["id"] for event in seen]
    assert len(set(found)) == len(found)
    for candidate in candidates:
        own = [event["sequence"] for event in seen if event["candidate_id"] == str(candidate)]
        assert own == list(range(1, 62))
    whole, _ = await read_until(admin, ids, start)
    assert [event["id"] for event in whole][: len(found)] == found
