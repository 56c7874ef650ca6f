"""One candidate in the console: its details, and decisions with everything that can get in the way."""

from __future__ import annotations

import re

import httpx
import pytest

from provider_registration.app import create_app
from provider_registration.auth.models import Role
from provider_registration.local.background_server import serve_in_background
from tests.chromium import text_of

from .conftest import Person, form_of


@pytest.fixture
def path_of():
    return lambda candidate: f"/admin/candidates/{candidate['candidate_id']}"


async def test_the_page_shows_everything_as_text(admin, register, path_of):
    candidate = await register(company_name='<b>Obst</b> & "Söhne"', location="<script>alert(1)</script>")

    page = await admin.open(path_of(candidate))

    assert page.status_code == 200
    assert "<b>Obst" not in page.text
    assert "alert(1)</script>" not in page.text
    shown = text_of(page)
    for value in (
        '<b>Obst</b> & "Söhne"',
        candidate["contact_email"],
        "+49 221 5550 100",
        "Apples Grapes",
        "40 tonnes",
    ):
        assert value in shown


async def test_approving_asks_for_confirmation_and_offers_the_next(admin, register, path_of):
    candidate = await register()
    page = await admin.open(f"{path_of(candidate)}/approve")
    assert f"Approve {candidate['company_name']}" in text_of(page)

    page = await admin.submit(page, "/approve")

    assert re.search(
        rf"{candidate['company_name']} was approved as provider \d+\. Next pending candidate", text_of(page)
    )
    assert f"Approval requested {admin.email}" in text_of(page)
    assert f"/admin/next?after={candidate['candidate_id']}" in page.text


@pytest.mark.parametrize(
    ("typed", "reason"),
    [
        ({"choice": "2"}, "We could not verify the company."),
        ({"choice": "own", "reason": " Keine Kühlkette "}, "Keine Kühlkette"),
        ({"choice": "own", "reason": "No cold chain.\r\nToo far away."}, "No cold chain. Too far away."),
        ({"choice": "none", "reason": "typed and not meant"}, None),
    ],
)
async def test_rejecting_takes_a_usual_reason_ones_own_words_or_none(admin, register, path_of, database, typed, reason):
    candidate = await register()
    page = await admin.open(f"{path_of(candidate)}/reject")
    assert f"Reject {candidate['company_name']}" in text_of(page)

    page = await admin.submit(page, "/reject", **typed)

    assert f"{candidate['company_name']} was rejected." in text_of(page)
    row = await database.fetchrow(
        """
        SELECT status, rejection_reason, users.email
        FROM candidates JOIN users ON users.id = rejected_by WHERE candidates.id = $1::text::uuid
        """,
        candidate["candidate_id"],
    )
    assert tuple(row) == ("rejected", reason, admin.email)
    assert f"Rejected {reason or ''} {admin.email}".replace("  ", " ") in text_of(await admin.open(path_of(candidate)))


@pytest.mark.parametrize(
    "typed",
    [
        {},
        {"choice": "own", "reason": "  "},
        {"choice": "own", "reason": "x" * 1001},
        {"choice": "99"},
        {"choice": "0009"},
        {"choice": "9" * 5000},
        {"choice": "own", "reason": "a\x07b"},
    ],
)
async def test_an_invalid_reason_shows_the_form_again_with_its_values(admin, register, path_of, typed):
    candidate = await register()
    page = await admin.open(f"{path_of(candidate)}/reject")

    page = await admin.submit(page, "/reject", **typed)

    assert page.status_code == 422
    assert "There is a problem" in text_of(page)
    assert typed.get("reason", "").strip() in page.text


async def test_the_second_admin_sees_who_decided_first(admin, someone, accounts, users, register, path_of):
    candidate = await register()
    approving, rejecting = [await admin.open(f"{path_of(candidate)}/{what}") for what in ("approve", "reject")]
    await admin.submit(approving, "/approve")

    page = await admin.submit(rejecting, "/reject", choice="none")

    outcome = rf"{re.escape(admin.email)} approved it \d+ s ago \(provider \d+\)\. Your decision was not applied\."
    assert re.search(outcome, text_of(page))


async def test_an_earlier_rejection_is_shown_too(admin, register, path_of):
    candidate = await register()
    approving, rejecting = [await admin.open(f"{path_of(candidate)}/{what}") for what in ("approve", "reject")]
    await admin.submit(rejecting, "/reject", choice="none")

    page = await admin.submit(approving, "/approve")

    outcome = rf"{re.escape(admin.email)} rejected it \d+ s ago\. Your decision was not applied\."
    assert re.search(outcome, text_of(page))


