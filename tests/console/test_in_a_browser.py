"""The console in Chromium: with the mouse, with the keyboard only, and without scripts."""

from __future__ import annotations

import csv
import io
import re

import httpx
import pytest
from playwright.async_api import expect

from provider_registration.auth.models import Role
from tests.chromium import visit
from tests.imports.files import a_row, as_csv
from tests.service import PASSWORD


def has(page, text):
    return expect(page.locator("main")).to_contain_text(text)


async def test_signing_in_and_out(browser, service_url, accounts):
    async with visit(browser, service_url) as page:
        await page.goto("/admin/approvals")
        await page.get_by_label("E-mail address").fill(accounts[Role.ADMIN])
        await page.get_by_label("Password").fill("not it")
        await page.keyboard.press("Enter")
        await has(page, "The e-mail address or password is incorrect.")
        await page.get_by_label("Password").fill(PASSWORD)
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("heading", name="Unfinished approvals", exact=True)).to_be_visible()
        assert await page.evaluate("document.cookie") == ""

        await page.get_by_role("button", name="Sign out").click()

        await has(page, "You are signed out.")
        await page.goto("/admin/candidates")
        await expect(page.get_by_role("heading", name="Sign in")).to_be_visible()


async def test_finding_and_approving(signed_in, register):
    candidate = await register()
    async with signed_in() as page:
        await page.goto("/admin/candidates")
        await page.get_by_role("searchbox").fill(candidate["contact_email"])
        await page.get_by_role("button", name="Search").click()
        await page.get_by_role("link", name=candidate["company_name"]).click()
        await page.get_by_role("link", name="Approve…").click()
        await expect(page.get_by_role("heading", name=f"Approve {candidate['company_name']}?")).to_be_visible()
        await page.get_by_role("button", name=f"Approve {candidate['company_name']}").click()

        await has(page, f"{candidate['company_name']} was approved as provider")
        await page.get_by_role("link", name="Next pending candidate").click()
        await expect(page).not_to_have_url(re.compile(candidate["candidate_id"]))


async def test_rejecting_in_ones_own_words(signed_in, register):
    candidate = await register()
    async with signed_in() as page:
        await page.goto(f"/admin/candidates/{candidate['candidate_id']}")
        await page.get_by_role("link", name="Reject…").click()
        await page.get_by_label("Other reason").fill("Zu weit weg")
        await expect(page.get_by_role("radio", name="Other", exact=True)).to_be_checked()
        await page.get_by_role("button", name="Reject").click()

        await has(page, f"{candidate['company_name']} was rejected.")
        await expect(page.get_by_role("region", name="Decision").locator("blockquote")).to_have_text("Zu weit weg")


async def test_a_reason_sent_while_the_database_was_stuck_is_sent_again_by_reloading(signed_in, register, database):
    candidate = await register()
    async with signed_in() as page:
        await page.goto(f"/admin/candidates/{candidate['candidate_id']}/reject")
        await page.get_by_label("Other reason").fill("Zu weit weg")
        async with database.transaction():
            await database.execute("LOCK TABLE candidates IN ACCESS EXCLUSIVE MODE")
            await page.get_by_role("button", name="Reject").click()
            await has(page, "reload this page to send the form again")

        await page.reload()

        await has(page, f"{candidate['company_name']} was rejected.")
        await expect(page.get_by_role("region", name="Decision").locator("blockquote")).to_have_text("Zu weit weg")


async def test_losing_a_race(signed_in, register, admin):
    candidate = await register()
    async with signed_in() as page:
        await page.goto(f"/admin/candidates/{candidate['candidate_id']}/approve")
        faster = await admin.open(f"/admin/candidates/{candidate['candidate_id']}/reject")
        await admin.submit(faster, "/reject", choice="none")

        await expect(page.get_by_role("button", name=f"Approve {candidate['company_name']}")).to_be_focused()
        await page.keyboard.press("Enter")

        await has(page, f"{candidate['company_name']}: {admin.email} rejected it")
        await expect(page.get_by_role("link", name="Next pending candidate")).to_be_visible()


