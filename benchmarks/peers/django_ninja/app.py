"""The service on Django's ORM and django-ninja: `gunicorn app:application`, one process with threads."""

from __future__ import annotations

import json
import logging
import math
import os
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import django
from django.conf import settings

_database = urlsplit(os.environ["DATABASE_URL"])
settings.configure(
    DEBUG=False,
    SECRET_KEY=os.environ["JWT_SECRET_KEY"],
    ALLOWED_HOSTS=["127.0.0.1", "localhost"],
    ROOT_URLCONF="app",
    USE_TZ=True,
    MIDDLEWARE=["django.middleware.common.CommonMiddleware", "app.AccessLog"],
    APPEND_SLASH=False,
    LOGGING_CONFIG=None,
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": _database.path.lstrip("/"),
            "USER": _database.username,
            "PASSWORD": _database.password,
            "HOST": _database.hostname,
            "PORT": _database.port,
            "CONN_MAX_AGE": None,  # persistent: each thread keeps its connection
        }
    },
)
django.setup()

# Django's own modules can be imported once it is set up.
import httpx  # noqa: E402
import jwt  # noqa: E402
from django.core.wsgi import get_wsgi_application  # noqa: E402
from django.db import IntegrityError  # noqa: E402
from django.db.models import F  # noqa: E402
from django.db.models.functions import Now  # noqa: E402
from django.http import HttpRequest, HttpResponse  # noqa: E402
from django.urls import path  # noqa: E402
from models import (  # noqa: E402
    Approved,
    Candidate,
    CandidateOut,
    CandidatePage,
    Product,
    Registration,
    Rejected,
    Rejection,
    Status,
)
from ninja import NinjaAPI, Query  # noqa: E402
from ninja.errors import HttpError  # noqa: E402
from ninja.security import HttpBearer  # noqa: E402
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential  # noqa: E402

logging.basicConfig(level="INFO", format="%(message)s")
logging.getLogger("httpx").setLevel(logging.WARNING)
logger = logging.getLogger("access")
ISSUER, AUDIENCE = "provider-registration-service", "provider-registration-api"
BILLING_TRIES = 3
billing = httpx.Client(base_url=os.environ["BILLING_URL"], timeout=5.0)


class AccessLog:
    """One JSON line a request."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Pass the request on and write its line."""
        started, request_id = time.perf_counter(), uuid4().hex
        response = self._get_response(request)
        response["X-Request-ID"] = request_id
        line = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "request_id": request_id,
            "method": request.method,
            "path": request.path,
            "status": response.status_code,
            "duration_ms": round((time.perf_counter() - started) * 1000, 2),
        }
        logger.info(json.dumps(line))
        return response


class Bearer(HttpBearer):
    """A token of one of the roles."""

    def __init__(self, *roles: str) -> None:
        super().__init__()
        self._roles = roles

    def authenticate(self, request: HttpRequest, token: str) -> str | None:
        """The role in the token."""
        key = os.environ["JWT_SECRET_KEY"]
        try:
            claims = jwt.decode(
                token, key, algorithms=["HS256"], audience=AUDIENCE, issuer=ISSUER, options={"require": ["exp", "iss"]}
            )
        except jwt.InvalidTokenError:
            return None
        if claims.get("role") not in self._roles:
            raise HttpError(403, "Not allowed")
        return str(claims["role"])


IS_OPEN = os.environ["AUTH"] == "off"
STAFF = None if IS_OPEN else Bearer("viewer", "admin")
ADMIN = None if IS_OPEN else Bearer("admin")
api = NinjaAPI(docs_url=None, openapi_url=None)


@api.post("/candidates", response={201: CandidateOut}, auth=None)
def register(request: HttpRequest, body: Registration) -> tuple[int, Candidate]:
    """Register a company."""
    values = body.dict() | {"products": [product.value for product in body.products]}
    try:
        candidate = Candidate.objects.create(**values)
    except IntegrityError:
        raise HttpError(409, "This address is registered already") from None
    return 201, candidate


