"""The real service in its own process: started, killed, stopped, continued."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import httpx

from tests.ports import a_port

SERVE = Path(__file__).with_name("serve_with_failpoints.py")
POLL = 0.01  # seconds
NOTHING: Mapping[str, str] = {}
START_TIMEOUT = 30.0  # seconds


class NotReached(AssertionError):
    """A failpoint was not reached: on a busy machine, short timeouts can end a call to billing first."""


async def until(condition, seconds: float, what: str) -> None:
    """Wait until `condition` holds."""
    try:
        async with asyncio.timeout(seconds):
            while not condition():
                await asyncio.sleep(POLL)
    except TimeoutError:
        raise AssertionError(f"{what} did not happen within {seconds:.0f} s") from None


class ForkServer:
    """A process that loads the service once and forks it on request; forked services end with it."""

    def __init__(self, folder: Path, others: Mapping[str, str] = NOTHING) -> None:
        """`others` are environment variables that are added to or replace our own."""
        environment = {
            name: value for name, value in os.environ.items() if name in ("PATH", "LANG", "PYTHONPATH", "TMPDIR")
        }
        environment |= others
        self._process = subprocess.Popen(
            [sys.executable, SERVE, "--fork-server"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=folder,  # without .env
            env=environment,
            start_new_session=True,  # Ctrl-C is for the runner
        )
        self._is_loaded = False

    def load(self) -> None:
        """Return when it has loaded the service; forking waits for that."""
        assert self._process.stdout is not None
        if not self._is_loaded:
            assert self._process.stdout.readline(), "the fork server did not start"
            self._is_loaded = True

    def fork(self, environment: dict[str, str], log: Path) -> int:
        """Start a service; return its pid."""
        self.load()
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"environment": environment, "log": str(log)}) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def close(self) -> None:
        """Stop it, and every service that it forked."""
        self._process.communicate()


class Replica:
    """One running service; `log` takes what it writes to standard error."""

    def __init__(
        self, fork_server: ForkServer, folder: Path, name: str, environment: dict[str, str], log: Path | None = None
    ) -> None:
        self.log = log or folder / f"{name}.log"
        self._listens = folder / f"{name}.listens"
        self.mark = folder / f"{name}.reached"
        self.mark.unlink(missing_ok=True)
        port = a_port()
        self.url = f"http://127.0.0.1:{port}"
        environment = {
            **environment,
            "APP_PORT": str(port),
            "FAILPOINT_MARK": str(self.mark),
            "LISTENING_MARK": str(self._listens),
        }
        self.pid = fork_server.fork(environment, self.log)

    @property
    def is_alive(self) -> bool:
        """Whether the process exists, including a stopped one."""
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        return True

    @property
    def reached(self) -> bool:
        """Whether it has reached its failpoint."""
        return self.mark.exists()

    async def wait_until_ready(self, client: httpx.AsyncClient) -> None:
        """Return when this process, not another program on its port, responds or has reached its failpoint."""
        async with asyncio.timeout(START_TIMEOUT):
            while not self.reached:
                assert self.is_alive or self.reached, f"the service did not start:\n{self.tail()}"
                with suppress(httpx.HTTPError):
                    if self._listens.exists() and (await client.get(f"{self.url}/health/live", timeout=1)).is_success:
                        return
                await asyncio.sleep(POLL)

    async def wait_until_reached(self, seconds: float = 20) -> None:
        """Return when it is at its failpoint."""
        try:
            await until(lambda: self.reached, seconds, "reaching the failpoint")
        except AssertionError as error:
            raise NotReached(str(error)) from None

    async def wait_until_dead(self, seconds: float = 20) -> None:
        """Return when the process is gone."""
        await until(lambda: not self.is_alive, seconds, "the service's death")

    def pass_failpoint(self) -> None:
        """Let the task at the failpoint continue."""
        self.mark.unlink()

    def continue_(self) -> None:
        """Wake a stopped process."""
        os.kill(self.pid, signal.SIGCONT)

    async def terminate(self) -> None:
        """Send SIGTERM; it ends after finishing its requests."""
        os.kill(self.pid, signal.SIGTERM)
        await self.wait_until_dead(30)

    async def kill(self) -> None:
        """Kill it, unless it is already dead."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        await self.wait_until_dead()

    def tail(self, characters: int = 3000) -> str:
        """The end of its log."""
        return self.log.read_text(errors="replace")[-characters:] if self.log.is_file() else "(no log)"
