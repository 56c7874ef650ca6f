"""The short form: every attack, small, and without time limits, because a busy machine may stall."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest

from .attacker import ATTACKS
from .run import QUICK, attack_all
from .stage import DIRECTLY, routes, staged


@pytest.fixture
def folder():
    folder = Path(tempfile.mkdtemp(prefix="provider-registration-abuse-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.asvs("V2.4.1", "API4")
async def test_no_stranger_stops_the_service_or_has_it_fail(own_database_url, fork_server, folder):
    patient = {"DATABASE_TIMEOUT_SECONDS": "10"}
    async with staged(own_database_url, folder, DIRECTLY, fork_server=fork_server, **patient) as stage:
        rows = await attack_all(stage, QUICK, list(ATTACKS))

    assert [fault for row in rows for fault in row.faults(with_times=False)] == []
    assert {row.attack for row in rows} >= set(ATTACKS)


def test_every_public_route_is_attacked():
    attacked = set(routes())

    assert {("POST", "/candidates"), ("POST", "/auth/login"), ("POST", "/apply"), ("GET", "/docs")} <= attacked
    assert {("GET", "/applications/nonsense"), ("GET", "/metrics"), ("POST", "/admin/sign-in")} <= attacked
