"""Swagger UI and ReDoc in Chromium: no policy is broken, no script fails, no request goes to another host."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest
from playwright.async_api import expect

from provider_registration.app import create_app
from tests.chromium import visit

PREFIX = "/registry"


@pytest.fixture(scope="module")
async def service_url(settings, run_service):
    """URL of a service published under the prefix; it accepts paths without the prefix too."""
    async with run_service(settings.model_copy(update={"root_path": PREFIX})) as service:
        yield service.url


@pytest.mark.asvs("V3.4.3")
@pytest.mark.parametrize("path", ["/docs", "/redoc"])
async def test_it_shows_every_operation_and_breaks_no_policy(browser, service_url, settings, path):
    paths = create_app(settings).openapi()["paths"].values()
    summaries = [operation["summary"] for operations in paths for operation in operations.values()]
    asked_for = []
    async with visit(browser, service_url) as page:
        page.on("request", lambda request: asked_for.append(request.url))
        await page.goto(f"{PREFIX}{path}")

        for summary in summaries:
            await expect(page.get_by_text(summary, exact=True).last).to_be_visible()

    assert f"{service_url}{PREFIX}/openapi.json" in asked_for
    assert not [url for url in asked_for if url.startswith("http") and not urlsplit(url).path.startswith(f"{PREFIX}/")]


async def test_the_reference_finds_operations_by_words_and_leads_to_them(browser, service_url):
    async with visit(browser, service_url) as page:
        await page.goto(f"{PREFIX}/redoc")
        logo = page.get_by_alt_text("redocly logo")
        await expect(logo).to_be_visible()
        assert await logo.evaluate("async image => { await image.decode(); return image.naturalWidth }") > 0

        await page.get_by_placeholder("Search...").fill("doubt")
        await page.get_by_role("search").get_by_text("Resolve an approval in doubt").click()

        await expect(page.get_by_role("heading", name="Resolve an approval in doubt")).to_be_in_viewport()
