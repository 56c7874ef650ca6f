"""What requests do on the event loop: FastAPI sends every plain function that it calls to a thread of its own."""

from __future__ import annotations

import inspect

import pytest
from fastapi.routing import iter_route_contexts

from provider_registration.app import create_app


def dependencies_of(dependant):
    """Every function that FastAPI calls for a route; the route's own function is last."""
    for needed in dependant.dependencies:
        yield from dependencies_of(needed)
    yield dependant.call


def is_coroutine(call):
    return inspect.iscoroutinefunction(call) or inspect.iscoroutinefunction(type(call).__call__)


@pytest.fixture(scope="module")
def routes(settings):
    return [route for route in iter_route_contexts(create_app(settings).routes) if getattr(route, "dependant", None)]


def test_no_dependency_is_sent_to_a_thread(routes):
    sent = {call.__name__ for route in routes for call in dependencies_of(route.dependant) if not is_coroutine(call)}

    assert sent == {"metrics"}  # rare, and all of it is CPU work
