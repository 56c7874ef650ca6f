"""Pages in Debian's Chromium, which must report no errors in any test, or as text."""

from __future__ import annotations

import html
import re
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
from axe_playwright_python.base import AXE_SCRIPT
from playwright.async_api import Browser, BrowserContext, Page, async_playwright, expect

# The first one lacks a browser's profile and windows: the tests of the pages take 0.6 of the CPU time with it.
NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
PROGRAM = next(filter(None, map(shutil.which, NAMES)), None)
TIMEOUT = 30_000  # milliseconds for an element to appear on a busy machine

# Answers that tests provoke, and requests that Chromium ends when the machine gets or loses an address.
FORESEEN = re.compile(
    r"Failed to load resource: (the server responded with a status of (4..|502|503)|net::ERR_NETWORK_CHANGED)"
)

expect.set_options(timeout=TIMEOUT)


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """A headless browser."""
    async with async_playwright() as playwright:
        # Without its sandbox, which root cannot use; containers run tests as root.
        browser = await playwright.chromium.launch(executable_path=PROGRAM, args=["--no-sandbox"])
        yield browser
        await browser.close()


class Watch:
    """Collects errors in a context: policy violations, script errors, requests to other hosts."""

    def __init__(self, context: BrowserContext, base_url: str) -> None:
        self.wrong: list[str] = []
        self._base_url = base_url
        context.on("page", self._watch)

    def _watch(self, page: Page) -> None:
        page.on("console", lambda message: self._note(message.type in ("error", "warning"), message.text))
        page.on("pageerror", lambda error: self._note(True, str(error)))
        page.on("request", lambda request: self._note(not self._is_own(request.url), f"asked for {request.url}"))

    def _is_own(self, url: str) -> bool:
        return url.startswith((self._base_url, f"blob:{self._base_url}", "data:", "about:"))

    def _note(self, is_wrong: bool, what: str) -> None:
        if is_wrong and not FORESEEN.search(what):
            self.wrong.append(what)


@asynccontextmanager
async def visit(browser: Browser, base_url: str, **options: Any) -> AsyncIterator[Page]:
    """A page in its own context, which must have no errors."""
    context = await browser.new_context(base_url=base_url, **options)
    context.set_default_timeout(TIMEOUT)
    watch = Watch(context, base_url)
    page = await context.new_page()
    try:
        yield page
    finally:
        await context.close()
    assert not watch.wrong, watch.wrong  # pytest rewrites no assertions of this module


async def violations(page: Page, only: dict[str, Any]) -> list[str]:
    """The rules of axe-core that an open page breaks, each with the first element; `only` selects rules."""
    if not await page.evaluate("'axe' in window"):
        await page.evaluate(AXE_SCRIPT)
    # Without `resultTypes`, it describes every element that breaks no rule too.
    return await page.evaluate(
        """only => axe.run({runOnly: only, resultTypes: ["violations"]}).then(
            results => results.violations.map(each => `${each.id} at ${each.nodes[0].html.slice(0, 200)}`)
        )""",
        only,
    )


def text_of(page: httpx.Response) -> str:
    """The text of a page, without tags."""
    body = re.sub(r"<(script|style)\b.*?</\1>", " ", page.text.partition("<body")[2], flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", body)).split())
