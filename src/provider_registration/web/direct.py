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
from pydantic import BaseModel
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from provider_registration.web.parameters import has_too_many
from provider_registration.web.paths import route_path

Endpoint = TypeVar("Endpoint", bound=Callable[..., Awaitable[Response]])
ErrorHandlers = Mapping[Any, Callable[..., Any]]


def direct(endpoint: Endpoint) -> Endpoint:
    """Mark an endpoint that makes its own Response and needs only path, query, headers and dependencies."""
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
                if (match := route.regex.match(path)) is None:
                    continue
                request = Request(scope, receive)
                if (parameters := route.parameters_of(request, match)) is not None:
                    response = await self._respond(route, request, parameters)
                    await response(scope, receive, send)
                    return
        await self._app(scope, receive, send)

    async def _respond(self, route: _DirectRoute, request: Request, parameters: dict[str, Any]) -> Response:
        response: Response
        try:
            response = await route.endpoint.call(request, parameters)
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
        self._path = route.dependant.path_params
        match route.dependant.query_params:
            case []:
                self._query = None
            case [field] if isinstance(kind := field.field_info.annotation, type) and issubclass(kind, BaseModel):
                self._query = field
            case _:
                raise TypeError(f"{route.endpoint} takes query parameters other than one model")

    def parameters_of(self, request: Request, match: re.Match[str]) -> dict[str, Any] | None:
        """The values of the path and the query by the endpoint's names; None when one of them is not valid."""
        texts = match.groupdict()
        parameters = {}
        for field in self._path:
            parameters[field.name], errors = field.validate(texts[field.alias])
            if errors:
                return None
        if self._query:
            if has_too_many(request):
                return None
            parameters[self._query.name], errors = self._query.validate(dict(request.query_params))
            if errors:
                return None
        request.scope["path_params"] = texts
        request.scope["route"] = self._route  # as FastAPI would leave it
        return parameters


class _Call:
    """A function that FastAPI would call for a request, and the calls whose results it is given."""

    def __init__(self, dependant: Dependant) -> None:
        headers_are_optional_text = all(
            field.field_info.annotation == str | None and field.field_info.default is None
            for field in dependant.header_params
        )
        others: list[object] = [dependant.cookie_params, dependant.body_params, dependant.response_param_name]
        others += [part for needed in dependant.dependencies for part in (needed.path_params, needed.query_params)]
        if not dependant.call or any(others) or not headers_are_optional_text:
            raise TypeError(f"{dependant.call} needs more than a direct endpoint is given")
        self._function = dependant.call
        self._request_name = dependant.request_param_name or dependant.http_connection_param_name
        self._headers = [(field.name, field.alias) for field in dependant.header_params]
        self._calls = [(needed.name, _Call(needed)) for needed in dependant.dependencies]

    async def call(self, request: Request, parameters: Mapping[str, Any]) -> Any:  # noqa: ANN401 - the function's
        values = dict(parameters)
        for name, needed in self._calls:
            result = await needed.call(request, {})
            if name is not None:
                values[name] = result
        for name, alias in self._headers:
            values[name] = request.headers.get(alias)
        if self._request_name:
            values[self._request_name] = request
        return await self._function(**values)
