"""The services that routes receive: one object of each type."""

from __future__ import annotations

from typing import Annotated

import httpx
import pytest
from fastapi import Depends, FastAPI

from provider_registration.web.services import Application, Services, provide


class Clock:
    def __init__(self, hour):
        self.hour = hour


async def ask(app):
    @app.get("/hour")
    async def hour(clock: Annotated[Clock, Depends(provide(Clock))]):
        return clock.hour

    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        return (await client.get("/hour")).json()


def test_each_is_found_by_its_type_and_the_last_of_a_type_counts():
    services = Services()
    services.add(Clock(1), "text")
    services.add(Clock(2))

    assert services.get(Clock).hour == 2
    assert services.get(str) == "text"
    with pytest.raises(KeyError):
        services.get(int)


async def test_a_route_is_given_what_its_own_application_has():
    apps = {hour: Application() for hour in (7, 8)}
    for hour, app in apps.items():
        app.services.add(Clock(hour))

    assert [await ask(app) for app in apps.values()] == [7, 8]


async def test_an_application_without_services_gives_none():
    with pytest.raises(TypeError):
        await ask(FastAPI())
