"""The contenders, and how each is started."""

from __future__ import annotations

import os
import secrets
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

from jose import jwt

from benchmarks.database import OF_OUR_SCHEMA, PEERS, Databases
from benchmarks.processes import Process
from provider_registration.auth.models import Role, User
from provider_registration.auth.tokens import TokenSigner
from provider_registration.local.postgres import free_port

HERE = Path(__file__).parent
SOURCES = HERE / "peers"
WORK = HERE / ".work"
POOL_SIZE = 20  # connections that each may hold
JWT_KEY = secrets.token_hex(32)
TOKEN_SECONDS = 600  # an access token of ours lives for 1800
ISSUER, AUDIENCE = "provider-registration-service", "provider-registration-api"


@dataclass(frozen=True)
class Surroundings:
    """The settings that a contender is started with."""

    databases: Databases
    billing_url: str
    auth: bool
    port: int


@dataclass(frozen=True)
class Contender:
    """A measured service. `database` is the name of the one it uses; without one it has only a static route."""

    name: str
    command: Callable[[Surroundings], list[str]]
    database: str | None
    folder: Path = WORK
    environment: Mapping[str, str] = field(default_factory=dict)
    is_ours: bool = False
    headers: tuple[str, ...] = ("X-Content-Type-Options", "X-Request-ID")  # that each response has
    is_limited: bool = False  # whether it has our default rate limits
    kinds: tuple[str, ...] = ()  # of its scenarios, if not all
    least_connections: int = 1  # with fewer it is not measured
    everywhere: bool = True  # also with the large table, and in the stage without authentication
    quick: bool = True  # also in a quick run

    @property
    def has_our_schema(self) -> bool:
        """Whether its database is made by our migrations."""
        return self.database in OF_OUR_SCHEMA

    def start(self, around: Surroundings) -> Running:
        """Start it and wait until it responds."""
        log = WORK / "logs" / f"{self.name}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        environment = _inherited(self) | self._settings(around) | dict(self.environment)
        process = Process(self.command(around), environment=environment, folder=self.folder, log=log)
        running = Running(self, process, f"http://127.0.0.1:{around.port}", around)
        try:
            process.wait_for(f"{running.url}/health/live")
        except BaseException:
            process.stop()
            raise
        return running

    def _settings(self, around: Surroundings) -> dict[str, str]:
        database_url = around.databases.urls[self.database] if self.database else ""
        if self.is_ours:
            limits = ("RATE_LIMIT_LOGIN", "RATE_LIMIT_REGISTRATION", "RATE_LIMIT_DEFAULT")
            return {
                "DATABASE_URL": database_url,
                "DATABASE_POOL_SIZE": str(POOL_SIZE),
                "JWT_SECRET_KEY": JWT_KEY,
                "BILLING_SERVICE_URL": around.billing_url,
                "APP_PORT": str(around.port),
                "LOG_LEVEL": "INFO",
                # The peers have no rate limits.
                **({} if self.is_limited else dict.fromkeys(limits, "")),
            }
        return {
            "DATABASE_URL": database_url,
            "POOL_SIZE": str(POOL_SIZE),
            "JWT_SECRET_KEY": JWT_KEY,
            "BILLING_URL": around.billing_url,
            "PORT": str(around.port),
            "AUTH": "on" if around.auth else "off",
        }


def _inherited(contender: Contender) -> dict[str, str]:
    """The environment of a server; PYTHONPATH of this checkout is only for ours."""
    names = ("PATH", "HOME", "LANG", *(["PYTHONPATH"] if contender.is_ours else []))
    return {name: os.environ[name] for name in names if name in os.environ}


@dataclass
class Running:
    """A contender at `url`."""

    contender: Contender
    process: Process
    url: str
    around: Surroundings
    _tokens: list[str] = field(default_factory=list)
    _tokens_made: float = 0.0

    @property
    def database_url(self) -> str:
        """The database that it uses; if none, one that is there in every run."""
        return self.around.databases.urls[self.contender.database or "ours"]

    def tokens(self) -> list[str]:
        """The tokens that requests have in turn, of as many sessions as limits need; none without authentication."""
        if self.contender.database is None or not (self.around.auth or self.contender.is_ours):
            return []
        if time.monotonic() - self._tokens_made > TOKEN_SECONDS or not self._tokens:
            self._tokens = self._make_tokens()
            self._tokens_made = time.monotonic()
        return self._tokens

    def _make_tokens(self) -> list[str]:
        databases = self.around.databases
        if not self.contender.is_ours:
            return [_made_token(databases.admin_id)]
        signer = TokenSigner(JWT_KEY)
        sessions = databases.session_ids if self.contender.is_limited else databases.session_ids[:1]
        return [signer.issue(User(databases.admin_id, session_id, role=Role.ADMIN)) for session_id in sessions]


