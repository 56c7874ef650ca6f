"""While calls to billing are paused, every page of the console says so, and until when."""

from __future__ import annotations

import re
import socket
from datetime import UTC, datetime

import httpx
import pytest

from provider_registration.app import create_app
from provider_registration.auth.models import Role
from provider_registration.billing.client import BillingClient
from provider_registration.billing.protection import FAILURES_TO_OPEN, OPEN_SECONDS
from provider_registration.local.background_server import serve_in_background
from tests.chromium import text_of, visit
from tests.service import PASSWORD

from .conftest import Person
from .test_every_page import WIDE, look_at

PAGES = ["/admin", "/admin/candidates", "/admin/candidates?status=all&search=x", "/admin/approvals"]


@pytest.fixture
async def paused(settings, accounts, register):
    """An app whose billing is down, its URL, an admin there, and the path of a candidate whose approval failed."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        nowhere = f"http://127.0.0.1:{listener.getsockname()[1]}"
    app = create_app(settings.model_copy(update={"billing_service_url": nowhere}))
    async with serve_in_background(app) as url, httpx.AsyncClient(base_url=url, timeout=30) as client:
        person = Person(client)
        await person.sign_in(accounts[Role.ADMIN])
        path = f"/admin/candidates/{(await register())['candidate_id']}"
        for _ in range(FAILURES_TO_OPEN):
            await person.submit(await person.open(f"{path}/approve"), "/approve")
        yield app, url, person, path


async def test_every_page_says_that_billing_is_paused_and_until_when(paused):
    app, _, person, path = paused
    now = datetime.now(UTC)

    for address in [*PAGES, path, f"{path}/approve", f"{path}/reject"]:
        app.services.get(BillingClient).breaker.failed()  # restart the pause, however long the pages before took
        page = await person.open(address)
        [until] = re.findall(r'paused until <time datetime="([^"]+)"', page.text)
        assert "Billing paused" in text_of(page)
        assert 0 < (datetime.fromisoformat(until) - now).total_seconds() < OPEN_SECONDS + 30


async def test_an_approval_meanwhile_says_how_long_to_wait(paused):
    app, _, person, path = paused
    page = await person.open(f"{path}/approve")
    app.services.get(BillingClient).breaker.failed()

    page = await person.submit(page, "/approve")

    assert re.search(r"Nothing changed; try again in \d s\.", text_of(page))


async def test_the_banner_is_shown_until_billing_responds(paused, admin):
    app, _, person, _ = paused

    app.services.get(BillingClient).breaker._next_probe = 0.0
    assert "The next approval will check whether billing is back" in text_of(await person.open("/admin"))
    app.services.get(BillingClient).breaker.succeeded()

    assert "Billing" not in text_of(await person.open("/admin/candidates?search=nobody"))
    assert "Billing" not in text_of(await admin.open("/admin/candidates?search=nobody"))


async def test_the_banner_is_accessible(paused, browser, accounts):
    app, url, _, _ = paused
    async with visit(browser, url, viewport=WIDE) as page:
        await page.goto("/admin/sign-in")
        await page.get_by_label("E-mail address").fill(accounts[Role.ADMIN])
        await page.get_by_label("Password").fill(PASSWORD)
        await page.keyboard.press("Enter")
        await page.wait_for_url(f"{url}/admin")
        app.services.get(BillingClient).breaker.failed()
        await page.goto("/admin/candidates?search=nobody")

        await look_at(page, "billing-paused")
