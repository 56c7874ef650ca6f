"""The contenders, and how each is started."""

from __future__ import annotations

import os
import secrets
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from jose import jwt

from benchmarks.database import ADMIN_EMAIL, ADMIN_PASSWORD, Pair
from benchmarks.processes import NO_TLS, Process
from provider_registration.local.postgres import free_port

HERE = Path(__file__).parent
PEERS = HERE / "peers"
WORK = HERE / ".work"
POOL_SIZE = 20  # connections that each may hold
JWT_KEY = secrets.token_hex(32)
TOKEN_SECONDS = 600  # an access token of ours lives for 1800
ISSUER, AUDIENCE = "provider-registration-service", "provider-registration-api"


@dataclass(frozen=True)
class Surroundings:
    """The settings that a contender is started with."""

    pair: Pair
    billing_url: str
    auth: bool
    port: int


@dataclass(frozen=True)
class Contender:
    """A measured service. `database` says whose it uses; without one it has only a static route."""

    name: str
    command: Callable[[Surroundings], list[str]]
    database: str | None
    folder: Path = WORK
    environment: Mapping[str, str] = field(default_factory=dict)
    only: tuple[str, ...] = ()  # names of its scenarios, if not all

    @property
    def is_ours(self) -> bool:
        """Whether it is this service."""
        return self.database == "ours"

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
        if self.is_ours:
            return {
                "DATABASE_URL": around.pair.ours,
                "DATABASE_POOL_SIZE": str(POOL_SIZE),
                "JWT_SECRET_KEY": JWT_KEY,
                "BILLING_SERVICE_URL": around.billing_url,
                "APP_PORT": str(around.port),
                "LOG_LEVEL": "INFO",
                # The peers have no rate limits.
                "RATE_LIMIT_LOGIN": "",
                "RATE_LIMIT_REGISTRATION": "",
                "RATE_LIMIT_DEFAULT": "",
            }
        return {
            "DATABASE_URL": around.pair.peers,
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
    _token: str = ""
    _token_made: float = 0.0

    @property
    def database_url(self) -> str:
        """The database that it uses."""
        return self.around.pair.ours if self.contender.is_ours else self.around.pair.peers

    def headers(self) -> dict[str, str]:
        """The headers of an admin."""
        if self.contender.database is None or not (self.around.auth or self.contender.is_ours):
            return {}
        if time.monotonic() - self._token_made > TOKEN_SECONDS or not self._token:
            self._token = _log_in(self.url) if self.contender.is_ours else _made_token()
            self._token_made = time.monotonic()
        return {"Authorization": f"Bearer {self._token}"}


def _log_in(url: str) -> str:
    credentials = {"username": ADMIN_EMAIL, "password": ADMIN_PASSWORD}
    response = httpx.post(f"{url}/auth/login", json=credentials, trust_env=False, timeout=30, verify=NO_TLS)
    return str(response.raise_for_status().json()["access_token"])


def _made_token() -> str:
    """A token with the claims that ours has."""
    now = int(time.time())
    claims = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": secrets.token_hex(16),
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


OURS = Contender("ours", _serve, "ours")
USUAL_FASTAPI = Contender(
    "usual_fastapi", lambda _: [sys.executable, str(PEERS / "usual_fastapi/app.py")], "peers", PEERS / "usual_fastapi"
)
LITESTAR = Contender(
    "litestar_asyncpg",
    lambda _: [str(WORK / "venv/bin/python"), str(PEERS / "litestar_asyncpg/app.py")],
    "peers",
    PEERS / "litestar_asyncpg",
)
FASTIFY = Contender(
    "fastify_postgresjs", lambda _: ["node", "server.js"], "peers", WORK / "node", {"NODE_ENV": "production"}
)
DJANGO = Contender("django_ninja", _gunicorn, "peers", PEERS / "django_ninja")
STATIC = Contender("static", lambda _: [sys.executable, str(PEERS / "static_route/app.py")], None, only=("live_16",))
TWO_WORKERS = Contender("ours_2_workers", _serve_two, "ours", only=("live_16", "get_64", "list_64"))

CONTENDERS = {c.name: c for c in (OURS, USUAL_FASTAPI, LITESTAR, FASTIFY, DJANGO, STATIC, TWO_WORKERS)}


def surroundings(pair: Pair, billing_url: str, *, auth: bool) -> Surroundings:
    """The same for all, except for the port."""
    return Surroundings(pair, billing_url, auth, free_port())
