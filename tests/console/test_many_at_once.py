"""Several candidates in the console: exported as files, decided with one form."""

from __future__ import annotations

import csv
import io
from uuid import uuid4

import pytest

from provider_registration.candidates import browsing
from provider_registration.console import bulk
from tests.chromium import text_of


@pytest.fixture
def word():
    return "w" + uuid4().hex[:10]


def rows_of(response):
    return list(csv.DictReader(io.StringIO(response.content.decode("utf-8-sig"))))


async def test_a_csv_has_every_candidate_of_the_list(viewer, register, word, monkeypatch):
    monkeypatch.setattr(browsing, "MAX_PAGE", 2)
    names = [f'{word}, Obst & "Gemüse" {number}' for number in range(5)]
    for name in names:
        await register(company_name=name)
    await register()

    response = await viewer.open(f"/admin/candidates/export.csv?search={word}")

    assert response.headers["Content-Type"] == "text/csv; charset=utf-8"
    assert response.headers["Content-Disposition"].startswith('attachment; filename="candidates-pending-20')
    assert [row["company_name"] for row in rows_of(response)] == names
    assert rows_of(response)[0]["products"] == "apples grapes"
    assert rows_of(response)[0]["truck_count"] == "7"


async def test_a_json_export_is_whole_however_many_pages_it_takes(viewer, register, word, monkeypatch):
    monkeypatch.setattr(browsing, "MAX_PAGE", 2)
    everybody = [await register() for _ in range(5)]

    found = (await viewer.open("/admin/candidates/export.json?status=all&order=newest")).json()

    assert [one["candidate_id"] for one in found[:5]] == [one["candidate_id"] for one in reversed(everybody)]
    assert {name: found[0][name] for name in ("company_name", "products", "decided_at")} == {
        "company_name": everybody[-1]["company_name"],
        "products": ["apples", "grapes"],
        "decided_at": None,
    }
    assert (await viewer.open(f"/admin/candidates/export.json?search={word}")).json() == []


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\uff1d", "\uff20"])
async def test_nothing_in_a_csv_is_a_formula(viewer, register, word, start):
    await register(company_name=f"{start}HYPERLINK({word})", location=f"{start}1+1")

    [row] = rows_of(await viewer.open(f"/admin/candidates/export.csv?search={word}"))

    assert row["company_name"] == f"'{start}HYPERLINK({word})"
    assert row["location"] == f"'{start}1+1"
    assert row["phone"] == "'+49 221 5550 100"


async def test_an_export_is_for_staff(someone):
    assert (await someone.ask("GET", "/admin/candidates/export.csv")).status_code == 303


@pytest.fixture
def mark(admin):
    """Selects candidates in the list, and opens the form to decide them."""

    async def mark(decision, *candidates):
        page = await admin.open("/admin/candidates?order=newest")
        marks = [f"{one['candidate_id']}:{one['version']}" for one in candidates]
        assert all(f'value="{one}"' in page.text for one in marks)
        return await admin.submit(page, "/marked", mark=marks, decision=decision)

    return mark


def marks_of(page):
    return {"mark": [value.split('"')[0] for value in page.text.split('name="mark" value="')[1:]]}


async def test_selected_candidates_are_confirmed_and_each_has_a_result(admin, register, mark):
    candidates = [await register() for _ in range(3)]
    page = await mark("approve", *candidates)
    assert "Approve these 3 candidates?" in text_of(page)
    assert all(one["company_name"] in page.text for one in candidates)
    faster = await admin.open(f"/admin/candidates/{candidates[1]['candidate_id']}/reject")
    await admin.submit(faster, "/reject", choice="none")

    page = await admin.submit(page, "/marked/approve", **marks_of(page))

    shown = text_of(page)
    assert "2 of 3 decided" in shown
    assert f"{candidates[0]['company_name']} was approved as provider" in shown
    assert f"{candidates[1]['company_name']}: {admin.email} rejected it" in shown
    assert f"{candidates[2]['company_name']} was approved as provider" in shown


async def test_selected_candidates_are_rejected_for_one_reason(admin, register, mark, database):
    candidates = [await register() for _ in range(2)]
    page = await mark("reject", *candidates)

    page = await admin.submit(page, "/marked/reject", **marks_of(page))
    assert "There is a problem" in text_of(page)
    assert all(one["company_name"] in page.text for one in candidates)
    page = await admin.submit(page, "/marked/reject", choice="own", reason="Zu weit", **marks_of(page))

    assert "2 of 2 decided" in text_of(page)
    ids = [one["candidate_id"] for one in candidates]
    reasons = await database.fetch("SELECT rejection_reason FROM candidates WHERE id::text = ANY($1)", ids)
    assert [reason for (reason,) in reasons] == ["Zu weit", "Zu weit"]


async def test_what_there_is_no_time_for_stays_as_it_is(admin, register, mark, monkeypatch):
    candidates = [await register() for _ in range(2)]
    page = await mark("approve", *candidates)
    monkeypatch.setattr(bulk, "SECONDS", -1.0)

    page = await admin.submit(page, "/marked/approve", **marks_of(page))

    assert "0 of 2 decided" in text_of(page)
    assert text_of(page).count("Not processed in time. Nothing changed") == 2


@pytest.mark.parametrize("marks", [[], ["x"], ["0b8f3c52-94b1-4c43-9f0e-6a1f5f2d7c11:1"], [":"]])
async def test_an_empty_selection_redirects_to_the_list(admin, register, marks):
    await register()  # without a candidate there is nothing to select
    page = await admin.submit(
        await admin.open("/admin/candidates?order=newest"), "/marked", mark=marks, decision="approve"
    )

    assert page.url.path == "/admin/candidates"
    assert "Select at least one candidate first." in text_of(page)


async def test_a_version_that_no_candidate_has_decides_nothing(admin, register, mark):
    candidate = await register()
    page = await mark("approve", candidate)

    page = await admin.submit(page, "/marked/approve", mark=[f"{candidate['candidate_id']}:{'9' * 40}"])

    assert "0 of 1 decided" in text_of(page)


async def test_a_viewer_cannot_select(admin, viewer, register):
    candidate = await register()
    page = await viewer.open("/admin/candidates?order=newest")
    assert 'name="mark"' not in page.text
    marks = {"mark": [f"{candidate['candidate_id']}:1"], "choice": "none"}

    for what in ("", "/approve", "/reject"):
        assert (await viewer.send(f"/admin/candidates/marked{what}", marks)).status_code == 403
