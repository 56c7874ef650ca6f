"""Routes of the API: simple endpoints respond exactly as FastAPI would, and error responses are documented."""

from __future__ import annotations

import re
from typing import Annotated
from uuid import UUID, uuid4

import fastapi.routing
import httpx
import pytest
from fastapi import APIRouter, Depends, FastAPI, Header, Query, Request, Response
from fastapi.routing import APIRoute, iter_route_contexts
from fastapi.security import OAuth2PasswordBearer
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import ClientDisconnect
from starlette.routing import Match

from provider_registration.app import create_app
from provider_registration.auth.errors import NotAuthenticated
from provider_registration.db.database import DatabaseUnavailable
from provider_registration.web.body import json_body
from provider_registration.web.error_handlers import install_error_handlers
from provider_registration.web.middleware import RequestMiddleware
from provider_registration.web.openapi import refuses
from provider_registration.web.problems import InvalidRequest
from provider_registration.web.routing import DirectRoute, DirectRoutes, Route, direct
from tests.service import make_settings

bearer = OAuth2PasswordBearer(tokenUrl="login", auto_error=False)
THING = "0b8f3c52-94b1-4c43-9f0e-6a1f5f2d7c11"


@refuses(NotAuthenticated())
async def who(request: Request, token: Annotated[str | None, Depends(bearer)]):
    return f"{request.method} {token}"


@direct
async def read_thing(
    thing_id: UUID,
    who: Annotated[str, Depends(who)],
    language: Annotated[str | None, Header(alias="Accept-Language")] = None,
) -> Response:
    if thing_id.int == 0:
        raise DatabaseUnavailable
    if thing_id.int == 1:
        raise KeyError
    if thing_id.int == 2:
        raise ClientDisconnect
    return Response(f"{type(thing_id).__name__} {thing_id} {who} {language}", 203, {"ETag": '"1"'}, "text/plain")


class Search(BaseModel):
    model_config = ConfigDict(extra="forbid")

    words: str = "any"
    limit: int = Field(10, ge=1)


@refuses(InvalidRequest.at("query", "limit", "Too few"))
@direct
async def search_things(query: Annotated[Search, Query()], who: Annotated[str, Depends(who)]) -> Response:
    return Response(f"{query!r} {who}")


@refuses(DatabaseUnavailable())
async def write_thing(thing_id: UUID, _words: Annotated[Search, Depends(json_body(Search, optional=True))]) -> str:
    return f"written {thing_id}"


def application(route_class=Route):
    """An application with these endpoints; FastAPI's own route class ignores `direct`."""
    router = APIRouter(prefix="/things", route_class=route_class)
    router.get("/{thing_id}")(read_thing)
    router.get("")(search_things)
    router.post("/{thing_id}")(write_thing)
    app = FastAPI()
    app.router.routes += router.routes  # as in the service, whose routers are not included
    install_error_handlers(app)
    app.add_middleware(DirectRoutes)
    app.add_middleware(RequestMiddleware)
    return app


async def ask(app, method, path, root_path="", **headers):
    transport = httpx.ASGITransport(app, root_path=root_path)
    async with httpx.AsyncClient(transport=transport, base_url="http://test", headers=headers) as client:
        response = await client.request(method, path)
    return response.status_code, response.text, {k: v for k, v in response.headers.items() if k != "x-request-id"}


@pytest.mark.parametrize(
    ("method", "path", "headers"),
    [
        ("GET", f"/things/{THING}", {}),
        ("GET", f"/things/{{{THING.upper()}}}", {}),
        ("GET", f"/things/{THING}?more=1", {"Authorization": "Bearer secret", "Accept-Language": "de"}),
        ("HEAD", f"/things/{THING}", {}),
        ("GET", f"/things/{UUID(int=0)}", {}),
        ("GET", f"/things/{UUID(int=1)}", {}),
        ("GET", f"/things/{UUID(int=2)}", {}),
        ("GET", "/things/7", {}),
        ("GET", f"/things/{THING}/", {}),
        ("GET", f"/things/{THING}%0A", {}),
        ("GET", "/things/", {}),
        ("GET", "/other", {}),
        ("GET", "/things", {}),
        ("GET", "/things?words=a%20b&limit=5", {"Authorization": "Bearer secret"}),
        ("GET", "/things?limit=0", {}),
        ("GET", "/things?limit=", {}),
        ("GET", "/things?limit=x&words=a&words=b", {}),
        ("GET", "/things?other=1", {}),
        ("POST", f"/things/{THING}", {}),
        ("DELETE", f"/things/{THING}", {}),
    ],
)
async def test_the_response_is_the_same_as_fastapis(method, path, headers):
    assert await ask(application(), method, path, **headers) == await ask(
        application(APIRoute), method, path, **headers
    )


@pytest.mark.parametrize("path", [f"/prefix/things/{THING}", f"/things/{THING}"])
async def test_a_gateways_prefix_may_be_there_or_not(path):
    assert (await ask(application(), "GET", path, root_path="/prefix"))[0] == 203


