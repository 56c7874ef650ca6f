"""The pages for API keys: a key is shown once, and works until it is revoked."""

from __future__ import annotations

import asyncio
import html
import re

import pytest

FORM = "/admin/api-keys/new"


def key_on(page):
    [key] = re.findall(r"prk_[A-Za-z0-9]{43}", page.text)
    return key


async def status_of(anonymous, key):
    return (await anonymous.get("/candidates", headers={"Authorization": f"Bearer {key}"})).status_code


async def revoke_path(admin, name):
    """The path of the page that asks before the newest key with this name is revoked."""
    page = await admin.open("/admin/api-keys")
    row = next(row for row in page.text.split("<tr>") if html.escape(name) in row)
    return re.search(r'href="(/admin/api-keys/[0-9a-f-]{36}/revoke)"', row)[1]


async def test_a_key_is_shown_once_and_works(admin, anonymous):
    page = await admin.submit(await admin.open(FORM), "/new", name="<ERP>", role="viewer", expires_at="2999-12-31")
    key = key_on(page)

    assert "&lt;ERP&gt;" in page.text
    assert await status_of(anonymous, key) == 200
    listed = (await admin.open("/admin/api-keys")).text
    assert key not in listed
    assert key[:12] in listed
    assert "1 Jan 3000" in listed


async def test_a_key_is_revoked_after_a_confirmation(admin, anonymous):
    key = key_on(await admin.submit(await admin.open(FORM), "/new", name="Revoked later", role="admin"))
    path = await revoke_path(admin, "Revoked later")
    question = await admin.open(path)
    assert await status_of(anonymous, key) == 200

    page = await admin.submit(question, "/revoke")

    async with asyncio.timeout(10):  # the other service learns of it within a second
        while await status_of(anonymous, key) != 401:
            await asyncio.sleep(0.1)
    assert "Revoked later: the API key was revoked." in html.unescape(page.text)
    assert "Revoked" in page.text
    again = await admin.submit(question, "/revoke")
    assert again.status_code == 200


@pytest.mark.parametrize(
    ("typed", "fields"),
    [
        ({}, ["name", "role"]),
        ({"name": " ", "role": "owner"}, ["name", "role"]),
        ({"name": "x" * 101, "role": "viewer"}, ["name"]),
        ({"name": "ERP", "role": "viewer", "expires_at": "tomorrow"}, ["expires_at"]),
        ({"name": "ERP", "role": "viewer", "expires_at": "2020-01-01"}, ["expires_at"]),
        ({"name": "ERP", "role": "viewer", "expires_at": "9999-12-31"}, ["expires_at"]),
    ],
)
async def test_a_form_with_mistakes_keeps_what_was_typed(admin, typed, fields):
    page = await admin.send(FORM, typed)

    assert page.status_code == 422
    summary = page.text[page.text.index('id="error-summary"') :]
    assert re.findall(r'<a href="#(\w+)">', summary[: summary.index("</ul>")]) == fields
    assert f'value="{typed.get("name", "")}"' in page.text
    assert not re.search(r"prk_[A-Za-z0-9]{43}", page.text)


async def test_older_keys_are_on_further_pages(admin, monkeypatch):
    monkeypatch.setattr("provider_registration.console.api_keys.PAGE_SIZE", 2)
    for number in range(3):
        await admin.send(FORM, {"name": f"Paged {number}", "role": "viewer"})

    first, second = [await admin.open(f"/admin/api-keys?page={page}") for page in (1, 2)]

    assert "Paged 2" in first.text
    assert "Paged 0" not in first.text
    assert "/admin/api-keys?page=2" in first.text
    assert "Paged 0" in second.text
    assert "/admin/api-keys?page=1" in second.text


async def test_pages_name_the_key_that_decided(admin, anonymous, register):
    key = key_on(await admin.submit(await admin.open(FORM), "/new", name="Deciding program", role="admin"))
    candidate = await register()
    path = f"/candidates/{candidate['candidate_id']}"
    question = await admin.open(f"/admin{path}/reject")

    await anonymous.post(f"{path}/reject", headers={"Authorization": f"Bearer {key}"})

    assert "Deciding program (API key)" in (await admin.open(f"/admin{path}")).text
    assert "Deciding program (API key)" in (await admin.open("/admin/activity?type=candidate.rejected")).text
    late = await admin.submit(question, "/reject", choice="none")
    assert "Deciding program (API key) rejected it" in html.unescape(late.text)