async def test_billing_that_is_down_then_in_doubt_then_resolved(signed_in, register, billing, shared_billing_url):
    candidate = await register()
    name = candidate["company_name"]
    async with signed_in() as page, httpx.AsyncClient(base_url=shared_billing_url) as sandbox:
        await page.goto(f"/admin/candidates/{candidate['candidate_id']}/approve")
        await billing("refuse_400")
        await expect(page.get_by_role("button", name=f"Approve {name}")).to_be_focused()
        await page.keyboard.press("Enter")
        await has(page, "Nothing changed")

        await page.get_by_role("link", name="Approve…").click()
        await billing("commit_then_reset", times=1)
        await sandbox.put("/sandbox/settings", json={"honour_idempotency_key": False})
        await expect(page.get_by_role("button", name=f"Approve {name}")).to_be_focused()
        await page.keyboard.press("Enter")
        await has(page, "Waiting for billing")

        await page.get_by_role("link", name="View approvals").click()
        await page.get_by_role("button", name=f"Retry now {name}").click()
        await has(page, "Look for it in billing")

        await page.get_by_role("link", name=f"Resolve… {name}").click()
        [provider] = (await sandbox.get("/sandbox/providers", params={"name": name})).json()["providers"]
        await page.get_by_label("The provider belongs to this company").check()
        await page.get_by_label("Provider ID in billing").fill(str(provider["id"]))
        await page.get_by_role("button", name="Resolve").click()
        await page.get_by_role("button", name=f"Link provider {provider['id']}").click()
        await has(page, f"{name} was approved as provider {provider['id']}.")


@pytest.mark.parametrize("scripts", [True, False], ids=["with scripts", "without"])
async def test_deciding_about_several(signed_in, register, admin, scripts):
    candidates = [await register() for _ in range(3)]
    async with signed_in(java_script_enabled=scripts) as page:
        await page.goto("/admin/candidates?order=newest")
        for candidate in candidates:
            await page.get_by_label(f"Select {candidate['company_name']}").check()
        if scripts:
            await has(page, "3 selected")
        await page.get_by_role("button", name="Approve selected…").click()
        await expect(page.get_by_role("heading", name="Approve these 3 candidates?")).to_be_visible()
        faster = await admin.open(f"/admin/candidates/{candidates[1]['candidate_id']}/reject")
        await admin.submit(faster, "/reject", choice="none")

        await page.get_by_role("button", name="Approve all 3").click()

        await expect(page.get_by_role("heading", level=1, name="Approve 3 candidates")).to_be_visible()
        for candidate, result in zip(candidates, ("Approved", "Was changed or decided", "Approved"), strict=True):
            row = page.get_by_role("row").filter(has_text=candidate["company_name"])
            await expect(row.get_by_role("cell", name=result)).to_be_visible(timeout=20_000)


async def test_a_reason_that_will_not_do_for_several_is_corrected(signed_in, register):
    candidates = [await register() for _ in range(2)]
    async with signed_in() as page:
        await page.goto("/admin/candidates?order=newest")
        for candidate in candidates:
            await page.get_by_label(f"Select {candidate['company_name']}").check()
        await page.get_by_role("button", name="Reject selected…").click()
        await page.get_by_role("radio", name="Other", exact=True).check()
        await page.get_by_role("button", name="Reject all 2").click()
        await has(page, "There is a problem")

        await page.locator("#reason").fill("No cold chain")
        await page.get_by_role("button", name="Reject all 2").click()

        await expect(page.get_by_role("heading", level=1, name="Reject 2 candidates")).to_be_visible()


async def test_several_after_signing_out_elsewhere(signed_in, register):
    candidate = await register()
    async with signed_in() as page:
        await page.goto("/admin/candidates?order=newest")
        await page.get_by_label(f"Select {candidate['company_name']}").check()
        await page.get_by_role("button", name="Approve selected…").click()
        await page.context.clear_cookies()

        await page.get_by_role("button", name="Approve").click()

        await has(page, "Your session has ended and nothing was decided.")


