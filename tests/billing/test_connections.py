"""Connections to billing: kept alive, used by one request at a time, and replaced after an error."""

from __future__ import annotations

import asyncio
from time import monotonic

import httpx
import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from provider_registration.billing.connections import Connections
from provider_registration.local.background_server import serve_in_background

COUNT = 3


@pytest.fixture(scope="module")
async def url():
    """A server that returns the client's port, after the seconds given in the path."""

    async def port(request):
        await asyncio.sleep(float(request.path_params["seconds"]))
        return PlainTextResponse(str(request.client.port))

    async with serve_in_background(Starlette(routes=[Route("/{seconds}", port)])) as url:
        yield url


@pytest.fixture
async def connections():
    connections = Connections(COUNT)
    yield connections
    await connections.aclose()


@pytest.fixture
def ask(connections, url):
    """Send one request; return the port of the connection."""

    async def ask(seconds=0.0, patience=10.0):
        async with connections.borrow(patience) as transport:
            response = await transport.handle_async_request(httpx.Request("GET", f"{url}/{seconds}"))
            text = (await response.aread()).decode()
            await response.aclose()
            return text

    return ask


async def test_one_after_the_other_use_the_same_connection(ask):
    assert len({await ask() for _ in range(5)}) == 1


async def test_at_the_same_time_there_are_as_many_as_allowed_and_everybody_gets_a_turn(ask):
    ports = await asyncio.gather(*(ask(0.05) for _ in range(4 * COUNT)))

    assert len(ports) == 4 * COUNT
    assert len(set(ports)) == COUNT


async def test_who_waits_too_long_for_a_connection_is_told_so(ask):
    users = [asyncio.create_task(ask(1.0)) for _ in range(COUNT)]
    await asyncio.sleep(0.1)

    started = monotonic()
    with pytest.raises(httpx.PoolTimeout):
        await ask(patience=0.2)
    assert monotonic() - started < 0.8  # before any of the users was ready

    assert len(set(await asyncio.gather(*users))) == COUNT
    assert await ask()


@pytest.mark.parametrize("how", ["fails", "is cancelled"])
async def test_a_connection_on_which_something_went_wrong_is_not_used_again(ask, connections, url, how):
    used = set()
    for _ in range(2 * COUNT):
        used.add(await ask())
        if how == "fails":
            with pytest.raises(ZeroDivisionError):
                async with connections.borrow(1.0) as transport:
                    await transport.handle_async_request(httpx.Request("GET", f"{url}/0"))  # its response is never read
                    raise ZeroDivisionError
        else:
            asking = asyncio.create_task(ask(5.0))
            await asyncio.sleep(0.05)
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking

    assert len(used) == 2 * COUNT


async def test_closing_closes_what_is_idle(ask, connections):
    await asyncio.gather(*(ask(0.05) for _ in range(COUNT)))

    await connections.aclose()

    pools = [transport._pool for transport in connections._idle]
    assert len(pools) == COUNT
    assert not any(pool.connections for pool in pools)


def test_the_environment_names_no_certificates(monkeypatch, tmp_path):
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "there is none"))

    Connections(COUNT)