def _made_token(user_id: UUID) -> str:
    """A token with the claims that ours has."""
    now = int(time.time())
    claims = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": str(user_id),
        "sid": secrets.token_hex(16),
        "role": "admin",
        "iat": now,
        "exp": now + 2 * TOKEN_SECONDS,
        "jti": secrets.token_hex(16),
    }
    return str(jwt.encode(claims, JWT_KEY, algorithm="HS256"))


def _serve(_around: Surroundings) -> list[str]:
    return [sys.executable, "-m", "provider_registration", "serve"]


def _serve_two(around: Surroundings) -> list[str]:
    return [*_serve(around), "--workers", "2"]


def _gunicorn(around: Surroundings) -> list[str]:
    bind = f"127.0.0.1:{around.port}"
    threads = ["--worker-class", "gthread", "--workers", "1", "--threads", str(POOL_SIZE)]
    return [
        str(WORK / "venv/bin/gunicorn"),
        *threads,
        "--no-control-socket",
        "--keep-alive",
        "75",
        "--bind",
        bind,
        "app:application",
    ]


def _litestar(_around: Surroundings) -> list[str]:
    return [str(WORK / "venv/bin/python"), str(SOURCES / "litestar_asyncpg/app.py")]


def _fastify(_around: Surroundings) -> list[str]:
    installed = sorted((WORK / "node/node_modules").glob("node-linux-*/bin/node"))  # for this kind of machine
    return [str(installed[0]) if installed else "node", "server.js"]


PLAIN, EQUAL = {"STORE": "plain"}, {"STORE": "equal"}
PRODUCTION = {"NODE_ENV": "production"}
MAIN_KINDS = ("live", "get", "list", "register", "reject", "approve")

OURS = Contender("ours", _serve, "ours", is_ours=True)
OURS_LIMITED = Contender(
    "ours_limited", _serve, "limited", is_ours=True, is_limited=True, kinds=MAIN_KINDS, everywhere=False, quick=False
)
FASTIFY = Contender("fastify_postgresjs", _fastify, PEERS, WORK / "node", PRODUCTION | PLAIN)
FASTIFY_EQUAL = Contender("fastify_equal", _fastify, "equal", WORK / "node", PRODUCTION | EQUAL, everywhere=False)
LITESTAR = Contender("litestar_asyncpg", _litestar, PEERS, SOURCES / "litestar_asyncpg", PLAIN)
LITESTAR_EQUAL = Contender("litestar_equal", _litestar, "equal", SOURCES / "litestar_asyncpg", EQUAL, everywhere=False)
USUAL_FASTAPI = Contender(
    "usual_fastapi",
    lambda _: [sys.executable, str(SOURCES / "usual_fastapi/app.py")],
    PEERS,
    SOURCES / "usual_fastapi",
    headers=("X-Request-ID",),
    least_connections=16,
    quick=False,
)
DJANGO = Contender(
    "django_ninja",
    _gunicorn,
    PEERS,
    SOURCES / "django_ninja",
    headers=("X-Request-ID",),
    least_connections=16,
    quick=False,
)
STATIC = Contender(
    "static", lambda _: [sys.executable, str(SOURCES / "static_route/app.py")], None, headers=(), kinds=("live",)
)
TWO_WORKERS = Contender(
    "ours_2_workers",
    _serve_two,
    "limited",  # so that its background tasks do no work of ours
    is_ours=True,
    kinds=("live", "get", "list"),
    least_connections=64,
    everywhere=False,
    quick=False,
)

CONTENDERS = {
    contender.name: contender
    for contender in (
        *(OURS, OURS_LIMITED, FASTIFY, FASTIFY_EQUAL, LITESTAR, LITESTAR_EQUAL),
        *(USUAL_FASTAPI, DJANGO, STATIC, TWO_WORKERS),
    )
}


def surroundings(databases: Databases, billing_url: str, *, auth: bool) -> Surroundings:
    """The same for all, except for the port."""
    return Surroundings(databases, billing_url, auth, free_port())