@api.get("/candidates", response=CandidatePage, auth=STAFF)
def list_candidates(
    request: HttpRequest,
    limit: int = Query(20, ge=1, le=100),
    offset: int = Query(0, ge=0),
    status: Status | None = None,
    product: Product | None = None,
) -> dict[str, Any]:
    """One page, newest first, and how many there are."""
    found = Candidate.objects.order_by("-created_at", "-id")
    if status:
        found = found.filter(status=status.value)
    if product:
        found = found.filter(products__contains=[product.value])
    total = found.count()
    return {
        "candidates": list(found[offset : offset + limit]),
        "pagination": {
            "total": total,
            "limit": limit,
            "offset": offset,
            "page": offset // limit + 1,
            "page_size": limit,
            "total_pages": math.ceil(total / limit),
        },
    }


def find(candidate_id: UUID) -> Candidate:
    """The candidate, or 404."""
    try:
        return Candidate.objects.get(pk=candidate_id)
    except Candidate.DoesNotExist:
        raise HttpError(404, "No such candidate") from None


def find_pending(candidate_id: UUID) -> Candidate:
    """The same, or 400 if it was already decided."""
    candidate = find(candidate_id)
    if candidate.status != Status.PENDING:
        raise HttpError(400, f"Candidate is {candidate.status} already")
    return candidate


def decide(candidate: Candidate, **values: object) -> None:
    """Change a pending candidate unless someone else already did."""
    same = Candidate.objects.filter(pk=candidate.id, version=candidate.version, status=Status.PENDING.value)
    if same.update(version=F("version") + 1, updated_at=Now(), **values) == 0:
        raise HttpError(409, "Changed meanwhile")


@api.get("/candidates/{uuid:candidate_id}", response=CandidateOut, auth=STAFF)
def read(request: HttpRequest, candidate_id: UUID) -> Candidate:
    """Read one candidate."""
    return find(candidate_id)


@api.post("/candidates/{uuid:candidate_id}/reject", response=Rejected, auth=ADMIN)
def reject(request: HttpRequest, candidate_id: UUID, body: Rejection | None = None) -> dict[str, Any]:
    """Reject a pending candidate."""
    candidate, reason = find_pending(candidate_id), body.reason if body else None
    decide(candidate, status=Status.REJECTED.value, rejection_reason=reason)
    return {"candidate_id": candidate_id, "status": Status.REJECTED, "rejection_reason": reason}


def create_provider(name: str) -> int:
    """Create the provider in billing, with a few attempts."""
    retrying = Retrying(
        stop=stop_after_attempt(BILLING_TRIES),
        wait=wait_exponential(multiplier=0.5, max=4),
        retry=retry_if_exception_type(httpx.HTTPError),
        reraise=True,
    )
    for attempt in retrying:
        with attempt:
            response = billing.post("/provider", json={"name": name})
            return int(response.raise_for_status().json()["id"])
    raise AssertionError


@api.post("/candidates/{uuid:candidate_id}/approve", response=Approved, auth=ADMIN)
def approve(request: HttpRequest, candidate_id: UUID) -> dict[str, Any]:
    """Create the provider and mark the candidate approved."""
    candidate = find_pending(candidate_id)
    try:
        provider_id = create_provider(candidate.company_name)
    except httpx.HTTPError:
        raise HttpError(502, "Billing failed") from None
    decide(candidate, status=Status.APPROVED.value, provider_id=provider_id)
    return {"candidate_id": candidate_id, "status": Status.APPROVED, "provider_id": provider_id}


@api.get("/health/live", auth=None)
def live(request: HttpRequest) -> dict[str, str]:
    """Return 200: the process is alive."""
    return {"status": "ok"}


urlpatterns = [path("", api.urls)]
application = get_wsgi_application()
