"""Everything a scenario needs: a database, a billing sandbox, replicas of the service, and an admin."""

from __future__ import annotations

import asyncio
import secrets
from collections import defaultdict
from collections.abc import AsyncIterator, Coroutine, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from uuid import UUID, uuid4

import asyncpg
import httpx

from provider_registration.auth.directory import UserDirectory
from provider_registration.auth.models import Role
from provider_registration.auth.passwords import PasswordHasher
from provider_registration.db.database import Database
from provider_registration.settings import DatabaseSettings

from .billing import Billing
from .service_process import ForkServer, Replica

EMAIL, PASSWORD = "admin@example.com", "correct horse battery staple"
TOKEN_SECONDS = 900  # a token is used for so long; it is valid for twice as long
ANSWER_TIMEOUT = 60.0  # seconds
RECOVERY_SECONDS = 60.0  # what an unfinished approval may take once the service is back
RECONNECTING = (OSError, asyncpg.PostgresConnectionError, asyncpg.InterfaceError, asyncpg.CannotConnectNowError)

# Short, so that waiting for a lease is not what a run spends its time on; the lease is 1.5 deadlines.
IMPATIENT = {
    "BILLING_CONNECT_TIMEOUT_SECONDS": 0.5,
    "BILLING_TIMEOUT_SECONDS": 0.5,
    "BILLING_DEADLINE_SECONDS": 1.4,
    # Patient with PostgreSQL: a dozen services on a busy machine are not what is looked at.
    "DATABASE_TIMEOUT_SECONDS": 5.0,
    "DATABASE_POOL_SIZE": 5,
}
LEASE_SECONDS = 1.5 * IMPATIENT["BILLING_DEADLINE_SECONDS"]

INSERT_CANDIDATES = """
    INSERT INTO candidates (company_name, contact_email, products, truck_count, capacity_tons_per_day)
    SELECT name, name || '@example.com', ARRAY['apples'], 1, 1 FROM unnest($1::text[]) AS name
    RETURNING id, company_name
"""


Answer = httpx.Response | None  # None when none came


@dataclass(frozen=True)
class Candidate:
    """A company that a scenario decides about."""

    id: UUID
    name: str


class DatabaseServer(Protocol):
    """Where a world gets its database; PostgresCluster is one that can be killed."""

    async def create_database(self) -> str:
        """Make a migrated database; return its URL."""


