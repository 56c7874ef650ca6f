"""Exception handlers of the application."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response
from starlette.routing import Match

from provider_registration.errors import ServiceError
from provider_registration.observability.endpoints import METHODS
from provider_registration.web.disconnects import response_after_disconnect
from provider_registration.web.problems import (
    PROBLEM_MEDIA_TYPE,
    TYPE_PREFIX,
    InvalidRequest,
    field_errors,
    instance_of,
    problem_response,
)

FRAMEWORK_MESSAGES = {
    HTTPStatus.NOT_FOUND: "Not found.",
    HTTPStatus.METHOD_NOT_ALLOWED: "Method not allowed; see the Allow header.",
}


def install_error_handlers(app: FastAPI) -> None:
    """Turn expected errors into problem documents. RequestMiddleware handles unexpected ones."""
    handlers: dict[type[Exception], Any] = {
        ServiceError: _service_error,
        RequestValidationError: _validation_error,
        HTTPException: _framework_error,
        ClientDisconnect: _client_disconnect,
    }
    for kind, handler in handlers.items():
        app.add_exception_handler(kind, handler)


async def _service_error(request: Request, error: ServiceError) -> Response:
    return problem_response(error, request)


async def _validation_error(request: Request, error: RequestValidationError) -> Response:
    return problem_response(InvalidRequest(field_errors(error.errors())), request)


async def _framework_error(request: Request, error: HTTPException) -> Response:
    status = HTTPStatus(error.status_code)
    problem = {
        "type": TYPE_PREFIX + status.phrase.lower().replace(" ", "-"),
        "title": status.phrase.capitalize(),
        "status": int(status),
        "detail": FRAMEWORK_MESSAGES.get(status, status.description or status.phrase),
        "instance": instance_of(request),
    }
    headers = dict(error.headers or {})
    if status is HTTPStatus.METHOD_NOT_ALLOWED:
        headers["Allow"] = ", ".join(_methods_of_path(request))
    return JSONResponse(problem, status, headers, PROBLEM_MEDIA_TYPE)


def _methods_of_path(request: Request) -> list[str]:
    """The methods of all routes at the request's path; the framework names only those of the first route."""
    # First find the few routes that match the path: comparing a long path with all routes takes a millisecond.
    routes = [route for route in request.app.routes if route.matches(request.scope)[0] is not Match.NONE]
    methods = {
        method
        for method in METHODS
        if any(route.matches({**request.scope, "method": method})[0] is Match.FULL for route in routes)
    }
    return sorted(methods | ({"HEAD"} if "GET" in methods else set()))  # RequestMiddleware handles HEAD


async def _client_disconnect(_request: Request, _error: ClientDisconnect) -> Response:
    return response_after_disconnect()
