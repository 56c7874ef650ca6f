"""The page of lost links in Chromium: by keyboard, on a phone, light and dark, in both languages, accessible."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.chromium import violations, visit

SCREENSHOTS = os.environ.get("SCREENSHOTS")
PHONE = {"width": 360, "height": 740}
WCAG_AA = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice")


async def check(page, name):
    assert await violations(page, {"type": "tag", "values": list(WCAG_AA)}) == []
    assert await page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    if SCREENSHOTS:
        await page.screenshot(path=Path(SCREENSHOTS) / f"lost-{name}.png")


@pytest.mark.parametrize("language", ["en", "es"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_a_company_asks_for_its_link_by_keyboard(browser, post, language, scheme):
    candidate = await post.register()
    url = str(post.client.base_url)
    async with visit(browser, url, viewport=PHONE, color_scheme=scheme) as page:
        await page.goto(f"/apply?language={language}")
        await page.locator('a[href*="/apply/lost"]').click()
        await check(page, f"{language}-{scheme}")
        await page.keyboard.press("Enter")
        await page.locator("#contact_email").fill("nobody")
        await page.keyboard.press("Enter")
        await page.locator("#error-summary").wait_for()
        await check(page, f"error-{language}-{scheme}")
        await page.locator("#contact_email").fill(candidate["contact_email"])
        await page.keyboard.press("Enter")
        await page.wait_for_url(f"**/apply/lost/sent?language={language}")
        await check(page, f"sent-{language}-{scheme}")

    await post.mails(2)
