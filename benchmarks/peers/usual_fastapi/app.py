"""The service as it is commonly built on FastAPI: ORM sessions by dependency, BaseHTTPMiddleware, exact count(*)."""

from __future__ import annotations

import json
import logging
import math
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any
from uuid import UUID, uuid4

import httpx
import uvicorn
from fastapi import Depends, FastAPI, HTTPException, Query, Request, Response
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from jose import JWTError, jwt
from models import (
    Approved,
    Candidate,
    CandidateCreate,
    CandidateOut,
    CandidatePage,
    Product,
    Rejected,
    Rejection,
    Status,
)
from prometheus_client import Counter, Histogram
from sqlalchemy import func, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt, wait_exponential

logger = logging.getLogger("access")
REQUESTS = Counter("http_requests_total", "Requests", ["method", "path", "status"])
SECONDS = Histogram("http_request_seconds", "Time of a request", ["method", "path"])

ISSUER, AUDIENCE = "provider-registration-service", "provider-registration-api"
BILLING_TRIES = 3

engine = create_async_engine(
    os.environ["DATABASE_URL"].replace("postgresql://", "postgresql+asyncpg://"),
    pool_size=int(os.environ["POOL_SIZE"]),
    max_overflow=0,
    pool_pre_ping=True,
)
new_session = async_sessionmaker(engine, expire_on_commit=False)


class MetricsMiddleware(BaseHTTPMiddleware):
    """Counts and times every request."""

    async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        """Pass the request on and record how it went."""
        started = time.perf_counter()
        response = await call_next(request)
        path = getattr(request.scope.get("route"), "path", "unmatched")
        REQUESTS.labels(request.method, path, response.status_code).inc()
        SECONDS.labels(request.method, path).observe(time.perf_counter() - started)
        return response


class AccessLogMiddleware(BaseHTTPMiddleware):
    """One JSON line a request."""

    async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        """Pass the request on and write its line."""
        request_id = request.headers.get("X-Request-ID") or uuid4().hex
        started = time.perf_counter()
        response = await call_next(request)
        response.headers["X-Request-ID"] = request_id
        line = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "request_id": request_id,
            "method": request.method,
            "path": request.url.path,
            "status": response.status_code,
            "duration_ms": round((time.perf_counter() - started) * 1000, 2),
        }
        logger.info(json.dumps(line))
        return response


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
    """Close the pool at the end."""
    yield
    await engine.dispose()


app = FastAPI(lifespan=lifespan)
app.add_middleware(MetricsMiddleware)
app.add_middleware(AccessLogMiddleware)


async def get_session() -> AsyncIterator[AsyncSession]:
    """A session for the request: committed at its end, rolled back when it fails."""
    async with new_session() as session:
        try:
            yield session
            await session.commit()
        except BaseException:
            await session.rollback()
            raise


SessionDep = Annotated[AsyncSession, Depends(get_session, scope="function")]
bearer = HTTPBearer(auto_error=False)


def current_role(credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)]) -> str:
    """The role in the bearer token."""
    if os.environ["AUTH"] == "off":
        return "admin"
    try:
        if credentials is None:
            raise HTTPException(401, "Not authenticated")
        key = os.environ["JWT_SECRET_KEY"]
        claims: dict[str, Any] = jwt.decode(
            credentials.credentials, key, algorithms=["HS256"], audience=AUDIENCE, issuer=ISSUER
        )
    except JWTError:
        raise HTTPException(401, "Not authenticated") from None
    role = str(claims.get("role"))
    if role not in ("viewer", "admin"):
        raise HTTPException(403, "Not allowed")
    return role


RoleDep = Annotated[str, Depends(current_role)]


def require_admin(role: RoleDep) -> None:
    """Refuse all others."""
    if role != "admin":
        raise HTTPException(403, "Not allowed")


@app.post("/candidates", status_code=201, response_model=CandidateOut)
async def register(body: CandidateCreate, session: SessionDep) -> Candidate:
    """Register a company."""
    candidate = Candidate(**body.model_dump())
    session.add(candidate)
    try:
        await session.flush()
    except IntegrityError:
        raise HTTPException(409, "This address is registered already") from None
    return candidate


