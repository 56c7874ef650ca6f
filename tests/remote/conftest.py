"""Runs the commands that use the API."""

from __future__ import annotations

import asyncio

import pytest
from click.testing import CliRunner

from provider_registration.auth.models import Role
from provider_registration.cli import main


@pytest.fixture
async def keys(admin):
    """An API key for each role."""
    return {
        role: (await admin.post("/api-keys", json={"name": "Reviews", "role": role})).json()["key"] for role in Role
    }


@pytest.fixture
def call(service, keys):
    """Runs a command as an admin; the result has its output and exit code."""

    async def call(*arguments, stdin=None, role=Role.ADMIN, **environment):
        known = {"PROVIDER_REGISTRATION_URL": service.url, "PROVIDER_REGISTRATION_API_KEY": keys[role]}
        invoke = CliRunner().invoke
        environment = known | environment
        return await asyncio.to_thread(invoke, main, arguments, input=stdin, env=environment, catch_exceptions=False)

    return call


@pytest.fixture
def _patient(monkeypatch):
    """Waits take no time."""
    monkeypatch.setattr("time.sleep", lambda _seconds: None)
