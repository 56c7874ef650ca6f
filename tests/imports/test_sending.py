"""Files are larger than other bodies, but only for admins, and only as large as they may be."""

from __future__ import annotations

import asyncio
import time

import httpx
import pytest

from provider_registration.imports.limits import MAX_FILE_BYTES
from provider_registration.imports.service import MAX_STORED, READ_AT_ONCE
from provider_registration.web.body import MAX_BODY_BYTES

from .files import a_row, as_csv

LARGE = as_csv([a_row(location="x" * 250) for _ in range(400)])


def in_pieces(content, size=4096):
    async def pieces():
        for start in range(0, len(content), size):
            yield content[start : start + size]

    return pieces()


@pytest.mark.parametrize("is_chunked", [False, True])
async def test_a_file_may_be_larger_than_other_bodies(send, is_chunked):
    assert len(LARGE) > 2 * MAX_BODY_BYTES
    response = await send(in_pieces(LARGE, 1024) if is_chunked else LARGE)
    assert response.status_code == 201, response.text
    assert response.json()["rows"] == 400


async def test_only_an_admin_may_send_one(anonymous, viewer):
    for client, status in ((anonymous, 401), (viewer, 403)):
        response = await client.post("/imports", content=LARGE, headers={"Content-Type": "text/csv"})
        assert response.status_code == status


@pytest.mark.parametrize("is_chunked", [False, True])
async def test_a_file_over_the_limit_is_refused(send, is_chunked):
    content = b"Company\r\n" + b"a" * 99 * (MAX_FILE_BYTES // 99) + b"a" * 200
    try:
        response = await send(in_pieces(content, 65536) if is_chunked else content)
    except httpx.HTTPError:  # the connection is closed while the rest is sent
        return
    assert (response.status_code, response.json()["type"].rpartition(":")[2]) == (413, "body-too-large")


async def test_other_bodies_of_admins_stay_small(admin):
    response = await admin.post("/imports/0b8f3c52-94b1-4c43-9f0e-6a1f5f2d7c11/start", content=b" " * 70_000)
    assert response.status_code == 413


@pytest.mark.parametrize("media_type", ["application/json", "multipart/form-data; boundary=x", ""])
async def test_other_media_types_are_refused(send, media_type):
    assert (await send(b"Company\r\na\r\n", headers={"Content-Type": media_type})).status_code == 415


async def test_what_cannot_be_read_leaves_nothing(send, database):
    before = await database.fetchval("SELECT count(*) FROM imports")
    response = await send(b"Company\r\n")
    assert (response.status_code, response.json()["type"].rpartition(":")[2]) == (422, "file-unreadable")
    assert await database.fetchval("SELECT count(*) FROM imports") == before


async def test_a_client_that_leaves_in_the_middle_leaves_nothing(admin, database):
    async def broken():
        yield LARGE[:100_000]
        raise ConnectionResetError

    before = await database.fetchval("SELECT count(*) FROM imports")
    with pytest.raises(ConnectionResetError):
        await admin.post("/imports", content=broken(), headers={"Content-Type": "text/csv"})
    async with asyncio.timeout(20):
        while await database.fetchval("SELECT count(*) FROM imports") != before:
            await asyncio.sleep(0.05)


async def test_few_files_are_read_at_once(send, database):
    release, reading = asyncio.Event(), asyncio.Semaphore(0)

    async def slow():
        yield b"Company\r\n"
        reading.release()
        await release.wait()
        yield b"a\r\n"

    async def until_read_at_once(number):
        async with asyncio.timeout(30):
            while await database.fetchval("SELECT count(*) FROM imports WHERE NOT is_read") != number:
                await asyncio.sleep(0.05)

    await until_read_at_once(0)  # what earlier tests broke off
    first = [asyncio.create_task(send(slow())) for _ in range(READ_AT_ONCE)]
    for _ in first:
        await asyncio.wait_for(reading.acquire(), 30)
    await until_read_at_once(READ_AT_ONCE)
    refused = await send(b"Company\r\na\r\n")  # whole: a client that goes on sending would not read the response
    assert (refused.status_code, refused.json()["type"].rpartition(":")[2]) == (429, "imports-busy")
    assert refused.headers["Retry-After"] == "10"
    release.set()
    responses = await asyncio.gather(*first)
    assert [response.status_code for response in responses] == [201] * READ_AT_ONCE
    assert (await send(b"Company\r\na\r\n")).status_code == 201


async def test_no_more_files_are_stored_than_staff_can_look_through(send, database):
    await database.execute(
        "INSERT INTO imports (id, actor_kind, actor_id, is_read) "
        "SELECT gen_random_uuid(), 'user', gen_random_uuid(), false FROM generate_series(1, $1)",
        MAX_STORED,
    )
    refused = await send(b"Company\r\na\r\n")
    await database.execute("DELETE FROM imports WHERE NOT is_read")
    assert (refused.status_code, refused.json()["type"].rpartition(":")[2]) == (429, "too-many-imports")


async def test_other_requests_do_not_wait_while_a_file_is_read(send, anonymous):
    content = as_csv([a_row() for _ in range(4000)])
    sending = asyncio.create_task(send(content))
    slowest = 0.0
    while not sending.done():
        started = time.perf_counter()
        await anonymous.get("/health/live")
        slowest = max(slowest, time.perf_counter() - started)
        await asyncio.sleep(0.005)
    assert (await sending).status_code == 201
    assert slowest < 5, "a machine may be busy, but reading 4,000 rows does not stop the service"
