"""Start and stop the measured processes, and read their CPU time and memory from /proc."""

from __future__ import annotations

import os
import ssl
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import httpx

START_TIMEOUT = 60.0  # seconds until the first response
STOP_TIMEOUT = 15.0  # seconds until it exits by itself
POLL_INTERVAL = 0.05
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
# Fields of /proc/PID/stat after the name: parent, and time in user and system mode, own and of children that ended.
PARENT, UTIME, CUTIME_END = 1, 11, 15


# Nothing here speaks TLS, and httpx would read the machine's certificates for every client.
NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


class NotStarted(Exception):
    """A server did not respond in time, or ended."""


@dataclass(frozen=True)
class Usage:
    """CPU seconds so far and memory now, of a process and its descendants."""

    cpu_seconds: float
    memory_bytes: int


def _stat(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def parent_of(pid: int) -> int:
    """The process that started another."""
    return int(_stat(pid)[PARENT])


def family(pid: int) -> list[int]:
    """A process and its descendants."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                children.setdefault(parent_of(int(entry.name)), []).append(int(entry.name))
    found = [pid]
    for member in found:
        found += children.get(member, [])
    return found


def usage(pid: int | None) -> Usage:
    """What a process and its descendants used; those that ended count with their parent, which waited for them."""
    ticks, memory = 0, 0
    for member in family(pid) if pid else ():
        with suppress(OSError):
            ticks += sum(map(int, _stat(member)[UTIME:CUTIME_END]))
            memory += _memory(member)
    return Usage(ticks / TICKS_PER_SECOND, memory)


def _memory(pid: int) -> int:
    """Resident memory; pages shared by several processes count once in their sum (Pss)."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    return 0


class Process:
    """A server of its own process group, whose output goes to a file."""

    def __init__(self, command: Sequence[str], *, environment: Mapping[str, str], folder: Path, log: Path) -> None:
        self.log = log
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                command, env=dict(environment), cwd=folder, stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )

    @property
    def pid(self) -> int:
        """Its id."""
        return self._process.pid

    def wait_for(self, url: str) -> None:
        """Return when `url` is answered with 200.

        Raises:
            NotStarted: it is not, in time.
        """
        deadline = time.monotonic() + START_TIMEOUT
        with httpx.Client(trust_env=False, timeout=5, verify=NO_TLS) as client:
            while time.monotonic() < deadline and self._process.poll() is None:
                with suppress(httpx.HTTPError):
                    if client.get(url).status_code == httpx.codes.OK:
                        return
                time.sleep(POLL_INTERVAL)
        raise NotStarted(f"{url} did not respond:\n{self.log.read_text(errors='replace')[-2000:]}")

    def stop(self) -> None:
        """Stop it, by SIGKILL if necessary."""
        self._process.terminate()
        try:
            self._process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