async def test_a_direct_endpoint_is_called_without_solving(monkeypatch):
    async def solve(**_request):
        raise NotImplementedError

    monkeypatch.setattr(fastapi.routing, "solve_dependencies", solve)

    assert (await ask(application(), "GET", f"/things/{THING}"))[0] == 203
    assert (await ask(application(), "GET", "/things?limit=5"))[0] == 200
    assert (await ask(application(), "POST", f"/things/{THING}"))[0] == 500


@pytest.mark.parametrize("source", [Query(), Header(), Depends(lambda words: words)])
async def test_an_endpoint_that_needs_more_is_refused_at_the_start(source):
    async def search(words):
        return Response(words)

    search.__annotations__ = {"words": Annotated[str, source], "return": Response}

    with pytest.raises(TypeError):
        Route("/", direct(search))


def test_no_direct_endpoint_is_given_dependencies_where_it_is_included():
    app = create_app(make_settings("postgresql://x:x@127.0.0.1/x", "http://127.0.0.1", admin_pages=True))
    routes = [route for route in iter_route_contexts(app.routes) if getattr(route.endpoint, "is_direct", False)]

    assert routes
    assert [route.path for route in routes if route.dependencies] == []


def test_no_other_route_takes_the_requests_of_a_direct_endpoint():
    """It is called before the routes are searched in order, so it must be the first that matches."""
    app = create_app(make_settings("postgresql://x:x@127.0.0.1/x", "http://127.0.0.1", admin_pages=True, graphql=True))
    routes = [route for route in app.routes if isinstance(route, DirectRoute) and route.direct]

    for route in routes:
        scope = {"type": "http", "path": re.sub(r"{\w+}", THING, route.path), "root_path": ""}
        [scope["method"]] = route.methods
        assert next(each for each in app.routes if each.matches(dict(scope))[0] is Match.FULL) is route
    assert len(routes) > 5


async def test_ids_are_read_each_time():
    app, ids = application(), [str(uuid4()) for _ in range(3)]

    assert [(await ask(app, "GET", f"/things/{thing}"))[1].split()[1] for thing in ids] == ids


@pytest.mark.parametrize(
    ("method", "path", "refused"),
    [
        ("get", "/things/{thing_id}", {401: "not-authenticated", 422: "invalid-request", 429: "too-many-requests"}),
        ("get", "/things", {401: "not-authenticated", 422: "invalid-request", 429: "too-many-requests"}),
        (
            "post",
            "/things/{thing_id}",
            {
                408: "body-too-slow",
                413: "body-too-large",
                415: "unsupported-media-type",
                422: "invalid-request",
                429: "too-many-requests",
                503: "database-unavailable",
            },
        ),
    ],
)
def test_a_route_describes_what_it_and_its_dependencies_refuse(method, path, refused):
    responses = application().openapi()["paths"][path][method]["responses"]

    examples = {
        int(status): response["content"]["application/problem+json"]["examples"]
        for status, response in responses.items()
        if int(status) >= 400
    }
    assert {status: [*codes] for status, codes in examples.items()} == {s: [code] for s, code in refused.items()}
    instances = {example["value"]["instance"] for codes in examples.values() for example in codes.values()}
    assert instances == {path.replace("{thing_id}", THING)}


def test_the_example_of_a_fault_is_the_endpoints_own_or_of_its_path():
    paths = application().openapi()["paths"]

    def faults(path):
        problem = paths[path]["get"]["responses"]["422"]["content"]["application/problem+json"]
        return problem["examples"]["invalid-request"]["value"]["errors"]

    assert faults("/things") == [{"location": "query", "field": "limit", "code": "invalid", "detail": "Too few"}]
    assert faults("/things/{thing_id}") == [
        {"location": "path", "field": "thing_id", "code": "invalid", "detail": "Input should be a UUID"}
    ]


PATHS = ["/candidates", "/candidates\n", "/candidates/", f"/candidates/{THING}", f"/candidates/{THING}/approve", "/"]
PATHS += ["/candidates.csv", "/health", "/health/live", "/health/ready", "/health/live/", "/audit.csv", "/x", ""]


@pytest.mark.parametrize("root_path", ["", "/prefix"])
@pytest.mark.parametrize("sent_prefix", ["", "/prefix", "/candidates"])
def test_a_route_matches_what_fastapis_does(root_path, sent_prefix):
    app = create_app(make_settings("postgresql://x:x@127.0.0.1/x", "http://127.0.0.1"))
    matched = 0
    for path in PATHS:
        scope = {"type": "http", "method": "GET", "path": sent_prefix + path, "root_path": root_path}
        for route in app.routes:
            if isinstance(route, DirectRoute):
                match = route.matches(dict(scope))
                assert match == APIRoute.matches(route, dict(scope)), (path, route.path)
                matched += match[0] is not Match.NONE
    assert matched or sent_prefix not in ("", root_path)
