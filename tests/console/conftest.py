"""The real service with its pages, and browsers of staff: plain HTTP here, Chromium where it matters."""

from __future__ import annotations

import html
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import httpx
import pytest
from playwright.async_api import Browser, Page

from provider_registration.app import create_app
from provider_registration.auth.directory import UserDirectory
from provider_registration.auth.models import Role
from provider_registration.local.background_server import serve_in_background
from provider_registration.settings import Settings
from tests.chromium import visit
from tests.service import PASSWORD, a_registration, make_settings

ACCEPT = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"


@dataclass
class Person:
    """A user of a browser without scripts: keeps cookies, follows redirects, fills in forms."""

    client: httpx.AsyncClient
    email: str = ""
    cookies: dict[str, str] = field(default_factory=dict)

    async def ask(self, method: str, url: str, **options: Any) -> httpx.Response:
        """Send one request, as a browser would from a page of this host."""
        headers = {"Accept": ACCEPT, "Sec-Fetch-Site": "same-origin", **options.pop("headers", {})}
        headers["Cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        response = await self.client.request(method, url, headers=headers, **options)
        for line in response.headers.get_list("set-cookie"):
            name, _, value = line.partition(";")[0].partition("=")
            if "Max-Age=0" in line:
                self.cookies.pop(name, None)
            else:
                self.cookies[name] = value.strip('"')
        return response

    async def open(self, url: str) -> httpx.Response:
        """Open a page, following redirects."""
        response = await self.ask("GET", url)
        while response.is_redirect:
            response = await self.ask("GET", response.headers["Location"])
        return response

    async def send(self, url: str, form: dict[str, Any], **options: Any) -> httpx.Response:
        """Send a form, without following redirects."""
        headers = {"Content-Type": "application/x-www-form-urlencoded", **options.pop("headers", {})}  # also if empty
        return await self.ask("POST", url, data=form, headers=headers, **options)

    async def submit(self, page: httpx.Response, action: str, **typed: Any) -> httpx.Response:
        """Fill in and send the form whose action ends with `action`, following redirects."""
        response = await self.send(*form_of(page, action, **typed))
        return await self.open(response.headers["Location"]) if response.is_redirect else response

    async def sign_in(self, email: str, password: str = PASSWORD) -> httpx.Response:
        """Sign in and return the next page."""
        self.email = email
        return await self.submit(await self.open("/admin/sign-in"), "/sign-in", username=email, password=password)


def form_of(page: httpx.Response, action: str, **typed: Any) -> tuple[str, dict[str, Any]]:
    """The action of a form, and its hidden fields together with the typed ones."""
    forms = re.findall(r'<form\b[^>]*? method="post" action="([^"]*)"[^>]*>(.*?)</form>', page.text, re.DOTALL)
    [(url, inside)] = [(url, inside) for url, inside in forms if html.unescape(url).endswith(action)]
    hidden = re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)"', inside)
    return html.unescape(url), {name: html.unescape(value) for name, value in hidden} | typed


@pytest.fixture(scope="session")
def settings(migrated_database_url: str, shared_billing_url: str) -> Settings:
    """Settings of a service with all pages, which calls billing once for each approval."""
    return make_settings(
        migrated_database_url,
        shared_billing_url,
        billing_max_tries=1,
        billing_deadline_seconds=300,  # the sweep runs every 45 s, so an approval keeps its state
        admin_pages=True,
        webhooks_allow_http=True,
        webhooks_allowed_networks="127.0.0.1",
    )


@pytest.fixture(scope="module")
async def service_url(settings: Settings) -> AsyncIterator[str]:
    """The service that the tests share."""
    async with serve_in_background(create_app(settings)) as url:
        yield url


@pytest.fixture(scope="session")
async def accounts(users: UserDirectory) -> dict[Role, str]:
    """E-mail addresses of a member of staff of each role."""
    emails = {role: f"{role}-{uuid4().hex[:6]}@supply.example" for role in Role}
    for role, email in emails.items():
        await users.create(email, PASSWORD, role)
    return emails


@pytest.fixture
async def someone(service_url: str) -> AsyncIterator[Person]:
    """A user who is not signed in."""
    async with httpx.AsyncClient(base_url=service_url, timeout=30) as client:
        yield Person(client)


@pytest.fixture(scope="module")
async def admin(service_url: str, accounts: dict[Role, str]) -> AsyncIterator[Person]:
    """An admin who is signed in."""
    async with httpx.AsyncClient(base_url=service_url, timeout=30) as client:
        person = Person(client)
        await person.sign_in(accounts[Role.ADMIN])
        yield person


@pytest.fixture(scope="module")
async def viewer(service_url: str, accounts: dict[Role, str]) -> AsyncIterator[Person]:
    """A viewer who is signed in."""
    async with httpx.AsyncClient(base_url=service_url, timeout=30) as client:
        person = Person(client)
        await person.sign_in(accounts[Role.VIEWER])
        yield person


@pytest.fixture(scope="module")
async def auditor(service_url: str, accounts: dict[Role, str]) -> AsyncIterator[Person]:
    """An auditor who is signed in."""
    async with httpx.AsyncClient(base_url=service_url, timeout=30) as client:
        person = Person(client)
        await person.sign_in(accounts[Role.AUDITOR])
        yield person


@pytest.fixture(scope="module")
def register(service_url: str) -> Callable[..., Awaitable[dict[str, Any]]]:
    """Registers a company and returns its record."""

    async def register(**changes: object) -> dict[str, Any]:
        async with httpx.AsyncClient(base_url=service_url, timeout=30) as client:
            response = await client.post("/candidates", json=a_registration(**changes))
        assert response.status_code == 201, response.text
        return response.json()

    return register


@pytest.fixture
async def no_imports(database: Any) -> AsyncIterator[None]:
    """Deletes the imports and jobs of a test."""
    yield
    await database.execute("DELETE FROM imports; DELETE FROM jobs")


@pytest.fixture
async def billing(shared_billing_url: str) -> AsyncIterator[Callable[..., Awaitable[None]]]:
    """Makes the next calls to billing fail in a mode of the sandbox, and resets it afterwards."""
    async with httpx.AsyncClient(base_url=shared_billing_url) as client:

        async def fail(mode: str, **how: object) -> None:
            response = await client.put("/sandbox/faults", json={"mode": mode, **how})
            assert response.status_code == 200, response.text

        yield fail
        await fail("none")
        await client.put("/sandbox/settings", json={"honour_idempotency_key": True, "latency_ms": 0})


@pytest.fixture(scope="module")
def signed_in(
    browser: Browser, service_url: str, accounts: dict[Role, str]
) -> Callable[..., AbstractAsyncContextManager[Page]]:
    """Opens a Chromium page with a signed-in admin; options are those of Playwright's contexts."""

    @asynccontextmanager
    async def signed_in(**options: Any) -> AsyncIterator[Page]:
        async with visit(browser, service_url, **options) as page:
            await page.goto("/admin/sign-in?next=/admin/approvals")
            await page.get_by_label("E-mail address").fill(accounts[Role.ADMIN])
            await page.get_by_label("Password").fill(PASSWORD)
            await page.keyboard.press("Enter")
            await page.wait_for_url(f"{service_url}/admin/approvals")
            yield page

    return signed_in
