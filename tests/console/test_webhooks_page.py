"""The pages for webhooks: a secret is shown once, and staff see what became of each delivery."""

from __future__ import annotations

import asyncio
import html
import re
from uuid import uuid4

import httpx
import pytest

from provider_registration.app import create_app
from provider_registration.auth.models import Role
from provider_registration.local.background_server import serve_in_background
from provider_registration.pages.error_pages import ADVICE_BY_TYPE
from provider_registration.web.problems import TYPE_PREFIX
from provider_registration.webhooks.errors import WebhookSecretUnreadable, WebhooksOff
from tests.chromium import text_of
from tests.webhooks.receivers import OK, answer, receiving

from .conftest import Person


@pytest.fixture(autouse=True)
async def no_webhooks(database):
    await database.execute("DELETE FROM webhooks; DELETE FROM deliveries")
    yield
    await database.execute("DELETE FROM webhooks; DELETE FROM deliveries")


async def add(admin, receiver, **typed):
    """Add a webhook with the form; return its path and its secret."""
    form = {"url": f"http://127.0.0.1:{receiver.port}/hook", **typed}
    page = await admin.submit(await admin.open("/admin/webhooks/new"), "/new", **form)
    [secret] = re.findall(r"whsec_[A-Za-z0-9+/=]{44}", html.unescape(page.text))
    [path] = set(re.findall(r"/admin/webhooks/[0-9a-f-]{36}", page.text))
    return path, secret


async def shows(admin, path, text):
    """The page, once it has this text."""
    async with asyncio.timeout(30):
        while text not in (page := await admin.open(path)).text:
            await asyncio.sleep(0.1)
    return page


async def test_a_secret_is_shown_once(admin):
    async with receiving() as receiver:
        path, secret = await add(admin, receiver, description="<ERP>")
        page = await admin.submit(await admin.open(path), "/test")

    assert "Test delivered; status 200: ok" in page.text
    assert secret not in page.text
    assert "&lt;ERP&gt;" in page.text
    assert receiver.messages[0].verified(secret)["type"] == "webhook.test"


@pytest.mark.parametrize("url", ["", "https://10.0.0.1/", "ftp://erp.example", "https://a:b@erp.example/"])
async def test_a_wrong_url_is_explained_and_kept(admin, url):
    page = await admin.send("/admin/webhooks/new", {"url": url, "description": "ERP"})

    assert page.status_code == 422
    assert "There is a problem" in page.text
    assert f'value="{url}"' in page.text
    assert 'value="ERP"' in page.text


async def test_what_is_changed_is_shown(admin):
    async with receiving() as receiver:
        path, _ = await add(admin, receiver)
        form = {"url": "https://other.example/x", "types": ["candidate.approved"], "description": "CRM"}
        page = await admin.open((await admin.send(f"{path}/edit", form)).headers["Location"])

    assert "https://other.example/x" in page.text
    assert "candidate.approved" in page.text
    edit = await admin.open(f"{path}/edit")
    assert re.search(r'value="candidate.approved" checked', edit.text)
    assert not re.search(r'value="candidate.rejected" checked', edit.text)


async def test_a_failed_test_says_why(admin):
    async with receiving(answer(500, "<b>broken</b>")) as receiver:
        path, _ = await add(admin, receiver)
        page = await admin.submit(await admin.open(path), "/test")
    assert "Test failed; status 500: &lt;b&gt;broken&lt;/b&gt;" in page.text

    page = await admin.submit(await admin.open(path), "/test")
    assert "Test failed: the host does not accept connections." in page.text


async def test_a_test_without_the_key_of_the_secret_says_so(admin, database):
    async with receiving() as receiver:
        path, _ = await add(admin, receiver)
        await database.execute("UPDATE webhooks SET secret = '\\x00'")
        page = await admin.submit(await admin.open(path), "/test")

    assert page.status_code == 200
    assert html.escape(str(WebhookSecretUnreadable()), quote=False) in page.text.replace("&#39;", "'")
    assert receiver.messages == []


async def test_staff_disable_enable_and_delete(admin):
    async with receiving() as receiver:
        path, _ = await add(admin, receiver)
    page = await admin.submit(await admin.open(path), "/disable")
    assert "Nothing is sent, and new events are not queued." in page.text
    page = await admin.submit(page, "/enable")
    assert "Webhook enabled." in page.text
    page = await admin.submit(await admin.open(f"{path}/delete"), "/delete")
    assert "Webhook deleted." in page.text
    assert (await admin.open(path)).status_code == 404


