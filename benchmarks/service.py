"""The service in a process of its own, what it uses during a step, and how it responds meanwhile."""

from __future__ import annotations

import http.client
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median, quantiles
from urllib.parse import urlsplit

from benchmarks.contenders import OURS, WORK, Running, surroundings
from benchmarks.database import Databases
from benchmarks.processes import usage

SAMPLE_SECONDS = 0.02  # between two requests for /health/live, and between two looks at the memory
NO_BILLING = "http://127.0.0.1:9"
COLUMNS = (
    "memory before, MB | highest | after | live p50, ms | p99 | highest "
    "| loop occupied at most, ms of CPU | ms | times over 5 ms of CPU"
)


class WrongResult(Exception):
    """The service did not do what it should; the message says what."""


@dataclass
class Measured:
    """A step, once it has ended. `latencies`: of /health/live, in seconds. `loop`: as `watched` writes it."""

    seconds: float = 0.0
    service_cpu: float = 0.0
    database_cpu: float = 0.0
    memory: list[int] = field(default_factory=list)
    latencies: list[float] = field(default_factory=list)
    loop: dict[str, float] = field(default_factory=dict)

    @property
    def cells(self) -> str:
        """The values of COLUMNS."""
        first, last, highest = (each / 1e6 for each in (self.memory[0], self.memory[-1], max(self.memory)))
        live = [1000 * each for each in self.latencies] or [0.0]
        p99 = quantiles(live, n=100, method="inclusive")[-1] if len(live) > 1 else live[0]
        loop = f"{1000 * self.loop['processor_seconds']:.1f} | {1000 * self.loop['seconds']:.0f} | {self.loop['long']}"
        return f"{first:.0f} | {highest:.0f} | {last:.0f} | {median(live):.1f} | {p99:.1f} | {max(live):.0f} | {loop}"


class Sampler(threading.Thread):
    """Requests /health/live and reads the memory of the service's process until it is stopped."""

    def __init__(self, url: str, pid: int) -> None:
        super().__init__(daemon=True)
        self.latencies: list[float] = []
        self.memory = [resident_bytes(pid)]
        self._address = urlsplit(url).netloc
        self._pid = pid
        self._stopping = threading.Event()

    def run(self) -> None:
        """Sample."""
        connection = http.client.HTTPConnection(self._address, timeout=60)
        while not self._stopping.wait(SAMPLE_SECONDS):
            begun = time.perf_counter()
            connection.request("GET", "/health/live")
            connection.getresponse().read()
            self.latencies.append(time.perf_counter() - begun)
            self.memory.append(resident_bytes(self._pid))
        connection.close()

    def stop(self) -> None:
        """Stop, and take a last sample of the memory."""
        self._stopping.set()
        self.join()
        self.memory.append(resident_bytes(self._pid))


def resident_bytes(pid: int) -> int:
    """Resident memory of a process, without its children."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class Service:
    """A running service with a watch on its event loop."""

    def __init__(self, running: Running, database_pid: int | None, watch: Path) -> None:
        self._running = running
        self._pids = running.process.pid, database_pid
        self._watch = watch

    @property
    def url(self) -> str:
        """Its address."""
        return self._running.url

    @property
    def authorization(self) -> dict[str, str]:
        """The header of an admin's requests."""
        return {"Authorization": f"Bearer {self._running.tokens()[0]}"}

    @contextmanager
    def measuring(self) -> Iterator[Measured]:
        """Measure what is done in the block."""
        made = Measured()
        self._loop()  # begins anew
        sampler = Sampler(self.url, self._pids[0])
        before, begun = [usage(pid).cpu_seconds for pid in self._pids], time.perf_counter()
        sampler.start()
        try:
            yield made
            made.seconds, after = time.perf_counter() - begun, [usage(pid).cpu_seconds for pid in self._pids]
        finally:
            sampler.stop()
        made.service_cpu, made.database_cpu = (late - early for early, late in zip(before, after, strict=True))
        made.memory, made.latencies, made.loop = sampler.memory, sampler.latencies, self._loop()

    def _loop(self) -> dict[str, float]:
        self._watch.unlink(missing_ok=True)
        os.kill(self._pids[0], signal.SIGUSR2)
        while not self._watch.exists():
            time.sleep(SAMPLE_SECONDS)
        found: dict[str, float] = json.loads(self._watch.read_text())
        return found


@contextmanager
def served(databases: Databases, database_pid: int | None, name: str) -> Iterator[Service]:
    """Start the service; it stops at the end of the block. `name`: of its files."""
    watch = WORK / f"{name}.watch"
    command = [sys.executable, "-m", "benchmarks.watched", str(watch), "serve"]
    root = Path(__file__).parents[1]
    contender = replace(OURS, name=name, command=lambda _: command, folder=root)
    running = contender.start(surroundings(databases, NO_BILLING, auth=True))
    try:
        yield Service(running, database_pid, watch)
    finally:
        running.process.stop()
        watch.unlink(missing_ok=True)
