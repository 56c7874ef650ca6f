"""Standard error is a pipe without a reader, or closed: requests get responses, and SIGTERM ends the process."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import signal
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from provider_registration.settings import Settings
from tests.pipelining import slowest_of
from tests.ports import a_port

from .conftest import Process
from .test_stopping import is_running, seconds_until_end
from .test_workers import WORKERS, all_are_up, eventually, metrics, workers_of

PIPE_BYTES = 4096  # the least that Linux has
REQUESTS = 6000  # lines of about 250 characters: more than pipe and queue hold
PROMISED = 15.0  # seconds
CHATTY = {"METRICS_ACCESS": "anyone", "RATE_LIMIT_DEFAULT": ""}
WITHOUT_STANDARD_ERROR = ("sh", "-c", 'exec "$@" 2>&-', "sh")


@pytest.fixture
def serving_into(fork_server, environment, tmp_path):
    """Runs `serve` with this descriptor as its standard error; yields what `serving` does."""

    @asynccontextmanager
    async def serving_into(standard_error, *options, **more):
        port = a_port()
        others = {name: value for name, value in os.environ.items() if name.lower() not in Settings.model_fields}
        variables = {**others, **environment, **CHATTY, **more, "APP_PORT": str(port)}
        inherited = Path(f"/proc/{os.getpid()}/fd/{standard_error}")
        running = fork_server.start(["serve", *options], variables, tmp_path, log=inherited)
        process = Process(f"http://127.0.0.1:{port}", inherited, running.pid)

        async def answers():
            assert running.poll() is None
            try:
                async with httpx.AsyncClient() as client:
                    return (await client.get(f"{process.url}/health/live")).is_success
            except httpx.TransportError:
                return False

        try:
            await eventually(answers)
            yield process
        finally:
            while running.poll() is None:
                running.kill()
                await asyncio.sleep(0.02)

    return serving_into


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
@pytest.mark.parametrize("options", [(), ("--workers", str(WORKERS))], ids=["one process", "two workers"])
async def test_an_unread_pipe_delays_no_request_and_no_exit(serving_into, tmp_path, pipe, options):
    folder = tmp_path / "temporary"
    folder.mkdir()
    async with serving_into(pipe["write"], *options, TMPDIR=str(folder)) as process:
        if options:
            await eventually(lambda: all_are_up(process))
        workers = workers_of(process.pid)
        assert bool(list(folder.glob("*"))) == bool(options)  # the metrics of several
        slowest = await slowest_of(process.url, REQUESTS, limit=PROMISED)
        if not options:
            assert await dropped(process.url) > 0

        os.kill(process.pid, signal.SIGTERM)
        assert await seconds_until_end(process.pid) < PROMISED

    assert slowest < PROMISED / 3
    assert not [pid for pid in workers if is_running(pid)]
    assert not list(folder.glob("*"))


@pytest.mark.asvs("V16.2.4")
async def test_once_the_pipe_is_read_lines_are_whole_and_drops_are_reported(serving_into, pipe):
    async with serving_into(pipe["write"]) as process:
        os.close(pipe["write"])
        pipe["write"] = None
        await slowest_of(process.url, REQUESTS, limit=PROMISED)
        missing = await dropped(process.url)
        reading = asyncio.create_task(asyncio.to_thread(read_all, pipe["read"]))
        await asyncio.sleep(0.5)
        await slowest_of(process.url, 20, limit=PROMISED)
        os.kill(process.pid, signal.SIGTERM)
        lines = [json.loads(line) for line in (await reading).splitlines()]

    # The line of the request for the figure may be dropped as well.
    assert 0 < missing <= sum(line.get("dropped", 0) for line in lines) <= missing + 1
    assert lines[-1]["message"].startswith("Finished server process")


def read_all(descriptor):
    parts = []
    while part := os.read(descriptor, 65536):
        parts.append(part)
    return b"".join(parts).decode()


async def test_a_reader_that_went_does_no_harm(serving_into, pipe):
    async with serving_into(pipe["write"]) as process:
        os.close(pipe["read"])
        pipe["read"] = None
        await slowest_of(process.url, 20, limit=PROMISED)
        await eventually(lambda: is_counted(process.url))
        os.kill(process.pid, signal.SIGTERM)
        assert await seconds_until_end(process.pid) < PROMISED


async def is_counted(url):
    return await dropped(url) > 0


async def test_a_standard_error_that_is_closed_does_no_harm(serving, environment, tmp_path):
    async with serving(environment | CHATTY, tmp_path, inside=WITHOUT_STANDARD_ERROR) as process:
        await slowest_of(process.url, 20, limit=PROMISED)
        async with httpx.AsyncClient() as client:
            assert (await client.get(f"{process.url}/health")).json()["database"] == "connected"
        assert await is_counted(process.url)
        os.kill(process.pid, signal.SIGTERM)
        assert await seconds_until_end(process.pid) < PROMISED
