"""A PostgreSQL as Debian sets it up, archived by pgBackRest as DEPLOYMENT.md says, and operated as OPERATIONS.md says.

The documents' settings and commands are used unchanged, except for folders, the port and the time to restore to.
"""

from __future__ import annotations

import asyncio
import os
import re
import secrets
import shutil
import signal
import sys
from pathlib import Path

import asyncpg

from provider_registration.db import migrations
from provider_registration.local.accounts import Account
from tests.documents.markdown import ROOT, section
from tests.ports import a_port

from .programs import PATH, account, lend_folder, shell, signal_tree

OWNER = "provider_registration"
DATABASE = "provider_registration"
DOCUMENTED_DATA = "/var/lib/postgresql/15/main"
DOCUMENTED_MOMENT = re.compile(r"--target='[^']+'")
STARTED_SECONDS = 600.0  # to replay the WAL


class DebianCluster:
    """One cluster `15 main` in its own folder; the machine's own clusters are not touched."""

    def __init__(self, folder: Path) -> None:
        self._account = account()
        self._home = lend_folder(folder / "postgresql", self._account)
        self._etc, self._sockets, self._logs = (self._lend(name) for name in ("etc", "sockets", "logs"))
        self.data = self._home / "data"
        self.port = a_port()  # one that no outgoing connection can take while nothing listens
        self._password = secrets.token_hex(16)
        # Options given here override the documented file.
        self._configuration = self._home / "pgbackrest.conf"
        self._pgbackrest = {
            "PGBACKREST_CONFIG": str(self._configuration),
            "PGBACKREST_REPO1_PATH": str(self._lend("repository")),
            "PGBACKREST_LOG_PATH": str(self._logs),
            "PGBACKREST_LOCK_PATH": str(self._lend("locks")),
            "PGBACKREST_PG1_PATH": str(self.data),
            "PGBACKREST_PG1_PORT": str(self.port),
            "PGBACKREST_PG1_SOCKET_PATH": str(self._sockets),
        }
        self._environment = {
            **self._pgbackrest,
            "PG_CLUSTER_CONF_ROOT": str(self._etc),
            "PGHOST": str(self._sockets),
            "PGPORT": str(self.port),
            "PGDATABASE": "postgres",
        }

    def _lend(self, name: str) -> Path:
        return lend_folder(self._home / name, self._account)

    @property
    def url(self) -> str:
        """The owner's URL of the service's database."""
        return f"postgresql://{OWNER}:{self._password}@127.0.0.1:{self.port}/{DATABASE}"

    async def create(self) -> None:
        """Create it with the documented settings, and a first backup."""
        settings, configuration, commands = documented_backups()
        self._configuration.write_text(configuration)
        await self.operate(
            f"""
            pg_createcluster 15 main --datadir {self.data} --socketdir {self._sockets} \\
                --logfile {self._logs}/postgresql.log --port {self.port} --start-conf manual \\
                -- --auth-local=trust --auth-host=scram-sha-256 --encoding=UTF8 --locale=C.UTF-8
            """
        )
        with (self._etc / "15/main/postgresql.conf").open("a") as file:
            file.write(f"{settings}\nmax_connections = 200\n")
        with (self._etc / "15/main/environment").open("a") as file:
            file.writelines(f"{name} = '{value}'\n" for name, value in self._pgbackrest.items())
        await self.operate(
            f"""
            pg_ctlcluster 15 main start
            psql --quiet -c "CREATE ROLE {OWNER} LOGIN PASSWORD '{self._password}'"
            psql --quiet -c "CREATE DATABASE {DATABASE} OWNER {OWNER}"
            """
        )
        await self.operate(commands)

    async def create_database(self) -> str:
        """Migrate the service's database; its URL, for the owner."""
        await asyncio.to_thread(migrations.upgrade, self.url)
        return self.url

    async def back_up(self) -> None:
        """Take a full backup as documented."""
        _newest, _to_a_moment, _recount, back_up, _end_sessions = documented_restore()
        await self.operate(back_up)

    async def restore(self, moment: str | None) -> None:
        """Restore, with the documented commands, to the latest time or to a given one."""
        newest, to_a_moment, *_others = documented_restore()
        commands = DOCUMENTED_MOMENT.sub(f"--target='{moment}'", to_a_moment) if moment else newest
        await self.operate(commands.replace(DOCUMENTED_DATA, str(self.data)))

    async def until_writable(self) -> None:
        """Return when it has replayed everything and accepts writes."""
        async with asyncio.timeout(STARTED_SECONDS):
            while (await self.operate("psql -Atc 'SELECT pg_is_in_recovery()' || true")).strip() != "f":
                await asyncio.sleep(0.2)

    async def operate(self, script: str) -> str:
        """Run commands as PostgreSQL's account; return their output."""
        return await shell(script, run_as=self._account, environment=self._environment, cwd=self._home)

    async def command_line(self, script: str) -> str:
        """Run commands of the service as the owner."""
        environment = {"PATH": f"{Path(sys.executable).parent}:{PATH}", "OWNER_URL": self.url}
        environment |= {name: value for name, value in os.environ.items() if name == "PYTHONPATH"}
        return await shell(script, run_as=Account(None), environment=environment, cwd=ROOT)

    async def execute(self, statement: str) -> str:
        """Execute a statement as the owner."""
        connection = await asyncpg.connect(self.url)
        try:
            return await connection.execute(statement)
        finally:
            await connection.close()

    def destroy(self) -> None:
        """kill -9 everything, and remove the data folder."""
        self._kill()
        shutil.rmtree(self.data)

    def remove(self) -> None:
        """Stop it; its files are deleted with the folder."""
        self._kill()

    def _kill(self) -> None:
        try:
            pid = int((self.data / "postmaster.pid").read_text().split("\n")[0])
        except FileNotFoundError:
            return
        signal_tree(pid, signal.SIGKILL)


def documented_backups() -> list[str]:
    """PostgreSQL's settings, pgBackRest's file, and the commands of the first backup."""
    return _documented("DEPLOYMENT.md", "Backups")[:3]  # the rest is for systemd


def documented_restore() -> list[str]:
    """Commands: restore to the latest time or a given one; check the counts; back up; end sessions."""
    return _documented("OPERATIONS.md", "The database is lost")


def _documented(document: str, title: str) -> list[str]:
    return [block.text for block in section(document, title).blocks if block.language in ("ini", "bash")]
