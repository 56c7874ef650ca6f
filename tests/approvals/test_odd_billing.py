"""Billing returns nonsense or nothing for one approval: others continue, and an admin resolves it."""

from __future__ import annotations

import asyncio
import json
from itertools import count
from uuid import uuid4

import httpx
import pytest

from provider_registration.approvals import attempt
from provider_registration.auth.models import Role
from provider_registration.billing import client, protection
from provider_registration.db import migrations
from tests.conftest import create_database, drop_database
from tests.odd_billing import NO_ANSWER, REFUSED, TAKEN, UNUSABLE, answer, answering
from tests.service import PASSWORD, a_registration, make_settings, user_directory

ODD = " orchard "
EMAIL = "admin@example.com"
BOUND_SECONDS = 120.0
IMPATIENT = {"billing_timeout_seconds": 0.3, "billing_deadline_seconds": 1.0, "billing_max_tries": 2}
ANSWERS = {
    **{name: (parts, "in_doubt") for name, parts in (UNUSABLE | NO_ANSWER).items()},
    **{f"refused: {name}": (parts, "approval-failed") for name, parts in REFUSED.items()},
    **{f"taken: {name}": (parts, "provider-name-taken") for name, parts in TAKEN.items()},
}


@pytest.fixture(scope="module")
async def own_database_url(server_url):
    """Its own database, so that no other test's service takes over its approvals."""
    name = f"test_{uuid4().hex}"
    url = await create_database(server_url, name)
    await asyncio.to_thread(migrations.upgrade, url)
    async with user_directory(url) as users:
        await users.create(EMAIL, PASSWORD, Role.ADMIN)
    yield url
    await drop_database(server_url, name)


@pytest.fixture(scope="module")
async def admin(own_database_url, run_service, connect):
    """An admin of a service whose billing chooses its response by the candidate's name."""
    ids = count(1)

    def by_name(name):
        kind, odd, _ = name.partition(ODD)
        return ANSWERS[kind][0] if odd else (answer(body=json.dumps({"id": next(ids), "name": name}).encode()),)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attempt, "FIRST_RETRY_SECONDS", 0.1)
        patch.setattr(client, "FIRST_WAIT_SECONDS", 0.01)
        async with (
            answering(others=by_name) as billing_url,
            run_service(make_settings(own_database_url, billing_url, **IMPATIENT)) as service,
            httpx.AsyncClient(base_url=service.url) as anybody,
        ):
            login = await anybody.post("/auth/login", json={"username": EMAIL, "password": PASSWORD})
            async with connect(service.url, login.json()["access_token"]) as admin:
                yield admin


async def register(admin, **changes):
    response = await admin.post("/candidates", json=a_registration(**changes))
    return f"/candidates/{response.raise_for_status().json()['candidate_id']}"


@pytest.mark.parametrize("kind", ANSWERS)
async def test_others_are_approved_meanwhile_and_an_admin_ends_it(admin, kind):
    odd = await register(admin, company_name=f"{kind}{ODD}{uuid4().hex}")
    end = ANSWERS[kind][1]
    async with asyncio.timeout(BOUND_SECONDS):
        approving = asyncio.create_task(admin.post(f"{odd}/approve"))
        is_over = False
        while not is_over:
            answered = await admin.post(f"{await register(admin)}/approve")
            assert answered.status_code == 200, answered.text
            standing = (await admin.get(odd)).json()["approval"]
            is_over = approving.done() and (standing is None or standing["state"] == "in_doubt")
            await asyncio.sleep(0.05)

    if standing is None:
        assert approving.result().json()["type"].endswith(f":{end}")
    else:
        assert standing["state"] == end
        assert (await admin.post(f"{odd}/approval/resolve", json={"resolution": "let_go"})).status_code == 200
    assert (await admin.post(f"{odd}/reject")).status_code == 200


async def test_an_approval_waits_while_billing_responds_to_none(admin, monkeypatch):
    """Billing is down: waiting approvals complete automatically when it is back."""
    monkeypatch.setattr(protection, "RECENT_SECONDS", -1.0)  # ignore the responses of earlier tests
    odd = await register(admin, company_name=f"nothing at all{ODD}{uuid4().hex}")
    async with asyncio.timeout(60):
        await admin.post(f"{odd}/approve")
        standing = (await admin.get(odd)).json()["approval"]
        while standing["attempts"] <= attempt.MAX_UNANSWERED + 1:
            assert standing["state"] != "in_doubt"
            await asyncio.sleep(0.05)
            standing = (await admin.get(odd)).json()["approval"]

        monkeypatch.undo()
        assert (await admin.post(f"{await register(admin)}/approve")).status_code == 200
        while standing["state"] != "in_doubt":
            await asyncio.sleep(0.05)
            standing = (await admin.get(odd)).json()["approval"]
