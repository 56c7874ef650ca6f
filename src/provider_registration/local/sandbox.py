"""The billing sandbox: the contract of the real service, persistent providers, and configurable faults.

`POST /provider` is the real service's endpoint; everything under `/sandbox` is for tests and experiments.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal, TypedDict, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from provider_registration.local.background_server import RESET_EXTENSION
from provider_registration.local.sandbox_faults import (
    COMMITTING,
    Fault,
    Mode,
    NoResponse,
    response_after_commit,
    response_before_commit,
)
from provider_registration.local.sandbox_store import CreateOutcome, ProviderStore

MAX_BODY = 65_536  # bytes
MAX_NAME = MAX_KEY = 255  # characters
MAX_STORED_REQUESTS = 10_000
NO_FAULT = Fault()

ABOUT = {
    "service": "billing sandbox",
    "what": "Simulates the billing service for development. Never use it in production.",
    "endpoints": {
        "POST /provider": '{"name": …}, header Idempotency-Key; 201 {"id", "name"}, 409 when the name exists',
        "GET /sandbox/providers": "every provider, oldest first; ?name= ?limit= (at most 1,000) ?offset=",
        "GET /sandbox/requests": "the last 10,000 requests to POST /provider since the start; ?name= ?key=",
        "DELETE /sandbox/requests": "deletes these requests",
        "GET, PUT /sandbox/faults": "how requests fail: mode, times, delay, retry_after, names, bad_id",
        "GET, PUT /sandbox/settings": "honour_idempotency_key, latency_ms",
        "GET /sandbox/mails": "with `run`: the e-mails that were caught, oldest first; ?to=; also as a page at /mails",
    },
    "modes": get_args(Mode),
    "example": 'curl -X PUT …/sandbox/faults -d \'{"mode": "fail_500", "times": 1}\'',
}


class SandboxSettings(BaseModel):
    """Settings that can be changed at run time."""

    model_config = ConfigDict(extra="forbid")

    honour_idempotency_key: bool = True  # False: keys are ignored, as the real service does today
    latency_ms: int = Field(0, ge=0, le=60_000)  # delay before every request


class ProviderQuery(BaseModel):
    """Filter and pagination of providers."""

    name: str | None = None
    limit: int = Field(100, ge=1, le=1000)
    offset: int = Field(0, ge=0, le=2**31 - 1)


class ProviderBody(BaseModel):
    """The body of `POST /provider`; unknown fields are ignored."""

    name: Annotated[str, Field(min_length=1, max_length=MAX_NAME, pattern=r"^[^\x00]*[^\x00\s][^\x00]*$")]


ReceivedOutcome = Literal["under_way", "created", "repeated", "name_taken", "key_reused", "bad_request", "not_created"]


class ReceivedRequest(TypedDict):
    """One request to `POST /provider`; `status` is None until there is a response, or if there is none."""

    time: str
    name: str | None
    key: str | None
    request_id: str | None
    traceparent: str | None
    outcome: ReceivedOutcome
    fault: str | None
    provider_id: int | None
    status: int | None


def create_sandbox(
    state_file: Path, *, honour_idempotency_key: bool = True, latency_ms: int = 0, more: Sequence[Route] = ()
) -> Starlette:
    """The sandbox as an ASGI application; its providers are in `state_file` (SQLite), created if missing.

    It serves `more` routes beside its own.

    Serve it with `background_server`: faults that reset connections need its protocol.
    """
    sandbox = _Sandbox(SandboxSettings(honour_idempotency_key=honour_idempotency_key, latency_ms=latency_ms))

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        sandbox.store = ProviderStore.open(state_file)
        with closing(sandbox.store):
            yield

    return Starlette(
        routes=[
            Route("/", sandbox.about),
            Route("/provider", sandbox.create_provider, methods=["POST"]),
            Route("/sandbox/providers", sandbox.show_providers),
            Route("/sandbox/requests", sandbox.show_requests),
            Route("/sandbox/requests", sandbox.forget_requests, methods=["DELETE"]),
            Route("/sandbox/faults", sandbox.show_fault),
            Route("/sandbox/faults", sandbox.set_fault, methods=["PUT"]),
            Route("/sandbox/settings", sandbox.show_settings),
            Route("/sandbox/settings", sandbox.change_settings, methods=["PUT"]),
            *more,
        ],
        lifespan=lifespan,
        exception_handlers={HTTPException: _detail},
    )


async def _detail(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - what it is registered for
    return JSONResponse({"detail": error.detail}, status_code=error.status_code, headers=error.headers)


class _Sandbox:
    store: ProviderStore  # set during the lifespan

    def __init__(self, settings: SandboxSettings) -> None:
        self._settings = settings
        self._fault = NO_FAULT
        self._requests: deque[ReceivedRequest] = deque(maxlen=MAX_STORED_REQUESTS)

    async def about(self, _request: Request) -> Response:
        return JSONResponse(ABOUT)

    async def create_provider(self, request: Request) -> Response:
        received: ReceivedRequest = {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "name": None,
            "key": request.headers.get("Idempotency-Key", "").strip() or None,
            "request_id": request.headers.get("X-Request-ID"),
            "traceparent": request.headers.get("traceparent"),
            "outcome": "under_way",
            "fault": None,
            "provider_id": None,
            "status": None,
        }
        self._requests.append(received)
        try:
            response = await self._create_provider(request, received)
        except HTTPException as error:
            received["outcome"], received["status"] = "bad_request", error.status_code
            raise
        if not isinstance(response, NoResponse):
            received["status"] = response.status_code
        return response

    async def _create_provider(self, request: Request, received: ReceivedRequest) -> Response:
        received["name"] = name = (await _read(ProviderBody, request)).name
        key = received["key"] if self._settings.honour_idempotency_key else None
        if key is not None and len(key) > MAX_KEY:
            raise HTTPException(400, f"Idempotency-Key is longer than {MAX_KEY} characters.")
        if self._settings.latency_ms:
            await asyncio.sleep(self._settings.latency_ms / 1000)

        fault = self._take_fault(name)
        received["fault"] = None if fault.mode == "none" else fault.mode
        if fault.mode not in COMMITTING:
            await asyncio.sleep(fault.delay)
            received["outcome"] = "not_created"
            return response_before_commit(fault)
        if fault.mode == "slow":
            await asyncio.sleep(fault.delay)
        outcome = self.store.create(name, key)
        received["outcome"], received["provider_id"] = outcome.kind, outcome.provider_id
        if fault.mode in ("none", "slow"):
            return _response_for(outcome, name)
        await asyncio.sleep(fault.delay)
        provider = None if outcome.provider_id is None else {"id": outcome.provider_id, "name": name}
        return response_after_commit(fault, _response_for(outcome, name), provider)

    def _take_fault(self, name: str) -> Fault:
        fault = self._fault
        if not fault.applies_to(name):
            return NO_FAULT
        if fault.times is not None:
            self._fault = fault.model_copy(update={"times": fault.times - 1}) if fault.times > 1 else NO_FAULT
        return fault

    async def show_providers(self, request: Request) -> Response:
        page = _valid(ProviderQuery, dict(request.query_params))
        total, providers = self.store.providers(page.name, limit=page.limit, offset=page.offset)
        paging = {"limit": page.limit, "offset": page.offset}
        return JSONResponse({"total": total, **paging, "providers": providers})

    async def show_requests(self, request: Request) -> Response:
        query = request.query_params
        wanted = {field: query[field] for field in ("name", "key") if field in query}
        found = [one for one in self._requests if wanted.items() <= one.items()]
        return JSONResponse({"total": len(found), "requests": found})

    async def forget_requests(self, _request: Request) -> Response:
        self._requests.clear()
        return Response(status_code=204)

    async def show_fault(self, _request: Request) -> Response:
        return JSONResponse(self._fault.model_dump())

    async def set_fault(self, request: Request) -> Response:
        fault = await _read(Fault, request)
        if RESET_EXTENSION not in request.scope.get("extensions", {}):
            raise HTTPException(501, "The server that runs this sandbox cannot reset connections.")
        self._fault = fault
        return await self.show_fault(request)

    async def show_settings(self, _request: Request) -> Response:
        return JSONResponse(self._settings.model_dump())

    async def change_settings(self, request: Request) -> Response:
        changed = await _read(SandboxSettings, request)
        self._settings = self._settings.model_copy(update=changed.model_dump(exclude_unset=True))
        return await self.show_settings(request)


def _response_for(outcome: CreateOutcome, name: str) -> Response:
    match outcome.kind:
        case "created" | "repeated":
            return JSONResponse({"id": outcome.provider_id, "name": name}, status_code=201)
        case "name_taken":
            return JSONResponse({"detail": "A provider with this name already exists."}, status_code=409)
        case "key_reused":  # draft-ietf-httpapi-idempotency-key-header, section 2.7
            detail = "This Idempotency-Key was used for another provider."
            return JSONResponse({"detail": detail}, status_code=422)


_Model = TypeVar("_Model", bound=BaseModel)


async def _read(model: type[_Model], request: Request) -> _Model:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY:
            detail = f"The body is longer than {MAX_BODY} bytes."
            raise HTTPException(413, detail, headers={"Connection": "close"})
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        raise HTTPException(400, "The body is not JSON.") from None
    return _valid(model, content)


def _valid(model: type[_Model], content: object) -> _Model:
    try:
        return model.model_validate(content)
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(str(part) for part in problem["loc"]) or "body"
        raise HTTPException(422, f"{where}: {problem['msg']}") from None
