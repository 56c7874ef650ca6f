"""`provider-registration run` starts everything, stops everything, and recovers after it was killed."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from provider_registration.local import run as local_run
from provider_registration.local.errors import LocalError
from tests.forked import Forked, ForkServer
from tests.ports import a_port, ports_in_a_row

PROGRAM = Path(sys.executable).with_name("provider-registration")
OURS = ("DATABASE_URL", "JWT_SECRET_KEY", "BILLING_SERVICE_URL", "APP_HOST", "LOG_LEVEL", "ROOT_PATH", "ADMIN_EMAIL")
READY_WITHIN = 60.0  # seconds, on a machine busy with other tests
FIRST_PASSWORD = "first-password"
COMPANY = {
    "company_name": "Orchard & Sons",
    "contact_email": "orchard@example.com",
    "products": ["apples"],
    "truck_count": 3,
    "capacity_tons_per_day": 40,
}


class Runner:
    """Run the program in its own folder, with its own ports; processes are forked if there is a server for that."""

    def __init__(self, folder: Path, server: ForkServer | None = None) -> None:
        self.data = folder / "data"
        self.port = ports_in_a_row(4)  # the next are those of its other servers
        self.environment = {name: value for name, value in os.environ.items() if name not in OURS}
        self.environment |= {
            "LOCAL_DATA_DIR": str(self.data),
            "APP_PORT": str(self.port),
            "ADMIN_PASSWORD": FIRST_PASSWORD,
            "DATABASE_TIMEOUT_SECONDS": "10",  # a busy machine may stall for a second
        }
        self.folder = folder
        self.server = server
        self.started: list[Forked | subprocess.Popen[str]] = []

    def start(self, **environment: str) -> Forked | subprocess.Popen[str]:
        """Start `run` and return when it has responded to a request."""
        process = self.popen("run", **environment)
        deadline = time.monotonic() + READY_WITHIN
        while True:
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline, "not ready in time"
            with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), READY_WITHIN):
                break
            time.sleep(0.02)
        assert httpx.get(self.url("/health/ready"), timeout=READY_WITHIN).is_success  # it listens before it is ready
        return process

    def popen(self, *arguments: str, stdin: str = "", **environment: str) -> Forked | subprocess.Popen[str]:
        process: Forked | subprocess.Popen[str]
        if self.server:
            process = self.server.start([*arguments], self.environment | environment, self.folder, stdin=stdin)
        else:
            process = subprocess.Popen(
                [PROGRAM, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                cwd=self.folder,
                env=self.environment | environment,
            )
        self.started.append(process)
        return process

    def refusal(self, **environment: str) -> str:
        """The error message of a `run` that does not start."""
        process = self.popen("run", **environment)
        output, error = process.communicate(timeout=READY_WITHIN)
        assert process.returncode == 1, output + error
        assert "Traceback" not in error
        assert error.count("\n") == 1, "one sentence"
        return error

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def status_of(self, request: bytes) -> int:
        """The status of the response to a request that no HTTP client would send."""
        with socket.create_connection(("127.0.0.1", self.port), READY_WITHIN) as connection:
            connection.sendall(request)
            return int(connection.recv(4096).split()[1])

    def log_in(self, password: str, email: str = "admin@example.com") -> httpx.Response:
        return httpx.post(self.url("/auth/login"), json={"username": email, "password": password}, timeout=READY_WITHIN)

    def token(self, password: str) -> str:
        return str(self.log_in(password).json()["access_token"])

    def companies(self, token: str) -> list[str]:
        page = httpx.get(self.url("/candidates"), headers={"Authorization": f"Bearer {token}"}, timeout=READY_WITHIN)
        return [candidate["company_name"] for candidate in page.json()["candidates"]]

    def processes(self) -> list[int]:
        """Every process with our folder in its command line, or as its working directory."""
        return [
            int(process.name)
            for process in Path("/proc").glob("[0-9]*")
            if str(self.folder) in read(process / "cmdline") + target(process / "cwd")
        ]

    def kill_all(self) -> None:
        for process in self.started:
            process.kill()
            process.communicate()
        for pid in self.processes():
            with suppress(ProcessLookupError):  # the database stops without its launcher
                os.kill(pid, signal.SIGKILL)


def read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def target(link: Path) -> str:
    try:
        return str(link.readlink())
    except OSError:
        return ""


def stop(process: Forked | subprocess.Popen[str], number: signal.Signals = signal.SIGTERM) -> str:
    """Stop a `run`; return its output."""
    process.send_signal(number)
    output, error = process.communicate(timeout=READY_WITHIN)
    assert process.returncode == 0, error
    assert error == ""
    return output


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + READY_WITHIN
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.01)


@contextmanager
def runner_in_new_folder(server: ForkServer | None = None) -> Iterator[Runner]:
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)  # for root, whose PostgreSQL runs as another account
    runner = Runner(folder, server)
    yield runner
    runner.kill_all()
    shutil.rmtree(folder)


@dataclass(frozen=True)
class FirstRun:
    """What a first run left in its folder and wrote to standard output."""

    runner: Runner
    output: str
    left_processes: list[int]

    @property
    def password(self) -> str:
        """The generated password of the first admin."""
        match = re.search(r"with the password (\S+)", self.output)
        assert match
        return match[1]


@pytest.fixture(scope="module")
def first_run() -> Iterator[FirstRun]:
    """A company was registered and a provider created, and the terminal was closed."""
    with runner_in_new_folder() as runner:
        process = runner.start(ADMIN_PASSWORD="")
        assert httpx.post(runner.url("/candidates"), json=COMPANY, timeout=READY_WITHIN).status_code == 201
        provider = f"http://127.0.0.1:{runner.port + 1}/provider"
        assert httpx.post(provider, json={"name": "Orchard"}, timeout=READY_WITHIN).status_code == 201
        assert runner.processes()
        output = stop(process, signal.SIGHUP)
        yield FirstRun(runner, output, runner.processes())


@pytest.fixture
def new_runner(fork_server: ForkServer) -> Iterator[Runner]:
    with runner_in_new_folder(fork_server) as runner:
        yield runner


def copy_data(first_run: FirstRun, runner: Runner) -> None:
    """Quicker than another first run."""
    subprocess.run(["cp", "-a", first_run.runner.data, runner.data], check=True)  # noqa: S607 - any cp does


@pytest.fixture
def runner(new_runner: Runner, first_run: FirstRun) -> Runner:
    """A folder in which `run` has run before."""
    copy_data(first_run, new_runner)
    return new_runner


@pytest.fixture(scope="module")
def running(fork_server: ForkServer, first_run: FirstRun) -> Iterator[Runner]:
    """The second run, for tests that do not stop it."""
    with runner_in_new_folder(fork_server) as runner:
        copy_data(first_run, runner)
        process = runner.start()
        yield runner
        stop(process)


def test_first_start_shows_the_way_and_stops_with_the_terminal(first_run: FirstRun) -> None:
    url = first_run.runner.url("/docs")
    for part in (url, "admin@example.com", "database-url", "demo-data --count 1000", "Ctrl-C"):
        assert part in first_run.output
    assert first_run.left_processes == []


def test_second_start_keeps_what_was_registered(running: Runner, first_run: FirstRun) -> None:
    assert running.companies(running.token(first_run.password)) == [COMPANY["company_name"]]
    providers = f"http://127.0.0.1:{running.port + 1}/sandbox/providers"
    assert httpx.get(providers, timeout=READY_WITHIN).json()["total"] == 1


def test_what_is_secret_is_readable_by_its_owner_alone(running: Runner, first_run: FirstRun) -> None:
    for name in ("database-url", "jwt-secret", "secrets-key", "postgres/password"):
        assert (running.data / name).stat().st_mode & 0o077 == 0, name
    for name in ("jwt-secret", "secrets-key", "postgres/password"):
        assert (first_run.runner.data / name).read_text() not in first_run.output
    assert not (first_run.runner.data / "database-url").exists()


def test_ctrl_c_stops_a_later_run_which_shows_no_password_and_moves_the_sandbox(runner: Runner) -> None:
    with socket.create_server(("127.0.0.1", runner.port + 1)):
        process = runner.start(ADMIN_PASSWORD="")
        assert len(runner.processes()) > 1
        output = stop(process, signal.SIGINT)
    assert runner.processes() == []
    assert "with the password" not in output
    assert "set-password admin@example.com" in output
    assert re.search(r"Billing +http", output)
    assert f":{runner.port + 1}" not in output


def test_heads_are_bounded_as_where_it_is_deployed(running: Runner) -> None:
    headers = {
        400: "Host: x\r\nHost: y",
        431: f"Host: x\r\nX-Long: {'x' * 50_000}",
    }
    heads = {status: f"GET /health HTTP/1.1\r\n{lines}" for status, lines in headers.items()}
    heads[414] = f"GET /{'x' * 9_000} HTTP/1.1\r\nHost: x"
    answered = {status: running.status_of(f"{head}\r\n\r\n".encode()) for status, head in heads.items()}
    assert answered == {status: status for status in heads}


def test_a_signal_while_starting_stops_everything(new_runner: Runner) -> None:
    process = new_runner.popen("run")
    wait_until(lambda: list(new_runner.data.glob("postgres/data*")))
    stop(process)
    wait_until(lambda: new_runner.processes() == [])  # those that initdb started end on their own


def test_start_after_being_killed_alone_and_with_the_database(runner: Runner, first_run: FirstRun) -> None:
    process = runner.start()
    other = COMPANY | {"company_name": "Late Orchard", "contact_email": "late@example.com"}
    assert httpx.post(runner.url("/candidates"), json=other, timeout=READY_WITHIN).status_code == 201
    token = runner.token(first_run.password)
    process.kill()
    process.communicate()
    assert runner.processes(), "the database outlives it"
    runner.start()
    assert other["company_name"] in runner.companies(token)
    runner.kill_all()
    process = runner.start()
    assert other["company_name"] in runner.companies(token)
    stop(process)
    assert runner.processes() == []


def test_two_at_once_and_a_port_in_use(running: Runner) -> None:
    [process] = [process for process in running.started if process.poll() is None]
    assert f"in use by process {process.pid}; stop" in running.refusal()
    assert f"Port {running.port} is in use; stop what uses it or set APP_PORT." in running.refusal(
        LOCAL_DATA_DIR=str(running.folder / "other")
    )
    assert not (running.folder / "other/postgres").exists(), "nothing slow before the port is ours"


def test_other_commands_find_the_database_of_a_running_service(running: Runner, new_runner: Runner) -> None:
    command = ("create-user", "--password-stdin", "--role", "viewer", "viewer@example.com")
    process = running.popen(*command, stdin="another-password\n")
    output, error = process.communicate(timeout=READY_WITHIN)
    assert process.returncode == 0, output + error
    assert running.log_in("another-password", "viewer@example.com").status_code == 200
    process = new_runner.popen(*command, stdin="another-password\n")
    _, error = process.communicate(timeout=READY_WITHIN)
    assert "DATABASE_URL is not set" in error


def test_database_of_ones_own_is_used(new_runner: Runner, empty_database_url: str) -> None:
    process = new_runner.start(DATABASE_URL=empty_database_url)
    assert new_runner.companies(new_runner.token(FIRST_PASSWORD)) == []
    assert not (new_runner.data / "postgres").exists()
    stop(process)


def test_database_that_does_not_respond_is_named_without_its_password(new_runner: Runner) -> None:
    port = a_port()
    refusal = new_runner.refusal(DATABASE_URL=f"postgresql://someone:hidden-word@127.0.0.1:{port}/registry")
    assert f"127.0.0.1:{port}/registry, does not respond" in refusal
    assert "hidden-word" not in refusal


def test_database_that_refuses_the_user_is_named_without_the_password(new_runner: Runner, server_url: str) -> None:
    host = server_url.rpartition("@")[2]
    refusal = new_runner.refusal(DATABASE_URL=f"postgresql://someone:hidden-word@{host}")
    assert f"{host}, does not respond (Invalid" in refusal
    assert "hidden-word" not in refusal


@pytest.mark.parametrize(("version", "is_refused"), [(140012, True), (150000, False)])
def test_oldest_server_is_postgresql_15(monkeypatch: pytest.MonkeyPatch, version: int, is_refused: bool) -> None:
    async def server_version(_url: str) -> int:
        return version

    monkeypatch.setattr(local_run, "_server_version", server_version)
    if is_refused:
        with pytest.raises(LocalError, match="is PostgreSQL 14; 15 or later"):
            local_run.check_server("postgresql+asyncpg://user@host/name")
    else:
        local_run.check_server("postgresql+asyncpg://user@host/name")


@pytest.mark.parametrize("folder", ["/dev/null/data", "/proc/data"])
def test_a_folder_that_cannot_be_written(new_runner: Runner, folder: str) -> None:
    assert f"LOCAL_DATA_DIR {folder} is not writable" in new_runner.refusal(LOCAL_DATA_DIR=folder)


def test_an_address_that_is_not_ours(new_runner: Runner) -> None:
    assert "Cannot listen on 192.0.2.1" in new_runner.refusal(APP_HOST="192.0.2.1")


def test_first_admin_needs_an_acceptable_password(new_runner: Runner) -> None:
    assert "ADMIN_PASSWORD cannot be used" in new_runner.refusal(ADMIN_PASSWORD="short")
    assert new_runner.processes() == []


def test_settings_are_checked_before_anything_starts(new_runner: Runner) -> None:
    assert "LOG_LEVEL" in new_runner.refusal(LOG_LEVEL="LOUD")
    assert not new_runner.data.exists()
