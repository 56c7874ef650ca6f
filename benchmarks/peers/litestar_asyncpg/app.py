"""The service on Litestar, msgspec and asyncpg: no ORM, no pydantic.

STORE says with which guarantees: plain or equal.
"""

from __future__ import annotations

import json
import logging
import math
import os
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import lru_cache
from importlib import import_module
from typing import Annotated, Any
from uuid import UUID, uuid4

import asyncpg
import billing_calls
import jwt
import msgspec
import uvicorn
from errors import refused
from litestar import Litestar, Request, get, post
from litestar.connection import ASGIConnection
from litestar.datastructures import MutableScopeHeaders, ResponseHeader
from litestar.di import Provide
from litestar.exceptions import NotAuthorizedException, PermissionDeniedException
from litestar.handlers import BaseRouteHandler
from litestar.params import Parameter
from litestar.plugins.prometheus import PrometheusConfig, PrometheusController
from litestar.types import ASGIApp, Message, Receive, Scope, Send
from models import (
    Approved,
    Candidate,
    CandidatePage,
    Pagination,
    Product,
    Registration,
    Rejected,
    Rejection,
    Status,
)

logger = logging.getLogger("access")
store_module = import_module(os.environ["STORE"])
ISSUER, AUDIENCE = "provider-registration-service", "provider-registration-api"
JWT_KEY, AUTH = os.environ["JWT_SECRET_KEY"], os.environ["AUTH"] == "on"
REMEMBERED_TOKENS = 4096
EMAIL = re.compile(r"[^@\s]+@[^@\s.]+(\.[^@\s.]+)+")
SECURITY_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "no-referrer",
    "Strict-Transport-Security": "max-age=31536000; includeSubDomains",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


async def _keep(_connection: asyncpg.Connection) -> None:
    """In place of the pool's reset, a statement after each use: nothing here changes a session."""


@asynccontextmanager
async def lifespan(app: Litestar) -> AsyncIterator[None]:
    """Open the pool and the billing client for the life of the process."""
    size = int(os.environ["POOL_SIZE"])
    async with (
        asyncpg.create_pool(os.environ["DATABASE_URL"], min_size=1, max_size=size, reset=_keep) as pool,
        billing_calls.connect(os.environ["BILLING_URL"]) as client,
    ):
        app.state.store = store_module.Store(pool, client)
        try:
            yield
        finally:
            await app.state.store.stop()


async def provide_store(request: Request) -> Any:
    """The store that the lifespan made."""
    return request.app.state.store


@lru_cache(REMEMBERED_TOKENS)
def verified(token: str) -> dict[str, Any]:
    """The claims of a valid token; those that are refused are not remembered."""
    required = {"require": ["exp", "iss", "aud", "role", "sub"]}
    return jwt.decode(token, JWT_KEY, algorithms=["HS256"], audience=AUDIENCE, issuer=ISSUER, options=required)


async def require_staff(connection: ASGIConnection, _handler: BaseRouteHandler) -> None:
    """Let viewers and admins pass."""
    if not AUTH:
        return
    scheme, _, token = connection.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer":
        raise NotAuthorizedException
    try:
        claims = verified(token)
    except jwt.InvalidTokenError:
        raise NotAuthorizedException from None
    if claims["exp"] <= time.time():
        raise NotAuthorizedException
    if claims["role"] not in ("viewer", "admin"):
        raise PermissionDeniedException
    connection.state.role, connection.state.user_id = claims["role"], claims["sub"]


async def require_admin(connection: ASGIConnection, _handler: BaseRouteHandler) -> None:
    """Let admins pass; after `require_staff`."""
    if AUTH and connection.state.role != "admin":
        raise PermissionDeniedException


