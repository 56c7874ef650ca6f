"""Debian's programs: found, run under an account that PostgreSQL accepts, and stopped with their children."""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from argparse import ArgumentParser, Namespace
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

from provider_registration.local.accounts import Account

DEBIANS_ACCOUNT = "postgres"  # created by the package
PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
STOP_SECONDS = 60.0  # until SIGKILL follows SIGTERM
POLL = 0.05  # seconds
PACKAGES = {
    "pg_createcluster": "postgresql-15",
    "pgbackrest": "pgbackrest",
    "patroni": "patroni",
    "patronictl": "patroni",
    "etcd": "etcd-server",
    "haproxy": "haproxy",
    "nginx": "nginx-light",
    "prometheus": "prometheus",
    "redis-server": "redis-server",
    "buildah": "buildah",
    "debootstrap": "debootstrap",
    "faketime": "faketime",
}


def missing(*programs: str) -> list[str]:
    """The packages of these programs."""
    return list(dict.fromkeys(PACKAGES[name] for name in programs if shutil.which(name, path=PATH) is None))


def need(*programs: str) -> None:
    """Exit with a message if a program is missing."""
    if packages := missing(*programs):
        sys.exit(f"This drill runs the real programs. On Debian 12, as root: apt install {' '.join(packages)}")


def account() -> Account:
    """The account that runs PostgreSQL, which refuses root: ours or, for root, that of Debian's package."""
    if os.geteuid() != 0:
        return Account(None)
    entry = pwd.getpwnam(DEBIANS_ACCOUNT)
    return Account((entry.pw_uid, entry.pw_gid))


@contextmanager
def temporary_folder(name: str) -> Iterator[Path]:
    """A folder that other accounts may enter, deleted after the block."""
    folder = Path(tempfile.mkdtemp(prefix=f"provider-registration-{name}-"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def lend_folder(path: Path, to: Account, mode: int = 0o700) -> Path:
    """Create a folder that belongs to an account."""
    path.mkdir(mode=mode)
    to.own(path)
    return path


class Program:
    """One running program in its own session, so that Ctrl-C only reaches this process."""

    def __init__(
        self,
        command: Sequence[str | Path],
        log: Path,
        *,
        run_as: Account | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.name = Path(command[0]).name
        self.log = log
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=log.parent,
                env={"PATH": PATH, "LC_ALL": "C.UTF-8", "TZ": "UTC", **(environment or {})},
                start_new_session=True,
                **(run_as or Account(None)).as_popen_arguments(),
            )

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        """Whether it still runs."""
        return self._process.poll() is None

    @property
    def status(self) -> int | None:
        """Its exit status; None while it runs."""
        return self._process.poll()

    def signal_all(self, number: int) -> None:
        """Send a signal to it and to everything that descends from it."""
        signal_tree(self.pid, number)

    def kill(self) -> None:
        """Kill it and its descendants."""
        if self.is_alive:
            self.signal_all(signal.SIGKILL)
        self._process.wait()

    def stop(self) -> None:
        """Stop it, by SIGKILL if necessary."""
        if self.is_alive:
            self._process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_SECONDS)
        self.kill()

    def wait(self) -> None:
        """Return when it has exited by itself."""
        self._process.wait(STOP_SECONDS)

    def tail(self, characters: int = 2000) -> str:
        """The end of its log."""
        return self.log.read_text(errors="replace")[-characters:]


def signal_tree(pid: int | None, number: int) -> None:
    """Send a signal to a process, if there is one, and to everything that descends from it."""
    for one in [pid, *descendants(pid)] if pid else []:
        with suppress(ProcessLookupError):
            os.kill(one, number)


def postgresql_programs() -> Path:
    """The folder of PostgreSQL's own programs, as Debian has them."""
    return Path("/usr/lib/postgresql/15/bin")


def descendants(pid: int) -> list[int]:
    """The descendants of a process."""
    parents: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError, ValueError):
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
            parents.setdefault(parent, []).append(int(stat.parent.name))
    found: list[int] = []
    waiting = [pid]
    while waiting:
        children = parents.get(waiting.pop(), [])
        found += children
        waiting += children
    return found


async def shell(script: str, *, run_as: Account, environment: Mapping[str, str], cwd: Path) -> str:
    """Run a bash script and return its output. It stops at the first command that fails."""
    process = await asyncio.create_subprocess_exec(
        *("bash", "--noprofile", "--norc", "-euo", "pipefail", "-c", script),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        cwd=cwd,
        env={"PATH": PATH, "LC_ALL": "C.UTF-8", "TZ": "UTC", **environment},
        start_new_session=True,
        **run_as.as_popen_arguments(),
    )
    try:
        output, _ = await process.communicate()
    except asyncio.CancelledError:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        raise
    if process.returncode != 0:
        raise RuntimeError(f"status {process.returncode} of:\n{script}\n{output.decode(errors='replace')}")
    return output.decode(errors="replace")


@asynccontextmanager
async def beside(*work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run work during the block; its errors are raised at the end of the block."""
    tasks = [asyncio.create_task(one) for one in work]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(result, Exception):
                raise result


def run_drill(drill: Callable[[Namespace], Coroutine[Any, Any, bool]], parser: ArgumentParser, *programs: str) -> None:
    """Run a drill with options and programs, until it or SIGTERM ends it; exit with status 1 if it broke a promise."""
    parser.add_argument("--seed", type=int, default=time.time_ns() % 10**6, help="repeats the choices of a run")
    options = parser.parse_args()
    need(*programs)

    async def run() -> bool:
        task = asyncio.current_task()
        assert task is not None
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        return await drill(options)

    try:
        sys.exit(0 if asyncio.run(run()) else 1)
    except (KeyboardInterrupt, asyncio.CancelledError):
        sys.exit("Interrupted; everything that was started has stopped.")


def tell(*lines: str) -> None:
    """Print the progress."""
    stamp = time.strftime("%H:%M:%S")
    print(*(f"{stamp} {line}" for line in lines), sep="\n", flush=True)  # noqa: T201 - what the command is for
