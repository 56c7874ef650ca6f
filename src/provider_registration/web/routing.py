"""A FastAPI route that documents the errors of its dependencies, and a middleware that calls simple endpoints directly.

FastAPI resolves dependencies for every request, which costs several times as much as the endpoint itself. A `direct`
endpoint is called with the dependencies that FastAPI analysed at startup. Requests that may be invalid are left to
FastAPI, so that error messages come from one place.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, TypeVar

from fastapi import Request
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import ASGIApp, Receive, Scope, Send

from provider_registration.errors import ServiceError
from provider_registration.web.body import MAX_BODY_BYTES
from provider_registration.web.disconnects import response_after_disconnect
from provider_registration.web.openapi import EXAMPLE_ID, problems, refusals_of
from provider_registration.web.parameters import has_too_many
from provider_registration.web.problems import BodyTooLarge, InvalidRequest, field_errors, problem_response
from provider_registration.web.rate_limits import TooManyRequests

Endpoint = TypeVar("Endpoint", bound=Callable[..., Awaitable[Response]])


def direct(endpoint: Endpoint) -> Endpoint:
    """Mark an endpoint that returns a Response and needs only path, query, headers and dependencies.

    Its route must be the first of the application's own that matches its requests: it is called before they are
    searched. `include_router` would hide it. Of errors only ServiceError and ClientDisconnect become responses.
    """
    endpoint.is_direct = True  # type: ignore[attr-defined]
    return endpoint


def json_response(content: str, status_code: int = HTTPStatus.OK, headers: Mapping[str, str] | None = None) -> Response:
    """A response with serialised JSON."""
    return Response(content, status_code, headers, "application/json")


class DirectRoute(APIRoute):
    """A route whose endpoint may be direct."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:  # noqa: ANN401 - FastAPI's
        super().__init__(path, endpoint, **options)
        self.direct = _Direct(self.dependant) if getattr(endpoint, "is_direct", False) else None
        self._beginning, parameter, _ = path.partition("{")
        self._ends = () if parameter else (path, f"{path}\n")  # `$` also matches before a line end

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Whether a request is for this route. Most are for others, which FastAPI takes 20 times as long to find."""
        path: str = scope["path"]
        if path.endswith(self._ends) if self._ends else self._beginning in path:
            return super().matches(scope)
        return Match.NONE, {}


class DirectRoutes:
    """The innermost middleware: calls direct endpoints without FastAPI's own layers and its search among all routes."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._routes: list[tuple[DirectRoute, _Direct]] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = await self._respond(scope, receive) if scope["type"] == "http" else None
        await (response or self._app)(scope, receive, send)

    async def _respond(self, scope: Scope, receive: Receive) -> Response | None:
        """The response of a direct endpoint; None if the request is for another one, or may be invalid."""
        if self._routes is None:  # the first request: no route is added after it
            routes = (route for route in scope["app"].routes if isinstance(route, DirectRoute))
            self._routes = [(route, route.direct) for route in routes if route.direct]
        for route, endpoint in self._routes:
            match, matched = route.matches(scope)
            if match is Match.FULL:
                request = Request(scope, receive)
                parameters = endpoint.parameters_of(request, matched["path_params"])
                if parameters is None:
                    return None
                scope.update(matched)
                try:
                    return await endpoint.call(request, parameters)
                except ServiceError as error:
                    return problem_response(error, request)
                except ClientDisconnect:
                    return response_after_disconnect()
        return None


class Route(DirectRoute):
    """A route of the API. An endpoint declares with `refuses` only errors that its dependencies do not."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:  # noqa: ANN401 - FastAPI's
        super().__init__(path, endpoint, **options)
        self.operation_id = self.name  # the name in generated clients
        instance = re.sub(r"\{\w+\}", str(EXAMPLE_ID), path)
        refused: dict[str, ServiceError] = {}
        for error in (*refusals_of(self.dependant), *self._standard_refusals()):
            refused.setdefault(error.code, error)  # the endpoint's own example wins
        self.responses = problems(instance, *refused.values()) | self.responses

    def _standard_refusals(self) -> Iterator[ServiceError]:
        """Errors that every endpoint can return."""
        for field in self.dependant.path_params:
            _, errors = field.validate("", loc=("path", field.alias))
            if errors:
                yield InvalidRequest(field_errors(errors))
        if self.methods != {"GET"}:
            yield BodyTooLarge(MAX_BODY_BYTES)
        yield TooManyRequests(42)


class _Direct:
    """A direct endpoint, with its path and query parameters."""

    def __init__(self, dependant: Dependant) -> None:
        self.call: Callable[[Request, dict[str, Any]], Awaitable[Response]] = _Call(dependant)
        self._path = dependant.path_params
        match dependant.query_params:
            case []:
                self._query = None
            case [field] if isinstance(kind := field.field_info.annotation, type) and issubclass(kind, BaseModel):
                self._query = field
            case _:
                raise TypeError(f"{dependant.call} takes query parameters other than one model")

    def parameters_of(self, request: Request, path_params: Mapping[str, str]) -> dict[str, Any] | None:
        """The path and query parameters by their names in the endpoint; None if one is invalid."""
        parameters = {}
        for field in self._path:
            parameters[field.name], errors = field.validate(path_params[field.alias])
            if errors:
                return None
        if self._query:
            if has_too_many(request):
                return None
            parameters[self._query.name], errors = self._query.validate(dict(request.query_params))
            if errors:
                return None
        return parameters


@dataclass(frozen=True, slots=True)
class _Step:
    """A function that FastAPI would call for a request, and where its arguments come from."""

    function: Callable[..., Awaitable[Any]]
    results: Sequence[tuple[str, int]]  # of earlier steps
    headers: Sequence[tuple[str, str]]
    request_name: str | None


class _Call:
    """A function that FastAPI would call for a request, after the calls that provide its arguments."""

    def __init__(self, dependant: Dependant) -> None:
        self._steps: list[_Step] = []
        self._add(dependant)

    def _add(self, dependant: Dependant) -> int:
        """Add the step of a function, after those of its dependencies; return its number."""
        headers_are_optional_text = all(
            field.field_info.annotation == str | None and field.field_info.default is None
            for field in dependant.header_params
        )
        others: list[object] = [dependant.cookie_params, dependant.body_params, dependant.response_param_name]
        others += [part for needed in dependant.dependencies for part in (needed.path_params, needed.query_params)]
        if not dependant.call or any(others) or not headers_are_optional_text:
            raise TypeError(f"{dependant.call} needs more than a direct endpoint can get")
        results = [(needed.name, self._add(needed)) for needed in dependant.dependencies]
        headers = [(field.name, field.alias) for field in dependant.header_params]
        request_name = dependant.request_param_name or dependant.http_connection_param_name
        named = [(name, number) for name, number in results if name is not None]
        self._steps.append(_Step(dependant.call, named, headers, request_name))
        return len(self._steps) - 1

    async def __call__(self, request: Request, values: dict[str, Any]) -> Any:  # noqa: ANN401 - the function's
        """Call the function with these values and what it depends on."""
        results: list[Any] = []
        last = self._steps[-1]
        for step in self._steps:
            arguments = values if step is last else {}
            for name, number in step.results:
                arguments[name] = results[number]
            for name, alias in step.headers:
                arguments[name] = request.headers.get(alias)
            if step.request_name:
                arguments[step.request_name] = request
            results.append(await step.function(**arguments))
        return results[-1]
