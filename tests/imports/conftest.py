"""Sends files, and waits for what becomes of them."""

from __future__ import annotations

import asyncio

import pytest

from tests.production.conftest import serving_fixture  # noqa: F401 - a fixture

CSV = {"Content-Type": "text/csv"}
XLSX = {"Content-Type": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"}
ENDED = ("checked", "imported", "cancelled")


@pytest.fixture
def send(admin):
    """Sends a file, and returns the response."""

    async def send(content, *, client=admin, headers=CSV, **more):
        return await client.post("/imports", content=content, headers=headers, timeout=120, **more)

    return send


@pytest.fixture
def ended(admin):
    """Waits until an import has ended, and returns it."""

    async def ended(import_id, *, client=admin, seconds=60):
        for _ in range(seconds * 10):
            found = (await client.get(f"/imports/{import_id}")).json()
            if found["state"] in ENDED:
                return found
            await asyncio.sleep(0.1)
        raise AssertionError(found)

    return ended


@pytest.fixture
def run(admin, send, ended):
    """Sends a file, starts its import, and returns it when it has ended."""

    async def run(content, *, headers=CSV, client=admin, **options):
        sent = await send(content, headers=headers)
        assert sent.status_code == 201, sent.text
        import_id = sent.json()["import_id"]
        started = await client.post(f"/imports/{import_id}/start", json=options)
        assert started.status_code == 202, started.text
        return await ended(import_id)

    return run


@pytest.fixture
def errors_of(admin):
    """The rows with errors of an import."""

    async def errors_of(import_id):
        return (await admin.get(f"/imports/{import_id}/errors?limit=100")).json()["errors"]

    return errors_of
