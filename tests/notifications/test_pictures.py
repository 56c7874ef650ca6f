"""Mails in Chromium: readable in light and dark mode, on a phone, in every language; nothing is loaded.

With SCREENSHOTS set to a folder, a picture of each is written there.
"""

from __future__ import annotations

import html
import os
from pathlib import Path

import pytest

from provider_registration.notifications.models import Message
from tests.chromium import violations, visit
from tests.notifications.test_composing import compose, composer  # noqa: F401 - fixtures

SCREENSHOTS = os.environ.get("SCREENSHOTS")
RULES = {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]}
SIZES = {"wide": {"width": 800, "height": 700}, "phone": {"width": 320, "height": 640}}
LONG = {"company_name": "Cooperativa hortofrutícola de la ribera baja del Júcar " * 4, "reason": "No cold chain.\n" * 5}
CASES = [
    (message, language) for message in Message for language in ("en", "es") if (message, language) != ("digest", "es")
]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("message", "language"), CASES)
async def test_the_html_is_accessible_and_fits_a_phone(browser, compose, message, language, scheme):  # noqa: F811
    mail = compose(message, language, **LONG)
    async with visit(browser, "data:", color_scheme=scheme, java_script_enabled=True) as page:
        await page.set_content(mail.part("html"))
        for size, viewport in SIZES.items():
            await page.set_viewport_size(viewport)
            assert await page.evaluate("document.documentElement.scrollWidth") <= viewport["width"]
            assert await violations(page, RULES) == []
            if SCREENSHOTS:
                await page.screenshot(path=Path(SCREENSHOTS) / f"mail-{message}-{language}-{scheme}-{size}.png")


@pytest.mark.parametrize(("message", "language"), CASES)
async def test_the_text_is_readable(browser, compose, message, language):  # noqa: F811
    mail = compose(message, language, **LONG)
    async with visit(browser, "data:", viewport=SIZES["wide"]) as page:
        await page.set_content(f"<pre>{html.escape(mail.part('plain'))}</pre>")
        assert await page.evaluate("document.documentElement.scrollWidth") <= SIZES["wide"]["width"]
        if SCREENSHOTS:
            await page.screenshot(path=Path(SCREENSHOTS) / f"mail-{message}-{language}-text.png", full_page=True)
