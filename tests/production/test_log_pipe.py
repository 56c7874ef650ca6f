"""Standard error is a pipe without a reader, or closed: requests get responses, and SIGTERM ends the process."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import signal
import sys
from contextlib import asynccontextmanager

import httpx
import pytest

from provider_registration.local.postgres import free_port
from provider_registration.settings import Settings
from tests.pipelining import slowest_of

from .test_stopping import is_running, seconds_until_end
from .test_workers import eventually, is_alive, metrics, workers_of

PIPE_BYTES = 4096  # the least that Linux has
REQUESTS = 8000  # lines of about 250 characters: more than pipe and queue hold
PROMISED = 15.0  # seconds


@asynccontextmanager
async def serving_into(environment, folder, standard_error, *options):
    """Run `serve` with this standard error; yields the URL and the process."""
    port = free_port()
    others = {name: value for name, value in os.environ.items() if name.lower() not in Settings.model_fields}
    redirect = "exec 2>&-; " if standard_error is None else ""
    process = await asyncio.create_subprocess_exec(
        "sh",
        "-c",
        f'{redirect}exec "$@"',
        "sh",
        *(sys.executable, "-m", "provider_registration", "serve", *options),
        env={**others, **environment, "APP_PORT": str(port), "METRICS_ACCESS": "anyone", "RATE_LIMIT_DEFAULT": ""},
        cwd=folder,
        stderr=standard_error,
    )
    url = f"http://127.0.0.1:{port}"

    async def answers():
        assert process.returncode is None
        try:
            async with httpx.AsyncClient() as client:
                return (await client.get(f"{url}/health/live")).is_success
        except httpx.TransportError:
            return False

    try:
        await eventually(answers)
        yield url, process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@pytest.fixture
def pipe():
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    ends = {"read": reading, "write": writing}
    yield ends
    for each in ends.values():
        if each is not None:
            os.close(each)


async def dropped(url):
    return (await metrics(url)).get(("provider_service_log_lines_dropped_total",), 0)


@pytest.mark.asvs("V16.5.2")
@pytest.mark.parametrize("options", [(), ("--workers", "2")], ids=["one process", "two workers"])
async def test_an_unread_pipe_delays_no_request_and_no_exit(environment, tmp_path, pipe, options):
    async with serving_into(environment, tmp_path, pipe["write"], *options) as (url, process):
        slowest = await slowest_of(url, REQUESTS, limit=PROMISED)
        workers = workers_of(process.pid)
        if not options:
            assert await dropped(url) > 0

        process.send_signal(signal.SIGTERM)
        assert await seconds_until_end(process.pid) < PROMISED

    assert slowest < PROMISED / 3
    assert not [pid for pid in workers if is_alive(pid) and is_running(pid)]


@pytest.mark.asvs("V16.2.4")
async def test_once_the_pipe_is_read_lines_are_whole_and_drops_are_reported(environment, tmp_path, pipe):
    async with serving_into(environment, tmp_path, pipe["write"]) as (url, process):
        os.close(pipe["write"])
        pipe["write"] = None
        await slowest_of(url, REQUESTS, limit=PROMISED)
        missing = await dropped(url)
        reading = asyncio.create_task(asyncio.to_thread(read_all, pipe["read"]))
        await asyncio.sleep(0.5)
        await slowest_of(url, 20, limit=PROMISED)
        process.send_signal(signal.SIGTERM)
        await process.wait()
        lines = [json.loads(line) for line in (await reading).splitlines()]

    # The line of the request for the figure may be dropped as well.
    assert 0 < missing <= sum(line.get("dropped", 0) for line in lines) <= missing + 1
    assert lines[-1]["message"].startswith("Finished server process")


def read_all(descriptor):
    parts = []
    while part := os.read(descriptor, 65536):
        parts.append(part)
    return b"".join(parts).decode()


async def test_a_reader_that_went_does_no_harm(environment, tmp_path, pipe):
    async with serving_into(environment, tmp_path, pipe["write"]) as (url, process):
        os.close(pipe["read"])
        pipe["read"] = None
        await slowest_of(url, 20, limit=PROMISED)
        await eventually(lambda: is_counted(url))
        process.send_signal(signal.SIGTERM)
        assert await seconds_until_end(process.pid) < PROMISED


async def is_counted(url):
    return await dropped(url) > 0


async def test_a_standard_error_that_is_closed_does_no_harm(environment, tmp_path):
    async with serving_into(environment, tmp_path, None) as (url, process):
        await slowest_of(url, 20, limit=PROMISED)
        async with httpx.AsyncClient() as client:
            assert (await client.get(f"{url}/health")).json()["database"] == "connected"
        assert await is_counted(url)
        process.send_signal(signal.SIGTERM)
        assert await seconds_until_end(process.pid) < PROMISED
