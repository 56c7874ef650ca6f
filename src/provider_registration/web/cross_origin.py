"""Scripts from other origins: which headers they may send and read, and refusals as problem documents."""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from provider_registration.errors import InvalidStateError
from provider_registration.web.problems import problem_response
from provider_registration.web.quotas import POLICY_HEADER, RATE_LIMIT_HEADER

SENT_HEADERS = (
    "Authorization",
    "Content-Type",
    "Idempotency-Key",
    "If-Match",
    "If-None-Match",
    "Last-Event-ID",
    "Prefer",
    "X-Request-ID",
    "traceparent",
    "tracestate",
)
# Every header of the OpenAPI document, and those of any response.
READ_HEADERS = (
    "Allow",
    "Cache-Control",
    "Content-Disposition",
    "Deprecation",
    "ETag",
    "Idempotency-Replayed",
    "Link",
    "Location",
    "Preference-Applied",
    "Retry-After",
    "Sunset",
    "Vary",
    "WWW-Authenticate",
    "X-Request-ID",
    RATE_LIMIT_HEADER,
    POLICY_HEADER,
)


class PreflightRefused(InvalidStateError):
    """A script from another origin may not send this request."""

    code = "preflight-refused"
    title = "Preflight refused"

    def __str__(self) -> str:
        return "A script of this origin may not send this request, or not with this method or these headers."


class CrossOrigin(CORSMiddleware):
    """Lets scripts from some origins use the API. Starlette refuses others in plain text."""

    def __init__(self, app: ASGIApp, *, origins: list[str]) -> None:
        super().__init__(
            app,
            allow_origins=origins,
            allow_methods=["GET", "POST", "PATCH", "DELETE"],
            allow_headers=SENT_HEADERS,
            expose_headers=READ_HEADERS,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope) if scope["type"] == "http" else {}
        if scope.get("method") == "OPTIONS" and "origin" in headers and "access-control-request-method" in headers:
            response = self.preflight_response(Headers(scope=scope))
            if response.status_code >= 400:  # noqa: PLR2004 - any refusal
                refusal = problem_response(PreflightRefused(), Request(scope))
                for name in ("Vary", "Access-Control-Allow-Origin"):
                    if name in response.headers:
                        refusal.headers[name] = response.headers[name]
                response = refusal
            await response(scope, receive, send)
            return
        await super().__call__(scope, receive, send)
