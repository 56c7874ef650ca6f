"""The service on Litestar, msgspec and asyncpg: no ORM, no pydantic."""

from __future__ import annotations

import json
import logging
import math
import os
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any
from uuid import UUID, uuid4

import asyncpg
import httpx
import jwt
import msgspec
import uvicorn
from litestar import Litestar, Request, get, post
from litestar.connection import ASGIConnection
from litestar.datastructures import MutableScopeHeaders
from litestar.di import Provide
from litestar.exceptions import HTTPException, NotAuthorizedException, PermissionDeniedException
from litestar.handlers import BaseRouteHandler
from litestar.params import Parameter
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
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt, wait_exponential

logger = logging.getLogger("access")
ISSUER, AUDIENCE = "provider-registration-service", "provider-registration-api"
BILLING_TRIES = 3
EMAIL = re.compile(r"[^@\s]+@[^@\s.]+(\.[^@\s.]+)+")

COLUMNS = """
    id AS candidate_id, status, company_name, contact_email, phone, products, truck_count, capacity_tons_per_day,
    location, created_at, updated_at, provider_id, version, rejection_reason
"""
INSERT = f"""
    INSERT INTO candidates (company_name, contact_email, phone, products, truck_count, capacity_tons_per_day, location)
    VALUES ($1, $2, $3, $4, $5, $6, $7)
    RETURNING {COLUMNS}
"""
FIND = f"SELECT {COLUMNS} FROM candidates WHERE id = $1"
REJECT = """
    UPDATE candidates
    SET status = 'rejected', rejection_reason = $3, version = version + 1, updated_at = now()
    WHERE id = $1 AND version = $2 AND status = 'pending'
    RETURNING id
"""
APPROVE = """
    UPDATE candidates
    SET status = 'approved', provider_id = $3, version = version + 1, updated_at = now()
    WHERE id = $1 AND version = $2 AND status = 'pending'
    RETURNING id
"""


@asynccontextmanager
async def lifespan(app: Litestar) -> AsyncIterator[None]:
    """Open the pool and the billing client for the life of the process."""
    size = int(os.environ["POOL_SIZE"])
    async with (
        asyncpg.create_pool(os.environ["DATABASE_URL"], min_size=1, max_size=size) as pool,
        httpx.AsyncClient(base_url=os.environ["BILLING_URL"], timeout=5.0) as billing,
    ):
        app.state.pool, app.state.billing = pool, billing
        yield


async def provide_pool(request: Request) -> asyncpg.Pool:
    """The pool that the lifespan opened."""
    return request.app.state.pool


async def require_staff(connection: ASGIConnection, _handler: BaseRouteHandler) -> None:
    """Let viewers and admins pass."""
    if os.environ["AUTH"] == "off":
        return
    scheme, _, token = connection.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer":
        raise NotAuthorizedException
    try:
        key = os.environ["JWT_SECRET_KEY"]
        claims = jwt.decode(
            token, key, algorithms=["HS256"], audience=AUDIENCE, issuer=ISSUER, options={"require": ["exp", "iss"]}
        )
    except jwt.InvalidTokenError:
        raise NotAuthorizedException from None
    if claims.get("role") not in ("viewer", "admin"):
        raise PermissionDeniedException
    connection.state.role = claims["role"]


async def require_admin(connection: ASGIConnection, _handler: BaseRouteHandler) -> None:
    """Let admins pass; after `require_staff`."""
    if os.environ["AUTH"] == "on" and connection.state.role != "admin":
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
    """A row in responses."""
    return Candidate(**row)


@post("/candidates")
async def register(data: Registration, pool: asyncpg.Pool) -> Candidate:
    """Register a company."""
    if not EMAIL.fullmatch(data.contact_email) or len(set(data.products)) < len(data.products):
        raise HTTPException(status_code=422, detail="Not valid")
    try:
        row = await pool.fetchrow(INSERT, *msgspec.structs.astuple(data))
    except asyncpg.UniqueViolationError:
        raise HTTPException(status_code=409, detail="This address is registered already") from None
    return candidate_of(row)