async def test_a_new_secret_is_shown_once_and_the_old_one_signs_along(admin):
    async with receiving() as receiver:
        path, old = await add(admin, receiver)
        page = await admin.submit(await admin.open(f"{path}/rotate"), "/rotate")
        [new] = re.findall(r"whsec_[A-Za-z0-9+/=]{44}", html.unescape(page.text))
        page = await admin.submit(await admin.open(path), "/test")

    assert new != old
    assert new not in html.unescape(page.text)
    assert "Also used until" in page.text
    [message] = receiver.messages
    assert message.verified(old) == message.verified(new)


@pytest.mark.parametrize("since", ["", "yesterday", "2026-13-01T00:00"])
async def test_a_replay_needs_a_time(admin, since):
    async with receiving() as receiver:
        path, _ = await add(admin, receiver)

    page = await admin.send(f"{path}/replay", {"since": since})
    assert page.status_code == 422
    assert "Enter a date and time" in page.text


async def test_a_delivery_shows_its_attempts_and_the_response_and_can_be_retried(admin, register, database):
    async with receiving(answer(503, "maintenance")) as receiver:
        path, _ = await add(admin, receiver, types="candidate.registered")
        await register()
        await receiver.has(1)
        page = await shows(admin, path, "Status 503: maintenance")
        receiver.always(OK)
        await admin.submit(page, "/retry")
        await receiver.has(2)
        page = await shows(admin, path, "Status 200")

    assert "Delivered" in page.text
    first, second = receiver.messages
    assert first.id == second.id


async def test_one_that_the_service_disabled_shows_why_and_when(admin, register, database):
    async with receiving(answer(410)) as receiver:
        path, _ = await add(admin, receiver, types="candidate.registered")
        await register()
        while "status 410" not in (page := await admin.open(path)).text:
            pass
    at = await database.fetchval("SELECT to_char(last_failure_at, 'FMDD Mon YYYY, HH24:MI') || ' UTC' FROM webhooks")
    assert f"Disabled on {at}" in text_of(page)

    await database.execute("UPDATE webhooks SET disabled_reason = 'failing'")
    failing = text_of(await admin.open(path))
    assert f"Disabled on {at}" in failing
    assert "5 days" in failing
    events = text_of(await admin.open("/admin/activity?type=webhook.disabled"))
    assert "Service or command" in events
    assert "Status 410" in events


async def test_without_a_key_the_page_says_so(settings, accounts):
    off = settings.model_copy(update={"secrets_key": None})
    async with serve_in_background(create_app(off)) as url, httpx.AsyncClient(base_url=url, timeout=30) as client:
        person = Person(client)
        overview = await person.sign_in(accounts[Role.ADMIN])
        page = await person.open("/admin/webhooks")
        refused = await person.open(f"/admin/webhooks/{uuid4()}")

    assert "/admin/webhooks" not in overview.text
    assert "SECRETS_KEY" in page.text
    assert refused.status_code == 409
    for sentence in ADVICE_BY_TYPE[TYPE_PREFIX + WebhooksOff.code]:
        assert sentence in refused.text


async def test_an_admin_does_it_all_in_a_browser(signed_in, register):
    async with receiving(answer(500, "not yet")) as receiver, signed_in() as page:
        await page.get_by_role("link", name="Webhooks").click()
        await page.get_by_role("link", name="Add webhook…").click()
        await page.get_by_label("URL").fill(f"http://127.0.0.1:{receiver.port}/hook")
        await page.get_by_label("candidate.registered").check()
        await page.get_by_role("button", name="Add webhook").click()
        secret = await page.locator("code").inner_text()
        await page.get_by_role("link", name="I have stored it").click()
        await page.get_by_role("button", name="Send test").click()
        await page.get_by_text("Test failed; status 500: not yet").wait_for()
        await register()
        await receiver.has(2)
        receiver.always(OK)
        retry = page.get_by_role("button", name="Retry")
        async with asyncio.timeout(60):
            while not await retry.count() or not await page.get_by_text("Status 500: not yet").count():
                await page.reload()
        await retry.click()
        await page.get_by_text("It is being sent again.").wait_for()
        await receiver.has(3)
        async with asyncio.timeout(60):
            while not await page.get_by_text("Delivered", exact=True).count():
                await page.reload()

    assert [message.verified(secret)["type"] for message in receiver.messages[1:]] == ["candidate.registered"] * 2
