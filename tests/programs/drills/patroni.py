"""Three PostgreSQL servers under Patroni, one etcd and HAProxy on loopback, configured as in DEPLOYMENT.md."""

from __future__ import annotations

import asyncio
import secrets
import signal
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import yaml

from provider_registration.db import migrations
from tests.documents.markdown import Block, section
from tests.ports import a_port

from .programs import Program, account, lend_folder, postgresql_programs, shell, signal_tree

SCOPE = "provider-registration"
OWNER = DATABASE = "provider_registration"
SUPERUSER, REPLICATION = "postgres", "replicator"
NAMES = ("one", "two", "three")
STARTED_SECONDS = 120.0
REJOINED_SECONDS = 60.0  # until a server that does not recover is copied again
COPIED_SECONDS = 120.0
POLL = 0.25


@dataclass
class Server:
    """One machine: Patroni, and the PostgreSQL that it keeps."""

    name: str
    folder: Path
    port: int
    api_port: int
    patroni: Program | None = None

    def kill(self) -> None:
        """Simulate a power failure."""
        postgres = self.postgres_pid()
        if self.patroni is not None:
            self.patroni.kill()
        signal_tree(postgres, signal.SIGKILL)

    def kill_postgres(self) -> None:
        """Kill only PostgreSQL, as the kernel's OOM killer does."""
        signal_tree(self.postgres_pid(), signal.SIGKILL)

    def stop_all(self) -> None:
        """Suspend it with open connections: a machine that hangs."""
        postgres = self.postgres_pid()
        assert self.patroni is not None
        self.patroni.signal_all(signal.SIGSTOP)
        signal_tree(postgres, signal.SIGSTOP)

    def postgres_pid(self) -> int | None:
        """The process of its PostgreSQL; None if there is none."""
        with suppress(FileNotFoundError, ValueError):
            return int((self.folder / "data/postmaster.pid").read_text().split("\n")[0])
        return None


