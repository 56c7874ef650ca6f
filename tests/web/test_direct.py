"""Direct routes: called without FastAPI's machinery, and answering as FastAPI would have answered."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID, uuid4

import httpx
import pytest
from fastapi import APIRouter, Depends, FastAPI, Header, Query, Request, Response
from fastapi.security import OAuth2PasswordBearer
from pydantic import BaseModel, ConfigDict, Field

from provider_registration.db.database import DatabaseUnavailable
from provider_registration.web.direct import DirectRoutes, direct
from provider_registration.web.error_handlers import install_error_handlers
from provider_registration.web.middleware import RequestMiddleware

bearer = OAuth2PasswordBearer(tokenUrl="login", auto_error=False)
THING = "0b8f3c52-94b1-4c43-9f0e-6a1f5f2d7c11"


async def who(request: Request, token: Annotated[str | None, Depends(bearer)]):
    return f"{request.method} {token}"


router = APIRouter(prefix="/things")


@router.get("/{thing_id}")
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
    return Response(f"{type(thing_id).__name__} {thing_id} {who} {language}", 203, {"ETag": '"1"'}, "text/plain")


class Search(BaseModel):
    model_config = ConfigDict(extra="forbid")

    words: str = "any"
    limit: int = Field(10, ge=1)


@router.get("")
@direct
async def search_things(query: Annotated[Search, Query()], who: Annotated[str, Depends(who)]) -> Response:
    return Response(f"{query!r} {who}")


@router.post("/{thing_id}")
async def write_thing(thing_id: UUID) -> str:
    return f"written {thing_id}"


async def ask(app, method, path, root_path="", **headers):
    transport = httpx.ASGITransport(app, root_path=root_path)
    async with httpx.AsyncClient(transport=transport, base_url="http://test", headers=headers) as client:
        response = await client.request(method, path)
    return response.status_code, response.text, {k: v for k, v in response.headers.items() if k != "x-request-id"}


def application(*layers):
    app = FastAPI()
    app.include_router(router)
    install_error_handlers(app)
    for layer in layers:
        app.add_middleware(layer, routes=router.routes, error_handlers=app.exception_handlers)
    app.add_middleware(RequestMiddleware)
    return app


@pytest.mark.parametrize(
    ("method", "path", "headers"),
    [
        ("GET", f"/things/{THING}", {}),
        ("GET", f"/things/{{{THING.upper()}}}", {}),
        ("GET", f"/things/{THING}?more=1", {"Authorization": "Bearer secret", "Accept-Language": "de"}),
        ("HEAD", f"/things/{THING}", {}),
        ("GET", f"/things/{UUID(int=0)}", {}),
        ("GET", f"/things/{UUID(int=1)}", {}),
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
async def test_the_answer_is_fastapis(method, path, headers):
    without, with_it = application(), application(DirectRoutes)

    assert await ask(with_it, method, path, **headers) == await ask(without, method, path, **headers)


@pytest.fixture
def alone():
    """Direct routes with nothing behind them but a mark that they passed the request on."""

    async def rest(scope, receive, send):
        await Response("passed on", 418)(scope, receive, send)

    return DirectRoutes(rest, routes=router.routes, error_handlers={})


async def test_a_direct_route_is_called_without_fastapi(alone):
    status, text, headers = await ask(alone, "GET", f"/things/{THING}", authorization="Bearer secret")

    assert (status, text, headers["etag"]) == (203, f"UUID {THING} GET secret None", '"1"')


@pytest.mark.parametrize("path", [f"/prefix/things/{THING}", f"/things/{THING}"])
async def test_a_gateways_prefix_may_be_there_or_not(alone, path):
    assert (await ask(alone, "GET", path, root_path="/prefix"))[0] == 203


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/things/7"), ("POST", f"/things/{THING}"), ("GET", "/other"), ("GET", f"/prefixthings/{THING}")],
)
async def test_what_is_not_plainly_one_of_theirs_is_passed_on(alone, method, path):
    assert (await ask(alone, method, path, root_path="/prefix"))[:2] == (418, "passed on")


@pytest.mark.parametrize("source", [Query(), Header(), Depends(lambda words: words)])
async def test_an_endpoint_that_needs_more_is_refused_at_the_start(source):
    router = APIRouter()

    async def search(words):
        return Response(words)

    search.__annotations__ = {"words": Annotated[str, source], "return": Response}
    router.get("/")(direct(search))

    with pytest.raises(TypeError):
        DirectRoutes(FastAPI(), routes=router.routes, error_handlers={})


async def test_a_scope_that_is_no_request_is_passed_on():
    passed = []

    async def rest(scope, receive, send):
        passed.append(scope["type"])

    await DirectRoutes(rest, routes=[], error_handlers={})({"type": "lifespan"}, None, None)

    assert passed == ["lifespan"]


async def test_ids_are_read_each_time(alone):
    ids = [str(uuid4()) for _ in range(3)]

    assert [(await ask(alone, "GET", f"/things/{thing}"))[1].split()[1] for thing in ids] == ids
