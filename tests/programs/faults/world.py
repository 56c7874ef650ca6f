"""Everything a scenario needs: a database, a billing sandbox, replicas of the service, and an admin."""

from __future__ import annotations

import asyncio
import secrets
from collections import defaultdict
from collections.abc import AsyncIterator, Coroutine, Iterable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from uuid import UUID, uuid4

import asyncpg
import httpx

from provider_registration.auth.directory import UserDirectory
from provider_registration.auth.models import Role
from provider_registration.auth.passwords import PasswordHasher
from provider_registration.candidates.counts import recount
from provider_registration.db.database import Database
from provider_registration.privacy.service import erase_person
from provider_registration.settings import DatabaseSettings

from .billing import Billing
from .service_process import ForkServer, Replica

EMAIL, PASSWORD = "admin@example.com", "correct horse battery staple"
TOKEN_SECONDS = 900  # seconds for which a token is used; it is valid for twice as long
ANSWER_TIMEOUT = 60.0  # seconds
RECOVERY_SECONDS = 60.0  # time for an unfinished approval once the service is back
RECONNECTING = (OSError, asyncpg.PostgresConnectionError, asyncpg.InterfaceError, asyncpg.CannotConnectNowError)

# Short, so that runs do not mostly wait for leases; the lease is 1.5 deadlines.
IMPATIENT = {
    "BILLING_CONNECT_TIMEOUT_SECONDS": 0.5,
    "BILLING_TIMEOUT_SECONDS": 0.5,
    "BILLING_DEADLINE_SECONDS": 1.4,
    # A long database timeout: a dozen services on a busy machine are slow.
    "DATABASE_TIMEOUT_SECONDS": 5.0,
    "DATABASE_POOL_SIZE": 5,
}
LEASE_SECONDS = 1.5 * IMPATIENT["BILLING_DEADLINE_SECONDS"]

LOCK_CANDIDATES = """
    SELECT FROM candidates WHERE id = ANY($1::uuid[]) ORDER BY id FOR NO KEY UPDATE
"""
COUNT_WAITING = """
    SELECT count(*) AS waiting FROM pg_stat_activity
    WHERE wait_event_type = 'Lock' AND datname = current_database()
"""
# A manual rejection without regard for approvals.
OVERRULE = """
    UPDATE candidates SET status = 'rejected' WHERE id = $1 AND status = 'pending' RETURNING id
"""
INSERT_CANDIDATES = """
    INSERT INTO candidates (company_name, contact_email, products, truck_count, capacity_tons_per_day)
    SELECT name, name || '@example.com', ARRAY['apples'], 1, 1 FROM unnest($1::text[]) AS name
    RETURNING id, company_name
"""


Answer = httpx.Response | None  # None without a response


@dataclass(frozen=True)
class Candidate:
    """A company that a scenario decides about."""

    id: UUID
    name: str

    @property
    def email(self) -> str:
        """Its e-mail address."""
        return f"{self.name}@example.com"


@dataclass(frozen=True)
class Staff:
    """A logged-in admin other than the one who sends all other requests."""

    email: str
    token: str


class DatabaseServer(Protocol):
    """The server of a world's database; PostgresCluster can be killed."""

    async def create_database(self) -> str:
        """Create a migrated database; return its URL."""