class PatroniCluster:
    """Three servers, etcd, and HAProxy in front of the primary."""

    def __init__(self, folder: Path) -> None:
        self._account = account()
        self._folder = folder
        self._passwords = {name: secrets.token_hex(16) for name in (SUPERUSER, REPLICATION, OWNER)}
        self._etcd_port, self._peer_port, self._port, self._read_port = (a_port() for _ in range(4))
        self.servers = {
            name: Server(name, lend_folder(folder / name, self._account), a_port(), a_port()) for name in NAMES
        }
        self._programs: list[Program] = []
        self._client = httpx.AsyncClient(timeout=3, trust_env=False)

    @property
    def url(self) -> str:
        """The owner's URL of the service's database, through HAProxy."""
        return self._url(OWNER, self._port, DATABASE)

    @property
    def read_url(self) -> str:
        """The same database on a standby."""
        return self._url(OWNER, self._read_port, DATABASE)

    def _url(self, user: str, port: int, database: str) -> str:
        return f"postgresql://{user}:{self._passwords[user]}@127.0.0.1:{port}/{database}"

    async def start(self) -> None:
        """Start everything, and wait for a primary and two standbys."""
        etcd = lend_folder(self._folder / "etcd", self._account)
        client, peer = (f"http://127.0.0.1:{port}" for port in (self._etcd_port, self._peer_port))
        self._run(
            *("etcd", "--name=etcd", f"--data-dir={etcd}/data", f"--listen-client-urls={client}"),
            *(f"--advertise-client-urls={client}", f"--listen-peer-urls={peer}"),
            *(f"--initial-advertise-peer-urls={peer}", f"--initial-cluster=etcd={peer}", "--log-level=warn"),
        )
        for server in self.servers.values():
            (server.folder / "patroni.yml").write_text(yaml.safe_dump(self._configuration(server)))
            self.start_server(server)
        ports = {server.name: (server.port, server.api_port) for server in self.servers.values()}
        (self._folder / "haproxy.cfg").write_text(haproxy_configuration(self._port, self._read_port, ports))
        self._run("haproxy", "-db", "-f", str(self._folder / "haproxy.cfg"))
        await self.until_whole(STARTED_SECONDS)

    async def create_database(self) -> str:
        """Create the service's role and its migrated database; return the owner's URL."""
        connection = await asyncpg.connect(self._url(SUPERUSER, self._port, "postgres"))
        await connection.execute(f"CREATE ROLE {OWNER} LOGIN PASSWORD '{self._passwords[OWNER]}'")
        await connection.execute(f"CREATE DATABASE {DATABASE} OWNER {OWNER}")
        await connection.close()
        await asyncio.to_thread(migrations.upgrade, self.url)
        return self.url

    def start_server(self, server: Server) -> None:
        """Start Patroni, which starts PostgreSQL."""
        server.patroni = Program(
            ["patroni", server.folder / "patroni.yml"], self._folder / f"{server.name}.log", run_as=self._account
        )

    async def primary(self) -> Server:
        """The current primary."""
        return await self._until(lambda members: members.get("leader"), STARTED_SECONDS, "a primary")

    async def until_whole(self, seconds: float) -> None:
        """Return when the primary has two standbys, one of them synchronous."""
        await self._until(
            lambda members: members.get("leader") if members.keys() == {"leader", "sync_standby", "replica"} else None,
            seconds,
            "a cluster of three",
        )

    async def rejoin(self, server: Server) -> bool:
        """Bring a server back; return whether it needed a new copy of the data."""
        if server.patroni is None or not server.patroni.is_alive:
            self.start_server(server)
        try:
            await self.until_whole(REJOINED_SECONDS)
        except TimeoutError:
            command = f"patronictl -c {server.folder}/patroni.yml reinit {SCOPE} {server.name} --force"
            await shell(command, run_as=self._account, environment={}, cwd=self._folder)
            await self.until_whole(COPIED_SECONDS)
            return True
        return False

    async def stop(self) -> None:
        """Stop everything."""
        await self._client.aclose()
        for server in self.servers.values():
            server.kill()
        for program in self._programs:
            program.kill()

    def logs(self) -> list[str]:
        """The ends of Patroni's logs."""
        return [f"{server.name}:\n{server.patroni.tail()}" for server in self.servers.values() if server.patroni]

    async def _until(self, find: Callable[[dict[str, str]], str | None], seconds: float, what: str) -> Server:
        async with asyncio.timeout(seconds):
            while (name := find(await self._members())) is None:
                await asyncio.sleep(POLL)
        return self.servers[name]

    async def _members(self) -> dict[str, str]:
        """The roles of the running servers; without those whose PostgreSQL does not respond."""
        for server in self.servers.values():
            try:
                answer = (await self._client.get(f"http://127.0.0.1:{server.api_port}/cluster")).json()
            except (httpx.HTTPError, ValueError):
                continue
            return {
                member["role"]: member["name"]
                for member in answer["members"]
                if member["state"] in ("running", "streaming")
            }
        return {}

    def _run(self, *command: str) -> None:
        self._programs.append(Program(command, self._folder / f"{command[0]}.log", run_as=self._account))

    def _configuration(self, server: Server) -> dict[str, Any]:
        configuration = patroni_settings()
        address, api = f"127.0.0.1:{server.port}", f"127.0.0.1:{server.api_port}"
        configuration["bootstrap"]["initdb"] += [{"locale": "C.UTF-8"}]
        return {
            **configuration,
            "scope": SCOPE,
            "name": server.name,
            "restapi": {"listen": api, "connect_address": api},
            "etcd3": {"host": f"127.0.0.1:{self._etcd_port}"},
            "postgresql": {
                "listen": address,
                "connect_address": address,
                "bin_dir": str(postgresql_programs()),
                "data_dir": str(server.folder / "data"),
                "pgpass": str(server.folder / "pgpass"),
                "pg_hba": [
                    "local all all trust",
                    "host replication all 127.0.0.1/32 scram-sha-256",
                    "host all all 127.0.0.1/32 scram-sha-256",
                ],
                "parameters": {"unix_socket_directories": str(server.folder), "password_encryption": "scram-sha-256"},
                "authentication": {
                    "superuser": {"username": SUPERUSER, "password": self._passwords[SUPERUSER]},
                    "replication": {"username": REPLICATION, "password": self._passwords[REPLICATION]},
                },
            },
        }


def patroni_settings() -> dict[str, Any]:
    """The documented part of patroni.yml."""
    [block] = [one for one in _blocks() if one.language == "yaml"]
    settings: dict[str, Any] = yaml.safe_load(block.text)
    return settings


def haproxy_configuration(port: int, read_port: int, servers: Mapping[str, tuple[int, int]]) -> str:
    """The documented file at other ports; servers by name, with the ports of PostgreSQL and of Patroni's API."""
    [block] = [one for one in _blocks() if one.language == "text"]
    places = {"127.0.0.1:5000": f"127.0.0.1:{port}", "127.0.0.1:5001": f"127.0.0.1:{read_port}", " port 8008": ""}
    for number, (name, (postgres, api)) in enumerate(servers.items(), start=1):
        places[f"server {name} 10.0.0.2{number}:5432"] = f"server {name} 127.0.0.1:{postgres} port {api}"
    text = block.text
    for documented, ours in places.items():
        assert documented in text, f"the document does not have {documented}"
        text = text.replace(documented, ours)
    return text + "\n"


def _blocks() -> list[Block]:
    return section("DEPLOYMENT.md", "A database that fails over").blocks
