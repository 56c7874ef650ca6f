"""The real service under attack: `serve` in its own process, with PostgreSQL and, if requested, Redis or nginx."""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from fastapi.routing import iter_route_contexts

from provider_registration.app import create_app
from provider_registration.auth.models import Role
from provider_registration.db import migrations
from provider_registration.settings import Settings
from tests.forked import ForkServer
from tests.operations.test_containers import composed
from tests.production.conftest import Process, serving
from tests.redis_server import Redis
from tests.service import make_settings, user_directory

EMAIL = "honest@example.com"
PASSWORD = f"password-of-staff-{uuid4().hex}"
UNREACHABLE = "http://127.0.0.1:1"
DIRECTLY, WITH_REDIS, THROUGH_NGINX = WAYS = ("directly", "with Redis", "through nginx")
# Everything optional is on, and every limit has its default.
PAGES = {"ADMIN_PAGES": "true", "PUBLIC_PAGES": "true", "DOCS_ACCESS": "anyone", "METRICS_TOKEN": secrets.token_hex(32)}


@dataclass(frozen=True)
class Stage:
    """A service, and its public port."""

    process: Process
    port: int
    routes: list[tuple[str, str]]

    @property
    def own_port(self) -> int:
        """The service's own."""
        return int(self.process.url.rpartition(":")[2])

    @property
    def memory(self) -> float:
        """The service's memory in MiB."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        [kib] = re.findall(r"VmRSS:\s+(\d+) kB", status)
        return int(kib) / 1024

    @property
    def waited(self) -> float:
        """Seconds that the service's event loop was ready to run and had no core: other processes had them all."""
        _, nanoseconds, _ = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/schedstat").read_text().split()
        return int(nanoseconds) / 1e9

    def connections_of_strangers(self) -> int:
        """Connections to the service, or to nginx before it, that are open on our side."""
        ends = {"01", "02", "03", "04", "05", "08"}  # ESTABLISHED, SYN_SENT, SYN_RECV, FIN_WAIT1, FIN_WAIT2, CLOSE_WAIT
        found = 0
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
            _, local, remote, state, *_ = line.split()
            is_ours = int(local.rpartition(":")[2], 16) in (self.port, self.own_port)
            found += is_ours and state in ends and _is_stranger(remote)
        return found


def _is_stranger(remote: str) -> bool:
    """Whether an address of /proc/net/tcp, least byte first, is one of 127.1.0.0/16."""
    return remote[4:8] == "017F"


@asynccontextmanager
async def staged(
    database_url: str, folder: Path, way: str, *, fork_server: ForkServer | None = None, **environment: str
) -> AsyncIterator[Stage]:
    """Serve while the block runs."""
    await asyncio.to_thread(migrations.upgrade, database_url)
    async with user_directory(database_url) as users:
        await users.create(EMAIL, PASSWORD, Role.ADMIN)
    variables = {
        "DATABASE_URL": database_url,
        "JWT_SECRET_KEY": secrets.token_hex(32),
        "BILLING_SERVICE_URL": UNREACHABLE,
        **PAGES,
        **environment,
    }
    async with AsyncExitStack() as stack:
        if way == WITH_REDIS:
            redis = Redis(folder)
            await asyncio.to_thread(redis.start)
            stack.callback(redis.stop)
            variables["RATE_LIMIT_STORAGE_URL"] = redis.url
        process = await stack.enter_async_context(serving(variables, folder, fork_server=fork_server))
        port = int(process.url.rpartition(":")[2])
        if way == THROUGH_NGINX:
            port = (await stack.enter_async_context(composed(process.url, folder))).port
        yield Stage(process, port, routes())


def routes() -> list[tuple[str, str]]:
    """Method and path of every route, with values for its parameters."""
    on = {name.lower(): value for name, value in PAGES.items()}
    settings: Settings = make_settings("postgresql://nobody@127.0.0.1:1/none", UNREACHABLE, **on)
    found = set()
    for route in iter_route_contexts(create_app(settings).routes):
        path = re.sub(
            r"\{(\w+)(?::\w+)?\}", lambda name: str(uuid4()) if name[1].endswith("_id") else "nonsense", route.path
        )
        found |= {(method, path) for method in route.methods or ()}
    return sorted(found)
