"""`serve --workers`: several processes behind one port, and one set of metrics for all of them."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

WORKERS = 2
OPEN = {"METRICS_ACCESS": "anyone"}


def workers_of(pid):
    """Process ids of the workers: Python starts child processes with `spawn_main`."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return {int(child) for child in children if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()}


async def metrics(url):
    """Each request has its own connection, so that any worker may handle it."""
    async with httpx.AsyncClient() as client:
        text = (await client.get(f"{url}/metrics")).raise_for_status().text
    return {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def eventually(condition):
    async with asyncio.timeout(90):  # uvicorn waits 60 s for an unresponsive worker
        while not await condition():
            await asyncio.sleep(0.2)


@pytest.fixture(scope="module")
async def process(serving, environment, tmp_path_factory):
    folder = tmp_path_factory.mktemp("workers")
    async with serving(environment | OPEN, folder, "--workers", str(WORKERS)) as process:
        await eventually(lambda: all_are_up(process))
        yield process


async def all_are_up(process):
    breakers = (await metrics(process.url)).get(("provider_service_billing_breaker", "closed"))
    return len(workers_of(process.pid)) == WORKERS and breakers == WORKERS


async def live(url, times):
    for _ in range(times):
        async with httpx.AsyncClient() as client:
            (await client.get(f"{url}/health/live")).raise_for_status()


COUNTED = ("provider_service_requests_total", "/health/live", "200", "GET")


async def test_any_worker_shows_the_figures_of_all(process):
    before = (await metrics(process.url))[COUNTED]

    await live(process.url, 40)

    for _ in range(10):
        found = await metrics(process.url)
        assert found[COUNTED] == before + 40
        assert found["provider_service_up",] == 1


async def test_a_worker_that_died_is_replaced_and_what_it_counted_stays(process):
    await live(process.url, 20)
    before = (await metrics(process.url))[COUNTED]
    victim = min(workers_of(process.pid))

    os.kill(victim, signal.SIGKILL)
    await eventually(lambda: all_are_up(process))

    assert victim not in workers_of(process.pid)
    assert (await metrics(process.url))[COUNTED] == before


async def test_no_worker_is_without_its_database_or_its_sweeps(process):
    async def none_is():
        found = await metrics(process.url)
        swept = found["provider_service_last_sweep_timestamp_seconds",]
        return found["provider_service_database_up",] == 1 and time.time() - swept < 30

    await eventually(none_is)