def access_log(app: ASGIApp) -> ASGIApp:
    """One JSON line a request."""

    async def logged(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        started, status, request_id = time.perf_counter(), 500, uuid4().hex

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableScopeHeaders.from_message(message)["X-Request-ID"] = request_id
            await send(message)

        try:
            await app(scope, receive, noted)
        finally:
            line = {
                "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
                "request_id": request_id,
                "method": scope["method"],
                "path": scope["path"],
                "status": status,
                "duration_ms": round((time.perf_counter() - started) * 1000, 2),
            }
            logger.info(json.dumps(line))

    return logged


def candidate_of(row: asyncpg.Record) -> Candidate:
    """A row in responses; an unfinished approval is JSON already."""
    candidate = Candidate(**row)
    if candidate.approval is not None:
        candidate.approval = msgspec.Raw(candidate.approval.encode())
    return candidate


@post("/candidates")
async def register(data: Registration, store: Any) -> Candidate:
    """Register a company."""
    company = msgspec.structs.replace(
        data,
        company_name=data.company_name.strip(),
        phone=(data.phone or "").strip() or None,
        location=(data.location or "").strip() or None,
    )
    is_valid = company.company_name and EMAIL.fullmatch(data.contact_email)
    if not is_valid or len(set(data.products)) < len(data.products):
        raise refused(422, "Not valid")
    return candidate_of(await store.register(company))


@get("/candidates", guards=[require_staff])
async def list_candidates(
    store: Any,
    limit: Annotated[int, Parameter(ge=1, le=100)] = 20,
    offset: Annotated[int, Parameter(ge=0)] = 0,
    status: Status | None = None,
    product: Product | None = None,
    cursor: str | None = None,
) -> CandidatePage:
    """One page, newest first, and how many there are."""
    total, rows, next_cursor = await store.page(
        limit, offset, status.value if status else None, product.value if product else None, cursor
    )
    return CandidatePage(
        candidates=[candidate_of(row) for row in rows],
        pagination=Pagination(
            total=total,
            limit=limit,
            offset=offset,
            page=offset // limit + 1,
            page_size=limit,
            total_pages=math.ceil(total / limit),
            next_cursor=next_cursor,
        ),
    )


@get("/candidates/{candidate_id:uuid}", guards=[require_staff])
async def read(candidate_id: UUID, store: Any) -> Candidate:
    """Read one candidate."""
    return candidate_of(await store.find(candidate_id))


def actor_of(request: Request[Any, Any, Any]) -> UUID | None:
    """The user of the token."""
    return UUID(request.state.user_id) if AUTH else None


@post("/candidates/{candidate_id:uuid}/reject", status_code=200, guards=[require_staff, require_admin])
async def reject(candidate_id: UUID, data: Rejection | None, request: Request[Any, Any, Any], store: Any) -> Rejected:
    """Reject a pending candidate."""
    reason = data.reason if data else None
    await store.reject(candidate_id, reason, actor_of(request))
    return Rejected(candidate_id, Status.REJECTED, reason)


@post("/candidates/{candidate_id:uuid}/approve", status_code=200, guards=[require_staff, require_admin])
async def approve(candidate_id: UUID, request: Request[Any, Any, Any], store: Any) -> Approved:
    """Approve a pending candidate."""
    return Approved(candidate_id, Status.APPROVED, await store.approve(candidate_id, actor_of(request)))


@get("/health/live")
async def live() -> dict[str, str]:
    """Return 200: the process is alive."""
    return {"status": "ok"}


app = Litestar(
    [register, list_candidates, read, reject, approve, live, PrometheusController],
    lifespan=[lifespan],
    dependencies={"store": Provide(provide_store)},
    middleware=[access_log, PrometheusConfig(group_path=True).middleware],
    response_headers=[ResponseHeader(name=name, value=value) for name, value in SECURITY_HEADERS.items()],
    openapi_config=None,
    logging_config=None,
)

if __name__ == "__main__":
    logging.basicConfig(level="INFO", format="%(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    uvicorn.run(app, host="127.0.0.1", port=int(os.environ["PORT"]), access_log=False, log_level="warning")