class World:
    """One database, one billing service and some replicas; scenarios follow one another in it."""

    def __init__(self, fork_server: ForkServer, cluster: DatabaseServer, billing: Billing, folder: Path) -> None:
        self.cluster = cluster
        self.billing = billing
        self.database_url = ""
        self._fork_server = fork_server
        self._folder = folder
        self._secret = secrets.token_hex(32)
        self._pool: asyncpg.Pool
        self._client: httpx.AsyncClient
        self._running: list[Replica] = []
        self._pending: dict[Replica, list[asyncio.Task[Any]]] = defaultdict(list)
        self._token, self._token_ends = "", 0.0

    @classmethod
    @asynccontextmanager
    async def open(cls, fork_server: ForkServer, cluster: DatabaseServer, folder: Path) -> AsyncIterator[World]:
        """A fresh one; everything it started ends with the block."""
        await asyncio.to_thread(folder.mkdir)
        async with AsyncExitStack() as stopping:
            billing = Billing(folder)
            await billing.start()
            stopping.push_async_callback(billing.close)
            world = cls(fork_server, cluster, billing, folder)
            world.database_url = await cluster.create_database()
            await world._add_admin()
            world._pool = await asyncpg.create_pool(world.database_url, min_size=0, max_size=4)
            stopping.push_async_callback(world._pool.close)
            # As many connections as there may be callers: requests must compete in the service, not in the client.
            # Idle ones stay open: httpcore may close one for its age that it has just given to a request.
            limits = httpx.Limits(max_connections=None, max_keepalive_connections=None, keepalive_expiry=60)
            world._client = await stopping.enter_async_context(
                httpx.AsyncClient(timeout=ANSWER_TIMEOUT, limits=limits, trust_env=False)
            )
            stopping.push_async_callback(world.clear)
            yield world

    async def _add_admin(self) -> None:
        url = DatabaseSettings(_env_file=None, database_url=self.database_url).database_url
        database, hasher = Database(url, pool_size=1), PasswordHasher()
        await UserDirectory(database, hasher).create(EMAIL, PASSWORD, Role.ADMIN)
        hasher.close()
        await database.close()

    async def clear(self) -> None:
        """End every replica, and make billing well again: what a scenario leaves, whether or not it succeeded."""
        for replica in list(self._running):
            await self.kill(replica)
        await self.billing.recover()

    async def start(
        self,
        name: str = "replica",
        *,
        failpoint: str | None = None,
        hit: int = 1,
        action: str = "kill",
        database_url: str | None = None,
        **settings: object,
    ) -> Replica:
        """Start a replica; `settings` are environment variables beside or instead of the impatient ones."""
        environment = {
            "DATABASE_URL": database_url or self.database_url,
            "JWT_SECRET_KEY": self._secret,
            "BILLING_SERVICE_URL": self.billing.url,
            "LOG_LEVEL": "WARNING",
            "RATE_LIMIT_DEFAULT": "",  # one admin asks for everything
            "METRICS_ACCESS": "anyone",
            **IMPATIENT,
            **settings,
        }
        if failpoint:
            environment |= {"FAILPOINT": failpoint, "FAILPOINT_HIT": hit, "FAILPOINT_ACTION": action}
        texts = {name: str(value) for name, value in environment.items() if value is not None}
        replica = Replica(self._fork_server, self._folder, f"{name}-{uuid4().hex[:8]}", texts)
        self._running.append(replica)
        await replica.wait_until_ready(self._client)
        return replica

    def logs(self) -> list[str]:
        """The ends of the logs of the replicas that are left, for whoever looks for the reason of a failure."""
        return [f"{replica.log.name}:\n{replica.tail()}" for replica in self._running]

    async def kill(self, replica: Replica) -> None:
        """End a replica at once, if it is not dead already."""
        await replica.kill()
        await asyncio.gather(*self._pending.pop(replica, []))
        self._running.remove(replica)

    async def stop(self, replica: Replica) -> None:
        """Have a replica finish what it is at, and end."""
        await self.answers(replica)
        await replica.terminate()
        self._running.remove(replica)

    def in_background(self, replica: Replica, asking: Coroutine[Any, Any, Answer]) -> asyncio.Task[Answer]:
        """Ask a replica without waiting; that ends with the replica, if not before."""
        task = asyncio.create_task(asking)
        self._pending[replica].append(task)
        return task

    async def answers(self, replica: Replica) -> list[Answer]:
        """What came of everything that was asked in the background: an answer each, and none of bewilderment."""
        answers = await asyncio.gather(*self._pending.pop(replica, []))
        for answer in answers:
            assert answer is not None, "the service left a request unanswered"
            assert answer.status_code != 500, "the service did not understand what had happened"
        return answers

    async def log_in(self, replica: Replica, *, again: bool = False) -> None:
        """Have a token that will do for a while, before a failpoint or a fault makes that impossible."""
        now = asyncio.get_running_loop().time()
        if now < self._token_ends and not again:
            return
        credentials = {"username": EMAIL, "password": PASSWORD}
        response = await self._client.post(f"{replica.url}/auth/login", json=credentials)
        assert response.status_code == 200, response.text
        self._token, self._token_ends = response.json()["access_token"], now + TOKEN_SECONDS

    async def ask(self, replica: Replica, method: str, path: str, **how: Any) -> Answer:
        """Ask as an admin; None when no answer came."""
        headers = {"Authorization": f"Bearer {self._token}"}
        try:
            return await self._client.request(method, replica.url + path, headers=headers, **how)
        except httpx.HTTPError:
            return None

    async def approve(self, replica: Replica, candidate: Candidate) -> Answer:
        """Approve as an admin; None when no answer came."""
        return await self.ask(replica, "POST", f"/candidates/{candidate.id}/approve")

    async def reject(self, replica: Replica, candidate: Candidate) -> Answer:
        """Reject as an admin; None when no answer came."""
        return await self.ask(replica, "POST", f"/candidates/{candidate.id}/reject")

    async def resolve(self, replica: Replica, candidate: Candidate, **resolution: object) -> Answer:
        """Resolve an approval in doubt as an admin; None when no answer came."""
        return await self.ask(replica, "POST", f"/candidates/{candidate.id}/approval/resolve", json=resolution)

    async def register(self, count: int = 1) -> list[Candidate]:
        """Companies nobody knew before; straight into the database, since registering is not what is tried here."""
        names = [f"company-{uuid4().hex}" for _ in range(count)]
        rows = await self.fetch(INSERT_CANDIDATES, names)
        return [Candidate(row["id"], row["company_name"]) for row in rows]

    async def fetch(self, statement: str, *arguments: object) -> list[asyncpg.Record]:
        """What the database says, however often it has to be asked."""
        async with asyncio.timeout(RECOVERY_SECONDS):
            while True:
                try:
                    return await self._pool.fetch(statement, *arguments)
                except RECONNECTING:
                    await asyncio.sleep(0.05)

    async def count(self, condition: str, candidates: Iterable[Candidate]) -> int:
        """How many of the candidates' intents meet a condition, which is SQL."""
        statement = f"SELECT FROM unfinished_approvals WHERE candidate_id = ANY($1::uuid[]) AND {condition}"
        return len(await self.fetch(statement, [candidate.id for candidate in candidates]))

    async def until_count(self, condition: str, candidates: Sequence[Candidate], wanted: int, seconds: float) -> float:
        """Wait until so many of the candidates' intents meet the condition; how long that took, in seconds."""
        loop = asyncio.get_running_loop()
        begun = loop.time()
        while (found := await self.count(condition, candidates)) != wanted:
            if loop.time() - begun > seconds:
                raise AssertionError(f"{found} intents, not {wanted}, are {condition} after {seconds:.0f} s")
            await asyncio.sleep(0.03)
        return loop.time() - begun

    async def settle(self, candidates: Sequence[Candidate]) -> float:
        """Wait until nothing is left to be done by itself; how long that took, in seconds."""
        return await self.until_count("in_doubt_since IS NULL", candidates, 0, RECOVERY_SECONDS)
