"""Several candidates in the console: exported as files, decided with one form."""

from __future__ import annotations

import asyncio
import csv
import io
from uuid import uuid4

import httpx
import pytest

from provider_registration.candidates import browsing
from provider_registration.console import candidates as list_page
from tests.chromium import text_of

from .conftest import form_of


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


def marks_of_all(candidates):
    return {"mark": [f"{one['candidate_id']}:{one['version']}" for one in candidates]}


async def job_page(person, page):
    """The page of a job, opened again until it is done."""
    for _ in range(100):
        if "data-unfinished" not in page.text:
            return page
        await asyncio.sleep(0.1)
        page = await person.open(page.url.path)
    raise AssertionError(text_of(page))


async def test_selected_candidates_are_confirmed_and_each_has_a_result(admin, register, mark):
    candidates = [await register() for _ in range(3)]
    page = await mark("approve", *candidates)
    assert "Approve these 3 candidates?" in text_of(page)
    assert all(one["company_name"] in page.text for one in candidates)
    faster = await admin.open(f"/admin/candidates/{candidates[1]['candidate_id']}/reject")
    await admin.submit(faster, "/reject", choice="none")

    page = await admin.submit(page, "/marked/approve", **marks_of(page))

    assert page.url.path.startswith("/admin/jobs/")
    shown = text_of(await job_page(admin, page))
    assert "3 of 3 done" in shown
    for candidate in candidates:
        result = "Was changed or decided after" if candidate is candidates[1] else "Approved"
        assert f"{candidate['company_name']} {result}" in shown


async def test_selected_candidates_are_rejected_for_one_reason(admin, register, mark, database):
    candidates = [await register() for _ in range(2)]
    page = await mark("reject", *candidates)

    page = await admin.submit(page, "/marked/reject", **marks_of(page))
    assert "There is a problem" in text_of(page)
    assert all(one["company_name"] in page.text for one in candidates)
    page = await admin.submit(page, "/marked/reject", choice="own", reason="Zu weit", **marks_of(page))

    assert "2 of 2 done" in text_of(await job_page(admin, page))
    ids = [one["candidate_id"] for one in candidates]
    reasons = await database.fetch("SELECT rejection_reason FROM candidates WHERE id::text = ANY($1)", ids)
    assert [reason for (reason,) in reasons] == ["Zu weit", "Zu weit"]


async def test_a_form_that_is_sent_twice_makes_one_job(admin, register, mark, database):
    page = await mark("reject", await register(), await register())
    url, form = form_of(page, "/marked/reject", choice="none", **marks_of(page))

    first, second = await admin.send(url, form), await admin.send(url, form)

    assert first.headers["Location"] == second.headers["Location"]
    job_id = first.headers["Location"].rpartition("/")[2]
    assert await database.fetchval("SELECT done FROM jobs WHERE id::text = $1", job_id) == 2


async def test_all_that_match_are_decided_in_a_job_of_its_own(admin, auditor, register, word, database):
    candidates = [await register(company_name=f"{word} {number}") for number in range(7)]
    page = await admin.open(f"/admin/candidates?search={word}")
    assert "All 7 that match" not in text_of(page)  # each can be selected on this page
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(list_page, "PAGE_SIZE", 3)
        page = await admin.open(f"/admin/candidates?search={word}")
    assert "All 7 that match" in text_of(page)
    page = await admin.submit(page, "/marked", decision="all-reject")
    assert "Reject all 7 candidates?" in text_of(page)
    assert "and 2 more" in text_of(page)
    later = await register(company_name=f"{word} later")  # which nobody has seen

    page = await admin.submit(page, "/marked/reject", choice="own", reason="")
    assert "There is a problem" in text_of(page)
    page = await admin.submit(page, "/marked/reject", choice="own", reason="Zu weit")

    page = await job_page(admin, page)
    assert "7 of 7 done" in text_of(page)
    rows = await database.fetch("SELECT status FROM candidates WHERE company_name LIKE $1", f"{word}%")
    assert sorted(status for (status,) in rows) == ["pending", *["rejected"] * 7]
    assert later["company_name"] not in page.text
    listed = text_of(await auditor.open("/admin/jobs"))
    assert f"Reject 7 candidates Done 7 of 7 {admin.email}" in listed
    exports = "SELECT count(*) FROM audit_events WHERE type = 'candidates.exported'"
    before = await database.fetchval(exports)
    assert (await auditor.ask("HEAD", f"{page.url.path}/results.csv")).status_code == 200
    assert await database.fetchval(exports) == before
    results = rows_of(await auditor.open(f"{page.url.path}/results.csv"))
    assert await database.fetchval(exports) == before + 1
    assert [(row["company_name"], row["status"]) for row in results] == [
        (one["company_name"], "rejected") for one in candidates
    ]


async def test_a_job_is_left_watched_and_stopped(admin, auditor, register, mark, billing, database, shared_billing_url):
    candidates = [await register() for _ in range(12)]
    async with httpx.AsyncClient(base_url=shared_billing_url) as sandbox:
        await sandbox.put("/sandbox/settings", json={"honour_idempotency_key": True, "latency_ms": 1500})
        page = await admin.submit(await mark("approve", *candidates), "/marked/approve", **marks_of_all(candidates))
    watched = await auditor.open(page.url.path)
    assert 'http-equiv="refresh"' in watched.text
    assert "/cancel" not in watched.text
    page = await admin.submit(await admin.open(page.url.path), "/cancel")

    while await database.fetchval("SELECT due_at FROM jobs ORDER BY created_at DESC LIMIT 1"):
        await asyncio.sleep(0.1)
    page = await admin.open(page.url.path)
    shown = text_of(page)
    assert "Stopped" in shown
    assert "Not started" in shown
    assert 'http-equiv="refresh"' not in page.text
    assert "/cancel" not in page.text


async def test_no_selection_and_a_broken_one_decide_nothing(admin, database):
    before = await database.fetchval("SELECT count(*) FROM jobs")
    some = ("", "{", "[]", "[" * 1999, '{"colour": "red"}', f'{{"words": "{"x" * 101}"}}', '{"words": "nobody"}')
    for selection in (*some, f'{{"status": "pending"{" " * 2000}}}'):
        response = await admin.send("/admin/candidates/marked/reject", {"selection": selection, "choice": "none"})
        assert response.headers["Location"].partition("?")[0] == "/admin/candidates"
    assert await database.fetchval("SELECT count(*) FROM jobs") == before


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

    assert "Was changed or decided after you selected it" in text_of(await job_page(admin, page))


async def test_a_viewer_cannot_select(admin, viewer, register):
    candidate = await register()
    page = await viewer.open("/admin/candidates?order=newest")
    assert 'name="mark"' not in page.text
    marks = {"mark": [f"{candidate['candidate_id']}:1"], "choice": "none"}

    for what in ("", "/approve", "/reject"):
        assert (await viewer.send(f"/admin/candidates/marked{what}", marks)).status_code == 403