@pytest.mark.usefixtures("no_candidates", "no_imports")
async def test_a_file_that_was_checked_can_be_registered_without_reloading(signed_in):
    async with signed_in() as page:
        await page.goto("/admin/imports")
        content = as_csv([a_row(), a_row(truck_count="many")])
        files = [{"name": "suppliers.csv", "mimeType": "text/csv", "buffer": content}]
        await page.get_by_label("CSV file").set_input_files(files)
        await page.get_by_role("button", name="Read the file").click()
        await page.get_by_role("button", name="Check only").click()

        await has(page, "Would be registered")
        await has(page, "Trucks: Input should be")
        register = page.get_by_role("button", name="Register the companies")
        await expect(register).to_have_count(1)
        await register.click()
        await has(page, "Imported")


async def test_exporting_what_is_filtered(signed_in, register):
    candidate = await register()
    async with signed_in() as page:
        await page.goto(f"/admin/candidates?search={candidate['contact_email']}")
        await page.get_by_text("Export", exact=True).click()
        async with page.expect_download() as download:
            await page.get_by_role("link", name="CSV").click()
        path = await (await download.value).path()

        [row] = rows_of(path)
        assert row["contact_email"] == candidate["contact_email"]


def rows_of(path):
    return list(csv.DictReader(io.StringIO(path.read_bytes().decode("utf-8-sig"))))


async def test_a_days_work_with_keys_alone(signed_in, register):
    first, second = await register(), await register()
    async with signed_in() as page:
        await page.goto("/admin/candidates?order=newest")
        await page.keyboard.press("Tab")
        await expect(page.get_by_text("Skip to content")).to_be_focused()
        await page.keyboard.press("j")
        await expect(page.get_by_role("link", name=second["company_name"])).to_be_focused()
        await page.keyboard.press("x")
        await has(page, "1 selected")
        await page.keyboard.press("j")
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("heading", name=first["company_name"])).to_be_visible()
        await page.keyboard.press("a")
        await expect(page.get_by_role("button", name=f"Approve {first['company_name']}")).to_be_focused()
        await page.keyboard.press("Enter")
        await has(page, "was approved as provider")
        await page.keyboard.press("n")
        await expect(page).not_to_have_url(re.compile(first["candidate_id"]))
        await page.keyboard.press("r")
        await expect(page.get_by_role("radio").first).to_be_focused()
        await page.keyboard.press("ArrowDown")
        await page.keyboard.press("Enter")
        await has(page, "was rejected.")
        await page.keyboard.press("q")
        await expect(page.get_by_role("heading", name="Pending candidates", exact=True)).to_be_visible()
        await page.keyboard.press("/")
        await page.keyboard.type("nxaj?")
        await expect(page.get_by_role("searchbox")).to_have_value("nxaj?")


async def test_keys_can_be_turned_off(signed_in, register):
    candidate = await register()
    async with signed_in() as page:
        await page.goto(f"/admin/candidates/{candidate['candidate_id']}")
        await page.keyboard.press("?")
        await page.get_by_label("Use these shortcuts in this browser").uncheck()
        await page.keyboard.press("Escape")
        await page.keyboard.press("a")
        await page.reload()
        await page.keyboard.press("a")

        await expect(page.get_by_role("heading", name=candidate["company_name"], exact=True)).to_be_visible()


async def test_the_first_visit_is_small(browser, service_url):
    async with visit(browser, service_url) as page:
        finished = []

        def note(request):
            finished.append(request)

        page.on("requestfinished", note)
        await page.goto("/admin/sign-in", wait_until="networkidle")
        sizes = [await request.sizes() for request in finished]

        assert len(finished) >= 3
        assert sum(size["responseBodySize"] + size["responseHeadersSize"] for size in sizes) < 100_000