@app.get("/candidates", response_model=CandidatePage)
async def list_candidates(
    session: SessionDep,
    _role: RoleDep,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    offset: Annotated[int, Query(ge=0)] = 0,
    status: Status | None = None,
    product: Product | None = None,
) -> dict[str, Any]:
    """One page, newest first, and how many there are."""
    wanted = []
    if status:
        wanted.append(Candidate.status == status.value)
    if product:
        wanted.append(Candidate.products.contains([product.value]))
    total = await session.scalar(select(func.count()).select_from(Candidate).where(*wanted)) or 0
    newest_first = (Candidate.created_at.desc(), Candidate.id.desc())
    found = await session.scalars(select(Candidate).where(*wanted).order_by(*newest_first).limit(limit).offset(offset))
    return {
        "candidates": found.all(),
        "pagination": {
            "total": total,
            "limit": limit,
            "offset": offset,
            "page": offset // limit + 1,
            "page_size": limit,
            "total_pages": math.ceil(total / limit),
        },
    }


async def find(session: AsyncSession, candidate_id: UUID) -> Candidate:
    """The candidate, or 404."""
    candidate = await session.get(Candidate, candidate_id)
    if candidate is None:
        raise HTTPException(404, "No such candidate")
    return candidate


@app.get("/candidates/{candidate_id}", response_model=CandidateOut)
async def read(candidate_id: UUID, session: SessionDep, _role: RoleDep) -> Candidate:
    """Read one candidate."""
    return await find(session, candidate_id)


async def decide(session: AsyncSession, candidate: Candidate, **values: object) -> None:
    """Change a pending candidate unless someone else already did."""
    statement = (
        update(Candidate)
        .where(Candidate.id == candidate.id, Candidate.version == candidate.version, Candidate.status == "pending")
        .values(version=Candidate.version + 1, updated_at=func.now(), **values)
        .execution_options(synchronize_session=False)
    )
    if (await session.execute(statement)).rowcount == 0:
        raise HTTPException(409, "Changed meanwhile")


@app.post("/candidates/{candidate_id}/reject", response_model=Rejected, dependencies=[Depends(require_admin)])
async def reject(candidate_id: UUID, session: SessionDep, body: Rejection | None = None) -> dict[str, Any]:
    """Reject a pending candidate."""
    candidate = await find(session, candidate_id)
    if candidate.status != Status.PENDING:
        raise HTTPException(400, f"Candidate is {candidate.status} already")
    reason = body.reason if body else None
    await decide(session, candidate, status=Status.REJECTED.value, rejection_reason=reason)
    return {"candidate_id": candidate_id, "status": Status.REJECTED, "rejection_reason": reason}


async def create_provider(name: str) -> int:
    """Create the provider in billing, with a few attempts."""
    retrying = AsyncRetrying(
        stop=stop_after_attempt(BILLING_TRIES),
        wait=wait_exponential(multiplier=0.5, max=4),
        retry=retry_if_exception_type(httpx.HTTPError),
        reraise=True,
    )
    async for attempt in retrying:
        with attempt:
            async with httpx.AsyncClient(base_url=os.environ["BILLING_URL"], timeout=5.0) as client:
                response = await client.post("/provider", json={"name": name})
                response.raise_for_status()
                return int(response.json()["id"])
    raise AssertionError


@app.post("/candidates/{candidate_id}/approve", response_model=Approved, dependencies=[Depends(require_admin)])
async def approve(candidate_id: UUID, session: SessionDep) -> dict[str, Any]:
    """Create the provider and mark the candidate approved."""
    candidate = await find(session, candidate_id)
    if candidate.status != Status.PENDING:
        raise HTTPException(400, f"Candidate is {candidate.status} already")
    try:
        provider_id = await create_provider(candidate.company_name)
    except httpx.HTTPError:
        raise HTTPException(502, "Billing failed") from None
    await decide(session, candidate, status=Status.APPROVED.value, provider_id=provider_id)
    return {"candidate_id": candidate_id, "status": Status.APPROVED, "provider_id": provider_id}


@app.get("/health/live")
async def live() -> dict[str, str]:
    """Return 200: the process is alive."""
    return {"status": "ok"}


if __name__ == "__main__":
    logging.basicConfig(level="INFO", format="%(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    uvicorn.run(app, host="127.0.0.1", port=int(os.environ["PORT"]), access_log=False, log_level="warning")
