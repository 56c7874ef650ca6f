"""The headers that browsers send with a form are enough to refuse forms of other sites."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from playwright.async_api import Browser, BrowserContext, Page, Request, Route

from provider_registration.auth.models import Role
from tests.service import PASSWORD

# The same site for a browser, which sends it SameSite=Lax cookies: only the port differs.
NEIGHBOUR = "http://127.0.0.1:59999"
STRANGER = "http://stranger.test"
PLAIN_NAME = "supply.test"  # plain HTTP with a host name, which no browser trusts
FORM = """
<form method="post" action="{action}"><input name="choice" value="none"><input name="version" value="1"></form>
<script>document.forms[0].submit()</script>
"""


@asynccontextmanager
async def a_browser(
    browser: Browser, other_site: str, policy: str, action: str, **options: Any
) -> AsyncIterator[BrowserContext]:
    """A context in which another site, with some referrer policy, has a page that posts to us."""

    async def answer(route: Route) -> None:
        headers = {"Referrer-Policy": policy}
        await route.fulfill(body=FORM.format(action=action), content_type="text/html", headers=headers)

    context = await browser.new_context(**options)
    await context.route(f"{other_site}/", answer)
    yield context
    await context.close()


async def headers_of_post(page: Page, address: str) -> dict[str, str]:
    """The headers that the browser sends with a form that submits itself."""
    async with page.expect_request(lambda request: request.method == "POST") as sent:
        await page.goto(address)
    request: Request = await sent.value
    return await request.all_headers()


async def sign_in(page: Page, url: str, email: str) -> None:
    await page.goto(f"{url}/admin/sign-in?next=/admin/approvals")
    await page.get_by_label("E-mail address").fill(email)
    await page.get_by_label("Password").fill(PASSWORD)
    await page.keyboard.press("Enter")
    await page.wait_for_url(f"{url}/admin/approvals")


@pytest.mark.asvs("V3.5.1", "V3.5.2")
@pytest.mark.parametrize("policy", ["unsafe-url", "no-referrer"])
@pytest.mark.parametrize("site", [NEIGHBOUR, STRANGER])
async def test_another_site_cannot_decide_for_a_signed_in_user(
    browser, service_url, accounts, admin, register, site, policy
):
    path = f"/admin/candidates/{(await register())['candidate_id']}"
    async with a_browser(browser, site, policy, f"{service_url}{path}/reject") as context:
        page = await context.new_page()
        await sign_in(page, service_url, accounts[Role.ADMIN])

        sent = await headers_of_post(page, f"{site}/")
        await page.get_by_text("The form came from another site").wait_for()

    assert ("__Host-session" in sent.get("cookie", "")) is (site == NEIGHBOUR)  # otherwise there is nothing to protect
    assert f'href="{path}/reject"' in (await admin.open(path)).text


@pytest.mark.parametrize("policy", ["unsafe-url", "no-referrer"])
async def test_another_site_cannot_apply_over_plain_http(browser, service_url, policy):
    plain = service_url.replace("127.0.0.1", PLAIN_NAME)
    async with a_browser(browser, STRANGER, policy, f"{plain}/apply", proxy={"server": service_url}) as context:
        page = await context.new_page()
        sent = await headers_of_post(page, f"{STRANGER}/")
        await page.get_by_text("The form came from another site").wait_for()

        assert "sec-fetch-site" not in sent
        assert sent["origin"] == ("null" if policy == "no-referrer" else STRANGER)

        await page.goto(f"{plain}/apply")
        async with page.expect_response(lambda response: response.request.method == "POST") as answered:
            await page.get_by_role("button", name="Send application").click()
        assert (await answered.value).status == 422  # the form was read; only its fields are missing
