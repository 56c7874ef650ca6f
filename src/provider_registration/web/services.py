"""A container of services, found by their type. `create_app` and the lifespan fill it; routes depend on it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import cached_property
from typing import TypeVar

from fastapi import FastAPI, Request

from provider_registration.errors import ServiceError
from provider_registration.web.openapi import refuses

Service = TypeVar("Service")


class Services:
    """One service of each type."""

    def __init__(self) -> None:
        self._services: dict[type[object], object] = {}

    def add(self, *services: object) -> None:
        """Add services, each under its type."""
        self._services |= {type(service): service for service in services}

    def get(self, kind: type[Service]) -> Service:
        """The service of this type.

        Raises:
            KeyError: there is none.
        """
        service = self._services[kind]
        if not isinstance(service, kind):  # only for the type checker
            raise TypeError(kind)
        return service


class Application(FastAPI):
    """FastAPI with a container of services."""

    @cached_property
    def services(self) -> Services:
        """Filled by `create_app` and the lifespan."""
        return Services()


def services_of(request: Request) -> Services:
    """The services of the request's application."""
    app = request.app
    if not isinstance(app, Application):
        raise TypeError(f"{type(app).__name__} has no services")
    return app.services


def provide(kind: type[Service], *refusals: ServiceError) -> Callable[[Request], Awaitable[Service]]:
    """A dependency that provides the service of a type; routes that use it can also return `refusals`."""

    @refuses(*refusals)
    async def get(request: Request) -> Service:
        return services_of(request).get(kind)

    return get
