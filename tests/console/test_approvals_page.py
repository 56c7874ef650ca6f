"""Approvals that billing has not confirmed, in the console: shown, retried, resolved."""

from __future__ import annotations

import pytest

from provider_registration.auth.models import Role
from tests.chromium import text_of
from tests.service import PASSWORD


@pytest.fixture
def approve(admin):
    async def approve(candidate):
        page = await admin.open(f"/admin/candidates/{candidate['candidate_id']}/approve")
        return await admin.submit(page, "/approve")

    return approve


@pytest.fixture
async def waiting(register, approve, billing):
    """A candidate whose approval waits for billing, which works again."""
    candidate = await register()
    await billing("fail_503")
    page = await approve(candidate)
    assert "Billing has not confirmed yet." in text_of(page)
    assert "Waiting for billing" in text_of(page)
    await billing("none")
    return candidate


@pytest.fixture
async def in_doubt(register, billing, shared_billing_url, admin, approve):
    """A candidate whose provider exists in billing, which does not know whose it is."""
    candidate = await register()
    await billing("commit_then_reset", times=1)
    await admin.client.put(
        f"{shared_billing_url}/sandbox/settings", json={"honour_idempotency_key": False, "latency_ms": 0}
    )
    await approve(candidate)
    page = await admin.open("/admin/approvals")
    if retry_of(candidate) in page.text:  # else another service of these tests has already retried
        await admin.submit(page, retry_of(candidate))
    return candidate


def retry_of(candidate):
    return f"{candidate['candidate_id']}/approval/retry"


async def test_a_waiting_approval_is_listed_and_can_be_retried(admin, waiting):
    page = await admin.open("/admin/approvals")
    assert "Billing did not respond" in text_of(page) or "status 503" in text_of(page)

    page = await admin.submit(page, retry_of(waiting))

    assert f"{waiting['company_name']} was approved as provider" in text_of(page)
    assert waiting["candidate_id"] not in page.text


async def test_the_reason_for_doubt_is_what_billing_did(register, billing, approve):
    candidate = await register()
    await billing("redirect")

    shown = text_of(await approve(candidate))

    assert "billing returned status 30" in shown.lower()
    assert "already has a provider" not in shown
    assert "Look for it in billing" in shown


async def test_a_waiting_one_cannot_be_rejected_and_the_page_says_why(admin, waiting):
    page = await admin.open(f"/admin/candidates/{waiting['candidate_id']}/reject")

    page = await admin.submit(page, "/reject", choice="none")

    assert "An approval is waiting for billing, so you cannot reject the candidate." in text_of(page)


async def test_one_in_doubt_is_linked(admin, in_doubt, shared_billing_url):
    page = await admin.open("/admin/approvals")
    assert "Needs checking" in text_of(page)
    found = await admin.client.get(f"{shared_billing_url}/sandbox/providers", params={"name": in_doubt["company_name"]})
    [provider] = found.json()["providers"]

    page = await admin.open(f"/admin/candidates/{in_doubt['candidate_id']}/approval/resolve")
    page = await admin.submit(page, "/resolve", resolution="link", provider_id=f" {provider['id']} ")
    assert f"Link provider {provider['id']}" in text_of(page)
    page = await admin.submit(page, "/resolve")

    assert f"{in_doubt['company_name']} was approved as provider {provider['id']}." in text_of(page)
    page = await admin.open(f"/admin/candidates/{in_doubt['candidate_id']}")
    assert f"Linked manually to a provider in billing (provider {provider['id']})" in text_of(page)


@pytest.mark.parametrize("confirmed", [{}, {"confirmed": ""}, {"confirmed": "99999"}])
async def test_a_number_is_read_back_before_anything_is_linked(admin, in_doubt, database, confirmed):
    page = await admin.open(f"/admin/candidates/{in_doubt['candidate_id']}/approval/resolve")

    page = await admin.submit(page, "/resolve", resolution="link", provider_id="999999", **confirmed)

    shown = text_of(page)
    assert "Link provider 999999" in shown
    assert in_doubt["company_name"] in shown
    status = "SELECT status FROM candidates WHERE id::text = $1"
    assert await database.fetchval(status, in_doubt["candidate_id"]) == "pending"


