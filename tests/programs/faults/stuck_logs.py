"""Standard error is a full pipe without a reader, during approvals and when the service is killed."""

from __future__ import annotations

import asyncio
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from random import Random
from uuid import uuid4

from tests.pipelining import slowest_of

from .crowds import PATIENT
from .invariants import Findings, conclude
from .kills import Contract, kill_at
from .world import World

PIPE_BYTES = 4096  # the least that Linux has
CHATTY = {"LOG_LEVEL": "INFO"}  # a line for each request
LINES = 6000  # of about 250 characters: more than the service buffers
ANSWERED_SECONDS = 5.0
STOPPED_SECONDS = 15.0  # as documented
DROPPED = "provider_service_log_lines_dropped_total"


async def kill_without_a_log(world: World, failpoint: str, contract: Contract, random: Random) -> Findings:
    """Kill the service at a failpoint; neither it nor its successor can write a log line."""
    with _nobody_reads(world):
        return await kill_at(world, failpoint, contract, random)


async def approve_without_a_log(world: World, random: Random, *, lines: int = LINES) -> Findings:
    """Approve while there are more lines than the service buffers, then stop it with SIGTERM."""
    with _nobody_reads(world):
        replica = await world.start(**PATIENT, **CHATTY)
        await world.log_in(replica)
        await world.billing.set(latency_ms=random.randint(0, 50))
        candidates = await world.register(20)
        chatting = asyncio.create_task(slowest_of(replica.url, lines, limit=STOPPED_SECONDS))
        for candidate in candidates:
            world.in_background(replica, world.approve(replica, candidate))
        slowest = await chatting
        answers = await world.answers(replica)
        assert [answer.status_code for answer in answers] == [200] * len(candidates)
        response = await world.ask(replica, "GET", "/metrics")
        assert response is not None, "metrics got no response"
        dropped = next(line for line in response.text.splitlines() if line.startswith(f"{DROPPED} "))
        assert lines < LINES or float(dropped.split()[1]) > 0, "every line was buffered, so nothing was tested"
        findings = await conclude(world, replica, candidates)
        begun = time.monotonic()
        await world.stop(replica)
        took = time.monotonic() - begun
    assert slowest < ANSWERED_SECONDS, f"a request took {slowest:.1f} s"
    assert took < STOPPED_SECONDS, f"SIGTERM took {took:.1f} s"
    findings.measured = {"slowest request, in s": slowest, "end after SIGTERM, in s": took}
    return findings


@contextmanager
def _nobody_reads(world: World) -> Iterator[None]:
    """Replicas that start during the block write their logs to a full pipe."""
    pipe = world.folder / f"log-{uuid4().hex[:8]}"
    os.mkfifo(pipe)
    reading = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)  # otherwise it waits for a writer
    writing = os.open(pipe, os.O_WRONLY)
    try:
        fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        os.write(writing, b"\n" * PIPE_BYTES)
        with world.logs_into(pipe):
            yield
    finally:
        os.close(writing)
        os.close(reading)
        pipe.unlink()