async def test_a_candidate_that_changed_since_it_was_seen_is_not_decided(admin, register, path_of, database):
    candidate = await register()
    page = await admin.open(f"{path_of(candidate)}/approve")
    await database.execute("UPDATE candidates SET phone = NULL WHERE id = $1::text::uuid", candidate["candidate_id"])

    page = await admin.submit(page, "/approve")

    assert re.search(r"was changed \d+ s ago, after you opened it", text_of(page))
    assert "Pending" in text_of(page)


async def test_when_billing_is_down_the_page_says_so_and_nothing_changes(admin, register, path_of, billing):
    candidate = await register()
    page = await admin.open(f"{path_of(candidate)}/approve")
    await billing("refuse_400")

    page = await admin.submit(page, "/approve")

    shown = text_of(page)
    assert "Approval failed: billing refused the request" in shown
    assert "Nothing changed" in shown
    assert f"{path_of(candidate)}/approve" in page.text


async def test_a_decided_candidate_cannot_be_decided_again(admin, register, path_of):
    candidate = await register()
    await admin.submit(await admin.open(f"{path_of(candidate)}/reject"), "/reject", choice="none")

    for what in ("approve", "reject"):
        page = await admin.open(f"{path_of(candidate)}/{what}")
        assert page.url.path == path_of(candidate)
        assert "This application was already decided." in text_of(page)


async def test_a_viewer_sees_everything_and_decides_nothing(admin, viewer, register, path_of):
    candidate = await register()
    page = await viewer.open(path_of(candidate))
    assert candidate["contact_email"] in page.text
    assert "/approve" not in page.text

    for what in ("approve", "reject"):
        refused = await viewer.open(f"{path_of(candidate)}/{what}")
        assert refused.status_code == 403
        assert "You do not have permission" in text_of(refused)
        _, form = form_of(await admin.open(f"{path_of(candidate)}/{what}"), f"/{what}")
        sent = await viewer.send(f"{path_of(candidate)}/{what}", form | {"choice": "none"})
        assert sent.status_code == 403


@pytest.mark.parametrize("version", ["", "0", "-1", "x", "²", "9" * 40])
async def test_a_version_that_is_none_decides_nothing(admin, register, path_of, version):
    candidate = await register()
    page = await admin.open(f"{path_of(candidate)}/approve")

    page = await admin.submit(page, "/approve", version=version)

    assert "Pending" in text_of(page)


async def test_a_company_gets_a_new_status_link(admin, someone, register, path_of):
    candidate = await register()
    page = await admin.open(f"{path_of(candidate)}/status-link")
    assert (await someone.open(candidate["status_url"])).status_code == 200

    page = await admin.submit(page, "/status-link")

    [link] = re.findall(r"<code>http://[^/<]+(/applications/[^<]+)</code>", page.text)
    assert candidate["company_name"] in (await someone.open(link)).text
    assert (await someone.open(candidate["status_url"])).status_code == 404


@pytest.mark.parametrize("address", ["/admin/candidates/0b8f3c52-94b1-4c43-9f0e-6a1f5f2d7c11", "/admin/nothing"])
async def test_an_unknown_candidate_is_an_error_page(admin, address):
    page = await admin.open(address)

    assert page.status_code == 404
    assert "Page not found" in text_of(page)


async def test_next_cycles_through_pending_candidates(admin, register, database):
    decided, first, second = [await register() for _ in range(3)]
    for candidate, years in ((decided, 91), (first, 90)):
        await database.execute(
            "UPDATE candidates SET created_at = created_at - $2 * interval '1 year' WHERE id = $1::text::uuid",
            *(candidate["candidate_id"], years),
        )
    await database.execute("UPDATE candidates SET status = 'rejected' WHERE company_name = $1", decided["company_name"])

    page = await admin.open("/admin/next")
    assert page.url.path.endswith(first["candidate_id"])
    page = await admin.open(f"/admin/next?after={second['candidate_id']}")
    assert page.url.path.endswith(first["candidate_id"])


async def test_behind_a_gateway_that_ends_tls_the_new_address_is_that_of_public_url(
    settings, accounts, register, path_of
):
    candidate = await register()
    public = settings.model_copy(update={"public_url": "https://supply.example"})
    async with (
        serve_in_background(create_app(public)) as url,
        httpx.AsyncClient(base_url=url, timeout=30) as client,
    ):
        person = Person(client)
        await person.sign_in(accounts[Role.ADMIN])
        page = await person.open(f"{path_of(candidate)}/status-link")
        page = await person.submit(page, "/status-link")

    assert re.search(r"https://supply\.example/applications/[\w-]{43}<", page.text)