async def test_what_was_found_in_billing_survives_signing_in(someone, accounts, in_doubt):
    await someone.sign_in(accounts[Role.ADMIN])
    page = await someone.open(f"/admin/candidates/{in_doubt['candidate_id']}/approval/resolve")
    someone.cookies.clear()

    page = await someone.submit(page, "/resolve", resolution="link", provider_id="4711")
    page = await someone.submit(page, "/sign-in", username=accounts[Role.ADMIN], password=PASSWORD)
    page = await someone.submit(page, "/resolve")

    assert 'value="4711"' in page.text
    assert "What did you find?" in text_of(page)


async def test_an_approval_in_doubt_is_cancelled_and_can_be_decided_again(admin, in_doubt):
    address = f"/admin/candidates/{in_doubt['candidate_id']}/approval/resolve"
    page = await admin.submit(await admin.open(address), "/resolve", resolution="let_go", provider_id="7")
    assert "the approval was cancelled. You can decide again." in text_of(page)

    page = await admin.open(address)
    assert "This approval no longer needs checking." in text_of(page)


@pytest.mark.parametrize(
    ("typed", "sentence"),
    [
        ({}, "Select what you found in billing"),
        ({"resolution": "link"}, "Enter the provider ID"),
        ({"resolution": "link", "provider_id": "0"}, "Enter a valid provider ID"),
        ({"resolution": "link", "provider_id": "9" * 10}, "Enter a valid provider ID"),
        ({"resolution": "link", "provider_id": "9" * 5000}, "Enter the provider ID"),
        ({"resolution": "eat"}, "Select what you found in billing"),
    ],
)
async def test_an_invalid_resolution_shows_the_form_again(admin, in_doubt, typed, sentence):
    page = await admin.open(f"/admin/candidates/{in_doubt['candidate_id']}/approval/resolve")

    page = await admin.submit(page, "/resolve", **typed)

    assert page.status_code == 422
    assert sentence in text_of(page)
    assert typed.get("provider_id", "") in page.text


async def test_a_provider_of_another_candidate_is_not_linked(admin, in_doubt, register, approve, billing, database):
    await billing("none")
    other = await register()
    await approve(other)
    taken = await database.fetchval(
        "SELECT provider_id FROM candidates WHERE id = $1::text::uuid", other["candidate_id"]
    )

    page = await admin.open(f"/admin/candidates/{in_doubt['candidate_id']}/approval/resolve")
    page = await admin.submit(page, "/resolve", resolution="link", provider_id=str(taken))
    page = await admin.submit(page, "/resolve")

    assert f"Provider {taken} is linked to another candidate." in text_of(page)


async def test_an_auditor_reads_approvals_and_their_errors_and_decides_none(auditor, admin, in_doubt, waiting):
    page = await auditor.open("/admin/approvals")
    assert page.status_code == 200
    assert in_doubt["company_name"] in page.text
    assert waiting["company_name"] in page.text
    for path in (f"/{in_doubt['candidate_id']}/approval/resolve", f"/{waiting['candidate_id']}/approval/retry"):
        assert path in (await admin.open("/admin/approvals")).text
        assert path not in page.text

    page = await auditor.open(f"/admin/candidates/{in_doubt['candidate_id']}")
    assert "already has a provider" in text_of(page).partition("Activity")[2]  # the error
    assert "Resolve…" not in page.text
    assert "Auditor" in text_of(page)


async def test_approvals_are_for_auditors_and_admins_as_in_the_api(viewer, in_doubt):
    assert (await viewer.open("/admin/approvals")).status_code == 403
    page = await viewer.open(f"/admin/candidates/{in_doubt['candidate_id']}")
    assert "Needs checking" in text_of(page)
    assert "/admin/approvals" not in page.text
    assert "Approval requested" in text_of(page)
    assert "already has a provider" not in text_of(page).partition("Activity")[2]  # the error

    for what in ("retry", "resolve"):
        address = f"/admin/candidates/{in_doubt['candidate_id']}/approval/{what}"
        assert (await viewer.send(address, {"resolution": "let_go"})).status_code == 403