@get("/candidates", guards=[require_staff])
async def list_candidates(
    pool: asyncpg.Pool,
    limit: Annotated[int, Parameter(ge=1, le=100)] = 20,
    offset: Annotated[int, Parameter(ge=0)] = 0,
    status: Status | None = None,
    product: Product | None = None,
) -> CandidatePage:
    """One page, newest first, and how many there are."""
    wanted, values = [], []
    if status:
        values.append(status.value)
        wanted.append(f"status = ${len(values)}")
    if product:
        values.append([product.value])
        wanted.append(f"products @> ${len(values)}")
    where = f"WHERE {' AND '.join(wanted)}" if wanted else ""
    async with pool.acquire() as connection:
        total = await connection.fetchval(f"SELECT count(*) FROM candidates {where}", *values)
        page = f"ORDER BY created_at DESC, id DESC LIMIT ${len(values) + 1} OFFSET ${len(values) + 2}"
        rows = await connection.fetch(f"SELECT {COLUMNS} FROM candidates {where} {page}", *values, limit, offset)
    return CandidatePage(
        candidates=[candidate_of(row) for row in rows],
        pagination=Pagination(
            total=total,
            limit=limit,
            offset=offset,
            page=offset // limit + 1,
            page_size=limit,
            total_pages=math.ceil(total / limit),
        ),
    )


async def find(pool: asyncpg.Pool, candidate_id: UUID) -> asyncpg.Record:
    """The candidate's row, or 404."""
    row = await pool.fetchrow(FIND, candidate_id)
    if row is None:
        raise HTTPException(status_code=404, detail="No such candidate")
    return row


async def find_pending(pool: asyncpg.Pool, candidate_id: UUID) -> asyncpg.Record:
    """The same, or 400 if it was already decided."""
    row = await find(pool, candidate_id)
    if row["status"] != Status.PENDING:
        raise HTTPException(status_code=400, detail=f"Candidate is {row['status']} already")
    return row


@get("/candidates/{candidate_id:uuid}", guards=[require_staff])
async def read(candidate_id: UUID, pool: asyncpg.Pool) -> Candidate:
    """Read one candidate."""
    return candidate_of(await find(pool, candidate_id))


@post("/candidates/{candidate_id:uuid}/reject", status_code=200, guards=[require_staff, require_admin])
async def reject(candidate_id: UUID, data: Rejection | None, pool: asyncpg.Pool) -> Rejected:
    """Reject a pending candidate."""
    row, reason = await find_pending(pool, candidate_id), data.reason if data else None
    if await pool.fetchval(REJECT, candidate_id, row["version"], reason) is None:
        raise HTTPException(status_code=409, detail="Changed meanwhile")
    return Rejected(candidate_id, Status.REJECTED, reason)


async def create_provider(billing: httpx.AsyncClient, name: str) -> int:
    """Create the provider in billing, with a few attempts."""
    retrying = AsyncRetrying(
        stop=stop_after_attempt(BILLING_TRIES),
        wait=wait_exponential(multiplier=0.5, max=4),
        retry=retry_if_exception_type(httpx.HTTPError),
        reraise=True,
    )
    async for attempt in retrying:
        with attempt:
            response = await billing.post("/provider", json={"name": name})
            return int(response.raise_for_status().json()["id"])
    raise AssertionError


@post("/candidates/{candidate_id:uuid}/approve", status_code=200, guards=[require_staff, require_admin])
async def approve(candidate_id: UUID, request: Request[Any, Any, Any], pool: asyncpg.Pool) -> Approved:
    """Create the provider and mark the candidate approved."""
    row = await find_pending(pool, candidate_id)
    try:
        provider_id = await create_provider(request.app.state.billing, row["company_name"])
    except httpx.HTTPError:
        raise HTTPException(status_code=502, detail="Billing failed") from None
    if await pool.fetchval(APPROVE, candidate_id, row["version"], provider_id) is None:
        raise HTTPException(status_code=409, detail="Changed meanwhile")
    return Approved(candidate_id, Status.APPROVED, provider_id)


@get("/health/live")
async def live() -> dict[str, str]:
    """Return 200: the process is alive."""
    return {"status": "ok"}


app = Litestar(
    [register, list_candidates, read, reject, approve, live],
    lifespan=[lifespan],
    dependencies={"pool": Provide(provide_pool)},
    middleware=[access_log],
    openapi_config=None,
    logging_config=None,
)

if __name__ == "__main__":
    logging.basicConfig(level="INFO", format="%(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    uvicorn.run(app, host="127.0.0.1", port=int(os.environ["PORT"]), access_log=False, log_level="warning")
