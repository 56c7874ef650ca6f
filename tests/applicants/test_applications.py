"""The status page of an application: visible with its link only."""

from __future__ import annotations

import re
from uuid import uuid4

import httpx
import pytest

from tests.chromium import text_of

from .conftest import BROWSER


@pytest.fixture
async def application(client, admin, typed):
    """An application: the form's fields, the path of its status page, and that of its candidate."""
    form = typed()
    path = (await client.post("/apply", data=form)).headers["Location"]
    listed = await admin.get("/candidates")
    [candidate] = [one for one in listed.json()["candidates"] if one["contact_email"] == form["contact_email"]]
    return form, path, f"/candidates/{candidate['candidate_id']}"


async def test_it_shows_what_was_sent_in_and_that_it_was_received(client, application):
    form, path, _ = application

    page = await client.get(path)

    text = text_of(page)
    assert "We have received your application" in text
    for sent in ("company_name", "location", "contact_email", "phone", "truck_count", "capacity_tons_per_day"):
        assert form[sent] in text
    assert "Apples, Grapes" in text
    assert "Save this link" in text


async def test_it_shows_that_it_was_accepted(client, admin, application):
    _, path, candidate = application
    approval = await admin.post(f"{candidate}/approve")
    assert approval.status_code == 200, approval.text

    text = text_of(await client.get(path))

    assert "Your application has been accepted" in text
    assert "In review" not in text


@pytest.mark.asvs("V3.2.2")
@pytest.mark.parametrize(("reason", "shown"), [("No <b>cold</b> chain", "No <b>cold</b> chain"), (None, "No reason")])
async def test_it_shows_that_it_was_declined_and_why(client, admin, application, reason, shown):
    _, path, candidate = application
    await admin.post(f"{candidate}/reject", json={"reason": reason})

    page = await client.get(path)

    assert "We did not accept your application" in text_of(page)
    assert shown in text_of(page)
    assert "<b>" not in page.text


@pytest.mark.asvs("V8.2.2", "API1")
async def test_it_shows_nothing_that_is_staffs(client, admin, application):
    _, path, candidate = application
    await admin.post(f"{candidate}/approve")
    record = (await admin.get(candidate)).json()

    page = await client.get(path)

    assert record["candidate_id"] not in page.text
    assert "provider" not in page.text.lower()
    assert path.rpartition("/")[2] not in page.text


@pytest.mark.asvs("V14.2.1")
async def test_it_is_kept_from_caches_search_engines_and_other_pages(client, application):
    _, path, _ = application

    pages = [await client.get(address) for address in (path, f"/applications/{uuid4().hex}", f"{path}/more")]
    for page in (*pages, await client.delete(path)):
        headers = page.headers
        assert headers["Content-Type"].startswith("text/html")
        assert headers["Cache-Control"] == "no-store"
        assert headers["X-Robots-Tag"] == "noindex"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert "script-src 'self'; style-src 'self'" in headers["Content-Security-Policy"]


@pytest.mark.parametrize("secret", ["x", "x" * 43, "x" * 5000, "%00", "%ff", "%F0%9F%8D%8F", "'--", "null"])
async def test_an_unknown_link_shows_a_helpful_page(client, secret):
    page = await client.get(f"/applications/{secret}")

    assert page.status_code == 404
    assert "Application not found" in text_of(page)
    assert 'href="/apply"' in page.text


@pytest.mark.asvs("V14.2.1")
async def test_a_replaced_link_stops_at_once_and_the_new_one_works(client, admin, application):
    form, path, candidate = application

    replaced = (await admin.post(f"{candidate}/status-link")).json()["status_url"]

    assert (await client.get(path)).status_code == 404
    assert form["company_name"] in (await client.get(replaced)).text


async def test_a_form_sent_again_does_not_bring_a_replaced_link_back(client, admin, application):
    form, path, candidate = application
    await admin.post(f"{candidate}/status-link")

    assert (await client.post("/apply", data=form)).status_code == 409
    assert (await client.get(path)).status_code == 404


async def test_the_link_that_the_api_gave_works(client, typed):
    form = typed()
    body = {name: form[name] for name in ("company_name", "contact_email", "products")}
    registered = await client.post("/candidates", json=body | {"truck_count": 1, "capacity_tons_per_day": 2})

    page = await client.get(registered.json()["status_url"])

    assert page.status_code == 200
    assert "Not provided" in text_of(page)


async def test_guessing_is_limited(settings, run_service):
    limited = settings.model_copy(update={"rate_limit_default": "5/minute"})
    async with run_service(limited) as url, httpx.AsyncClient(base_url=url, headers=BROWSER) as client:
        pages = [await client.get(f"/applications/{uuid4().hex}") for _ in range(6)]

    assert [page.status_code for page in pages] == [404] * 5 + [429]
    assert pages[-1].headers["Content-Type"].startswith("text/html")


async def test_behind_a_gateway_every_address_has_the_prefix(settings, run_service, typed):
    prefixed = settings.model_copy(update={"root_path": "/registry"})
    async with run_service(prefixed) as url, httpx.AsyncClient(base_url=url, headers=BROWSER) as client:
        form = await client.get("/registry/apply")
        sent = await client.post("/registry/apply", data=typed())
        page = await client.get(sent.headers["Location"])
        unknown = await client.get("/registry/applications/none")

    assert 'action="/registry/apply?send&amp;language=en"' in form.text
    assert sent.headers["Location"].startswith("/registry/applications/")
    assert page.status_code == 200
    for one in (form, page, unknown):
        addresses = re.findall(r'(?:href|src)="(/[^"]*)"', one.text)
        assert addresses
        assert all(address.startswith("/registry/") for address in addresses)
