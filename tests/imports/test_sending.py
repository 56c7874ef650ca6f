"""Files are larger than other bodies, but only for admins, and only as large as they may be."""

from __future__ import annotations

import asyncio
import time
from uuid import uuid4

import httpx
import pytest

from provider_registration.audit.models import Actor
from provider_registration.db.database import Database
from provider_registration.imports.errors import ImportsBusy
from provider_registration.imports.limits import MAX_FILE_BYTES
from provider_registration.imports.service import READ_AT_ONCE, ImportService
from provider_registration.jobs.service import JobService
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


async def test_few_files_are_read_at_once(settings, database):
    release, actor = asyncio.Event(), Actor.user(uuid4())
    reading = asyncio.Semaphore(0)

    async def slow():
        yield b"Company\r\n"
        reading.release()
        await release.wait()
        yield b"a\r\n"

    opened = Database(settings.database_url, pool_size=3)
    service = ImportService(opened, JobService(opened))
    first = [asyncio.create_task(service.add(slow(), actor=actor)) for _ in range(READ_AT_ONCE)]
    for _ in first:
        await asyncio.wait_for(reading.acquire(), 30)
    with pytest.raises(ImportsBusy):
        await service.add(slow(), actor=actor)
    release.set()
    assert len(set(await asyncio.gather(*first))) == READ_AT_ONCE
    await database.execute("DELETE FROM imports WHERE actor_id = $1", actor.id)
    await opened.close()


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