class World:
    """One database, one billing service and some replicas, for successive scenarios."""

    def __init__(self, fork_server: ForkServer, cluster: DatabaseServer, billing: Billing, folder: Path) -> None:
        self.cluster = cluster
        self.billing = billing
        self.database_url = ""
        self.fork_server = fork_server
        self.folder = folder
        self._other_fork_servers: dict[str, ForkServer] = {}
        self._logs_into: Path | None = None
        self._secret = secrets.token_hex(32)
        self._pool: asyncpg.Pool
        self._client: httpx.AsyncClient
        self._running: list[Replica] = []
        self._pending: dict[Replica, list[asyncio.Task[Any]]] = defaultdict(list)
        self._token, self._token_ends = "", 0.0

    @classmethod
    @asynccontextmanager
    async def open(cls, fork_server: ForkServer, cluster: DatabaseServer, folder: Path) -> AsyncIterator[World]:
        """A new one; everything that it started ends with the block."""
        await asyncio.to_thread(folder.mkdir)
        async with AsyncExitStack() as stopping:
            billing = Billing(folder)
            await billing.start()
            stopping.push_async_callback(billing.close)
            world = cls(fork_server, cluster, billing, folder)
            world.database_url = await cluster.create_database()
            await world._add_admin(EMAIL)
            world._pool = await asyncpg.create_pool(world.database_url, min_size=0, max_size=4)
            stopping.push_async_callback(world._pool.close)
            # One connection per client: requests must compete in the service, not in the HTTP client.
            # Idle ones stay open: httpcore may close an expired one that it has just given to a request.
            limits = httpx.Limits(max_connections=None, max_keepalive_connections=None, keepalive_expiry=60)
            world._client = await stopping.enter_async_context(
                httpx.AsyncClient(timeout=ANSWER_TIMEOUT, limits=limits, trust_env=False)
            )
            stopping.callback(world._close_fork_servers)
            stopping.push_async_callback(world.clear)
            yield world

    def _close_fork_servers(self) -> None:
        for fork_server in self._other_fork_servers.values():
            fork_server.close()

    async def _add_admin(self, email: str) -> None:
        async with self.database() as database:
            hasher = PasswordHasher()
            await UserDirectory(database, hasher).create(email, PASSWORD, Role.ADMIN)
            hasher.close()

    @asynccontextmanager
    async def database(self) -> AsyncIterator[Database]:
        """The database for commands of operators."""
        url = DatabaseSettings(_env_file=None, database_url=self.database_url).database_url
        database = Database(url, pool_size=1)
        try:
            yield database
        finally:
            await database.close()

    async def erase(self, email: str) -> list[str]:
        """Erase a person's data as `erase-data` does; return what was done."""
        async with self.database() as database:
            return await erase_person(database, email)

    async def recount(self) -> dict[tuple[str, str], tuple[int, int]]:
        """Recount as `recount` does; return the corrections."""
        async with self.database() as database:
            return await recount(database)

    @asynccontextmanager
    async def holding(self, candidates: Iterable[Candidate]) -> AsyncIterator[None]:
        """Lock the candidates' rows during the block: decisions about them wait for its end."""
        async with self._pool.acquire() as connection, connection.transaction():
            await connection.execute(LOCK_CANDIDATES, [candidate.id for candidate in candidates])
            yield

    async def until_waiting(self, sessions: int, seconds: float) -> None:
        """Return when this many sessions wait for locks, or after this time."""
        end = asyncio.get_running_loop().time() + seconds
        while asyncio.get_running_loop().time() < end:
            [row] = await self.fetch(COUNT_WAITING)
            if row["waiting"] >= sessions:
                return
            await asyncio.sleep(0.01)

    @asynccontextmanager
    async def keeping_counts(self) -> AsyncIterator[None]:
        """Lock the counts during the block: changes wait for its end."""
        async with self._pool.acquire() as connection, connection.transaction():
            await connection.execute("LOCK TABLE candidate_counts IN SHARE MODE")
            yield

    async def other_fork_server(self, name: str, environment: Mapping[str, str]) -> ForkServer:
        """The fork server of a name, with more environment variables; it ends with the world."""
        if name not in self._other_fork_servers:
            self._other_fork_servers[name] = ForkServer(self.folder, environment)
            await asyncio.to_thread(self._other_fork_servers[name].load)
        return self._other_fork_servers[name]

    @contextmanager
    def starting_from(self, fork_server: ForkServer) -> Iterator[None]:
        """Start replicas from another fork server during the block."""
        usual, self.fork_server = self.fork_server, fork_server
        try:
            yield
        finally:
            self.fork_server = usual

    @contextmanager
    def logs_into(self, path: Path) -> Iterator[None]:
        """Let replicas that start during the block write their logs there."""
        self._logs_into = path
        try:
            yield
        finally:
            self._logs_into = None

    async def clear(self) -> None:
        """Stop every replica and reset billing, whether or not the scenario succeeded."""
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
        """Start a replica; `settings` are environment variables that are added to or replace the default ones."""
        environment = {
            "DATABASE_URL": database_url or self.database_url,
            "JWT_SECRET_KEY": self._secret,
            "BILLING_SERVICE_URL": self.billing.url,
            "LOG_LEVEL": "WARNING",
            "RATE_LIMIT_DEFAULT": "",  # one admin sends all requests
            "RATE_LIMIT_LOGIN": "",  # and all staff have one IP address
            "METRICS_ACCESS": "anyone",
            **IMPATIENT,
            **settings,
        }
        if failpoint:
            environment |= {"FAILPOINT": failpoint, "FAILPOINT_HIT": hit, "FAILPOINT_ACTION": action}
        texts = {name: str(value) for name, value in environment.items() if value is not None}
        replica = Replica(self.fork_server, self.folder, f"{name}-{uuid4().hex[:8]}", texts, self._logs_into)
        self._running.append(replica)
        await replica.wait_until_ready(self._client)
        return replica

    def logs(self) -> list[str]:
        """The ends of the logs of the remaining replicas, to explain a failure."""
        return [f"{replica.log.name}:\n{replica.tail()}" for replica in self._running]

    async def kill(self, replica: Replica) -> None:
        """Kill a replica, unless it is already dead."""
        await replica.kill()
        await asyncio.gather(*self._pending.pop(replica, []))
        self._running.remove(replica)

    async def stop(self, replica: Replica) -> None:
        """Stop a replica gracefully."""
        await self.answers(replica)
        await replica.terminate()
        self._running.remove(replica)

    def in_background(self, replica: Replica, asking: Coroutine[Any, Any, Answer]) -> asyncio.Task[Answer]:
        """Send a request without waiting; it ends with the replica at the latest."""
        task = asyncio.create_task(asking)
        self._pending[replica].append(task)
        return task

    async def answers(self, replica: Replica) -> list[Answer]:
        """The responses to all background requests, none of which may be unexpected."""
        answers = await asyncio.gather(*self._pending.pop(replica, []))
        for answer in answers:
            assert answer is not None, "the service sent no response"
            assert answer.status_code != 500, "the service returned an unexpected response"
        return answers

    async def log_in(self, replica: Replica, *, again: bool = False) -> None:
        """Get a token that is valid for a while, before a failpoint or a fault makes that impossible."""
        now = asyncio.get_running_loop().time()
        if now < self._token_ends and not again:
            return
        response = await self.try_to_log_in(replica, EMAIL)
        assert response is not None
        assert response.status_code == 200, response.text
        self._token, self._token_ends = response.json()["access_token"], now + TOKEN_SECONDS

    def forget_token(self) -> None:
        """Log in again next time."""
        self._token_ends = 0.0

    async def try_to_log_in(self, replica: Replica, email: str) -> Answer:
        """A replica's response to an e-mail address and the correct password; None without a response."""
        credentials = {"username": email, "password": PASSWORD}
        try:
            return await self._client.post(f"{replica.url}/auth/login", json=credentials)
        except httpx.HTTPError:
            return None

    async def hire(self, replica: Replica) -> Staff:
        """Create another admin and log in."""
        email = f"{uuid4().hex}@staff.example"
        await self._add_admin(email)
        response = await self.try_to_log_in(replica, email)
        assert response is not None
        assert response.status_code == 200, response.text
        return Staff(email, response.json()["access_token"])

    @property
    def authorization(self) -> dict[str, str]:
        """The header of the admin who sends requests."""
        return {"Authorization": f"Bearer {self._token}"}

    async def ask(self, replica: Replica, method: str, path: str, *, token: str | None = None, **how: Any) -> Answer:
        """Send a request as an admin, or with another token; None without a response."""
        headers = self.authorization if token is None else {"Authorization": f"Bearer {token}"}
        headers |= how.pop("headers", {})
        try:
            return await self._client.request(method, replica.url + path, headers=headers, **how)
        except httpx.HTTPError:
            return None

    @asynccontextmanager
    async def stream(self, replica: Replica, path: str, **how: Any) -> AsyncIterator[httpx.Response]:
        """A response to an admin that comes bit by bit."""
        headers = {**self.authorization, **how.pop("headers", {})}
        async with self._client.stream("GET", replica.url + path, headers=headers, **how) as response:
            yield response

    async def approve(self, replica: Replica, candidate: Candidate, *, token: str | None = None) -> Answer:
        """Approve as an admin, or with another token; None without a response."""
        return await self.ask(replica, "POST", f"/candidates/{candidate.id}/approve", token=token)

    async def reject(self, replica: Replica, candidate: Candidate) -> Answer:
        """Reject as an admin; None without a response."""
        return await self.ask(replica, "POST", f"/candidates/{candidate.id}/reject")

    async def overrule(self, candidate: Candidate) -> bool:
        """Reject in SQL, in any state; return whether it was undecided."""
        return bool(await self.fetch(OVERRULE, candidate.id))

    async def resolve(self, replica: Replica, candidate: Candidate, **resolution: object) -> Answer:
        """Resolve an approval in doubt as an admin; None without a response."""
        return await self.ask(replica, "POST", f"/candidates/{candidate.id}/approval/resolve", json=resolution)

    async def register(self, count: int = 1) -> list[Candidate]:
        """New companies, inserted directly into the database, since registration is not tested here."""
        names = [f"company-{uuid4().hex}" for _ in range(count)]
        rows = await self.fetch(INSERT_CANDIDATES, names)
        return [Candidate(row["id"], row["company_name"]) for row in rows]

    async def fetch(self, statement: str, *arguments: object) -> list[asyncpg.Record]:
        """The result of a query, retried while the database is unavailable."""
        async with asyncio.timeout(RECOVERY_SECONDS):
            while True:
                try:
                    return await self._pool.fetch(statement, *arguments)
                except RECONNECTING:
                    await asyncio.sleep(0.05)

    async def count(self, condition: str, candidates: Iterable[Candidate]) -> int:
        """The number of the candidates' intents that meet an SQL condition."""
        statement = f"SELECT FROM unfinished_approvals WHERE candidate_id = ANY($1::uuid[]) AND {condition}"
        return len(await self.fetch(statement, [candidate.id for candidate in candidates]))

    async def until_count(self, condition: str, candidates: Sequence[Candidate], wanted: int, seconds: float) -> float:
        """Wait until this many of the candidates' intents meet the condition; return the seconds that it took."""
        loop = asyncio.get_running_loop()
        begun = loop.time()
        while (found := await self.count(condition, candidates)) != wanted:
            if loop.time() - begun > seconds:
                raise AssertionError(f"{found} intents, not {wanted}, are {condition} after {seconds:.0f} s")
            await asyncio.sleep(0.03)
        return loop.time() - begun

    async def settle(self, candidates: Sequence[Candidate]) -> float:
        """Wait until nothing is left to complete automatically; return the seconds that it took."""
        return await self.until_count("in_doubt_since IS NULL", candidates, 0, RECOVERY_SECONDS)
