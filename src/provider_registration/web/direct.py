"""Calling simple routes without FastAPI's machinery, which costs several times what they do themselves.

FastAPI still describes these routes and their dependencies: what is called here is read from its description. Whatever
is not plainly valid is left to FastAPI, so that there is one place where refusals are worded.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from http import HTTPStatus
from typing import Any, TypeVar

from fastapi import Request
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from provider_registration.web.paths import route_path

Endpoint = TypeVar("Endpoint", bound=Callable[..., Awaitable[Response]])
ErrorHandlers = Mapping[Any, Callable[..., Any]]


def direct(endpoint: Endpoint) -> Endpoint:
    """Mark an endpoint that makes its own Response and needs only the path, headers and dependencies."""
    endpoint.is_direct = True  # type: ignore[attr-defined]
    return endpoint


def json_response(content: str, status_code: int = HTTPStatus.OK, headers: Mapping[str, str] | None = None) -> Response:
    """Answer with what is JSON already."""
    return Response(content, status_code, headers, "application/json")


class DirectRoutes:
    """Answers the requests for `direct` endpoints, and passes all others on. The innermost layer before FastAPI."""

    def __init__(self, app: ASGIApp, *, routes: Iterable[object], error_handlers: ErrorHandlers) -> None:
        self._app = app
        self._error_handlers = error_handlers
        self._routes: dict[str, list[_DirectRoute]] = {}
        for route in routes:
            if isinstance(route, APIRoute) and getattr(route.endpoint, "is_direct", False):
                for method in route.methods or ():
                    self._routes.setdefault(method, []).append(_DirectRoute(route))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            path = route_path(scope)
            for route in self._routes.get(scope["method"], ()):
                if (match := route.regex.match(path)) and route.can_take(scope, match):
                    response = await self._respond(route, Request(scope, receive))
                    await response(scope, receive, send)
                    return
        await self._app(scope, receive, send)

    async def _respond(self, route: _DirectRoute, request: Request) -> Response:
        response: Response
        try:
            response = await route.endpoint.call(request)
        except Exception as error:
            handler = next((self._error_handlers[k] for k in type(error).__mro__ if k in self._error_handlers), None)
            if handler is None:
                raise
            response = await handler(request, error)
        return response


class _DirectRoute:
    def __init__(self, route: APIRoute) -> None:
        self.regex: re.Pattern[str] = route.path_regex
        self.endpoint = _Call(route.dependant)
        self._route = route

    def can_take(self, scope: Scope, match: re.Match[str]) -> bool:
        """Whether the path's parameters are valid; the scope has them then, as FastAPI would leave it."""
        values = match.groupdict()
        for name, field in self.endpoint.path_fields:
            value, errors = field.validate(values[name])
            if errors:
                return False
            values[name] = value
        scope["path_params"] = values
        scope["route"] = self._route
        return True


class _Call:
    """A function that FastAPI would call for a request, and the calls whose results it is given."""

    def __init__(self, dependant: Dependant) -> None:
        unknown = [dependant.query_params, dependant.cookie_params, dependant.body_params]
        headers_are_optional_text = all(
            field.field_info.annotation == str | None and field.field_info.default is None
            for field in dependant.header_params
        )
        if not dependant.call or any(unknown) or dependant.response_param_name or not headers_are_optional_text:
            raise TypeError(f"{dependant.call} needs more than a direct endpoint is given")
        self._function = dependant.call
        self._request_name = dependant.request_param_name or dependant.http_connection_param_name
        self.path_fields = [(field.alias, field) for field in dependant.path_params]
        self._path_names = [(field.name, field.alias) for field in dependant.path_params]
        self._header_names = [(field.name, field.alias) for field in dependant.header_params]
        self._calls = [(needed.name, _Call(needed)) for needed in dependant.dependencies]

    async def call(self, request: Request) -> Any:  # noqa: ANN401 - whatever the function gives
        values: dict[str, Any] = {}
        for name, needed in self._calls:
            result = await needed.call(request)
            if name is not None:
                values[name] = result
        for name, alias in self._path_names:
            values[name] = request.path_params[alias]
        for name, alias in self._header_names:
            values[name] = request.headers.get(alias)
        if self._request_name:
            values[self._request_name] = request
        return await self._function(**values)
