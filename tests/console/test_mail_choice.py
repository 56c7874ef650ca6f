"""Admins choose whether a company gets an e-mail: one at a time, several at once, with and without scripts."""

from __future__ import annotations

import re

import httpx
import pytest

from provider_registration.app import create_app
from provider_registration.auth.models import Role
from provider_registration.local.background_server import serve_in_background
from tests.service import MAIL, make_settings

from .conftest import Person, form_of

BOX = re.compile(r'<input type="checkbox" id="notify" name="notify" value="yes"( checked)?>')
DECISIONS = "SELECT data ->> 'notify' FROM candidate_events WHERE candidate_id = $1::text::uuid AND type = $2"


@pytest.fixture(scope="module")
async def service_url(migrated_database_url, shared_billing_url):
    """A console with e-mail; nothing is sent."""
    settings = make_settings(migrated_database_url, shared_billing_url, billing_max_tries=1, admin_pages=True, **MAIL)
    async with serve_in_background(create_app(settings)) as url:
        yield url


@pytest.fixture
def notified(database):
    """Whether the company gets an e-mail about the decision."""

    async def notified(candidate, type_):
        return await database.fetchval(DECISIONS, candidate["candidate_id"], f"candidate.{type_}") != "false"

    return notified


@pytest.mark.parametrize(("decision", "type_"), [("approve", "approved"), ("reject", "rejected")])
@pytest.mark.parametrize("choice", [["no", "yes"], ["no"]])
async def test_one_candidate(admin, register, notified, decision, type_, choice):
    candidate = await register()
    page = await admin.open(f"/admin/candidates/{candidate['candidate_id']}/{decision}")
    assert BOX.search(page.text)[1] == " checked"

    await admin.submit(page, f"/{decision}", choice="none", notify=choice)

    assert await notified(candidate, type_) is (choice == ["no", "yes"])


@pytest.mark.parametrize(("decision", "type_"), [("approve", "approved"), ("reject", "rejected")])
@pytest.mark.parametrize("choice", [["no", "yes"], ["no"]])
async def test_several_candidates(admin, register, notified, decision, type_, choice):
    candidates = [await register() for _ in range(2)]
    marks = [f"{each['candidate_id']}:1" for each in candidates]
    page = await admin.send("/admin/candidates/marked", {"mark": marks, "decision": decision})
    assert BOX.search(page.text)[1] == " checked"

    url, form = form_of(page, f"/marked/{decision}", choice="none", notify=choice)
    await admin.send(url, form | {"mark": marks})

    assert [await notified(each, type_) for each in candidates] == [choice == ["no", "yes"]] * 2


async def test_the_choice_is_kept_when_the_reason_is_missing(admin, register):
    candidate = await register()
    page = await admin.open(f"/admin/candidates/{candidate['candidate_id']}/reject")

    page = await admin.submit(page, "/reject", choice="own", reason="", notify=["no"])

    assert page.status_code == 422
    assert BOX.search(page.text)[1] is None


async def test_with_scripts_the_choice_counts_for_each(signed_in, register, notified):
    candidates = [await register() for _ in range(2)]
    async with signed_in() as page:
        await page.goto("/admin/candidates?order=newest")
        for candidate in candidates:
            await page.locator(f'input[name="mark"][value^="{candidate["candidate_id"]}"]').check()
        await page.get_by_role("button", name="Reject").first.click()
        await page.get_by_label("No reason").check()
        await page.get_by_label("Send each company an e-mail").uncheck()
        await page.get_by_role("button", name="Reject all 2").click()
        await page.get_by_text("2 of 2 done").wait_for()

    assert [await notified(each, "rejected") for each in candidates] == [False, False]


async def test_without_e_mail_there_is_no_choice(migrated_database_url, shared_billing_url, accounts, register):
    candidate = await register()
    settings = make_settings(migrated_database_url, shared_billing_url, admin_pages=True, workers=False)
    async with (
        serve_in_background(create_app(settings)) as url,
        httpx.AsyncClient(base_url=url, timeout=30) as client,
    ):
        admin = Person(client)
        await admin.sign_in(accounts[Role.ADMIN])
        for decision in ("approve", "reject"):
            page = await admin.open(f"/admin/candidates/{candidate['candidate_id']}/{decision}")
            assert "e-mail with" not in page.text
            assert 'name="notify"' not in page.text
