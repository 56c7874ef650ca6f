"""What the lifespan opens and routes are given: one thing of each type, found by its type."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import cached_property
from typing import TypeVar

from fastapi import FastAPI, Request

from provider_registration.errors import ServiceError
from provider_registration.web.openapi import refuses

Service = TypeVar("Service")


class Services:
    """One thing of each type."""

    def __init__(self) -> None:
        self._services: dict[type[object], object] = {}

    def add(self, *services: object) -> None:
        """Let each be found by its type."""
        self._services |= {type(service): service for service in services}

    def get(self, kind: type[Service]) -> Service:
        """The one of this type.

        Raises:
            KeyError: none was added.
        """
        service = self._services[kind]
        if not isinstance(service, kind):  # it is, which the type checker does not know
            raise TypeError(kind)
        return service


class Application(FastAPI):
    """FastAPI, and what its routes are given."""

    @cached_property
    def services(self) -> Services:
        """Filled where the application is made and by its lifespan."""
        return Services()


def services_of(request: Request) -> Services:
    """What the application that a request goes to has."""
    app = request.app
    if not isinstance(app, Application):
        raise TypeError(f"{type(app).__name__} has no services")
    return app.services


def given(kind: type[Service], *refusals: ServiceError) -> Callable[[Request], Awaitable[Service]]:
    """A dependency that gives a route the service of a type; whoever uses that answers with `refusals` too."""

    @refuses(*refusals)
    async def get(request: Request) -> Service:
        return services_of(request).get(kind)

    return get
