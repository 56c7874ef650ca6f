"""The page of both logs in the console: who, what, whom, when; filters, pages, CSV."""

from __future__ import annotations

import csv
import io
import re
from datetime import timedelta
from uuid import uuid4

import pytest

from provider_registration.auth.models import Role
from provider_registration.console import activity
from tests.chromium import text_of
from tests.service import PASSWORD


@pytest.fixture
async def staff(users, service_url, someone):
    """A new admin who is signed in, and their ID."""
    email = f"{uuid4().hex}@supply.example"
    user_id = await users.create(email, PASSWORD, Role.ADMIN)
    await someone.sign_in(email)
    return user_id, email, someone


@pytest.fixture
async def rejected(staff, register):
    """A company that this admin rejected."""
    candidate = await register(company_name=f"<b>Obst</b> {uuid4().hex}")
    _, _, person = staff
    page = await person.open(f"/admin/candidates/{candidate['candidate_id']}/reject")
    await person.submit(page, "/reject", choice="none")
    return candidate


def rows_of(page):
    """The cells of each row, as text."""
    rows = re.findall(r"<tr>(.*?)</tr>", page.text.partition("<tbody>")[2].partition("</tbody>")[0], re.DOTALL)
    return [
        [re.sub(r"<[^>]+>", "", cell).strip() for cell in re.findall(r"<t[dh].*?</t[dh]>", row, re.DOTALL)]
        for row in rows
    ]


def without_time(row):
    return [*row[:3], *row[4:]]


async def test_it_says_who_did_what_to_whom(auditor, staff, rejected):
    user_id, email, _ = staff

    page = await auditor.open(f"/admin/activity?actor={user_id}")

    [decision, session] = rows_of(page)
    assert (decision[0], decision[2]) == ("Rejected", email)
    assert rejected["candidate_id"] in page.text
    assert rejected["company_name"] not in page.text  # as text, not as markup
    assert decision[1] == rejected["company_name"].replace("<", "&lt;").replace(">", "&gt;")
    assert without_time(session) == ["Signed in", "–", email, "Console"]


async def test_changes_of_users_name_them_and_what_changed(auditor, staff, users):
    _, email, _ = staff
    await users.set_role(email, Role.AUDITOR)

    [change] = [row for row in rows_of(await auditor.open("/admin/activity?type=user.role_changed")) if email in row]

    assert without_time(change) == ["Role changed", email, "Service or command", "Admin → auditor"]


@pytest.mark.parametrize(("first", "last", "is_found"), [(0, 0, True), (-9, 1, True), (1, 9, False), (-9, -1, False)])
async def test_days_are_in_utc_and_both_included(auditor, staff, rejected, database, first, last, is_found):
    user_id, _, _ = staff
    today = (await database.fetchval("SELECT max(at) FROM candidate_events WHERE actor_id = $1", user_id)).date()
    days = {"from": today + timedelta(days=first), "to": today + timedelta(days=last)}

    page = await auditor.open(f"/admin/activity?actor={user_id}&from={days['from']}&to={days['to']}")

    assert (rejected["candidate_id"] in page.text) is is_found
    assert ("No results" in page.text) is not is_found
    assert f'value="{days["from"]}"' in page.text


async def test_pages_follow_one_another_with_the_same_filters(auditor, staff, rejected, monkeypatch):
    user_id, _, _ = staff
    monkeypatch.setattr(activity, "PAGE_SIZE", 1)
    page = await auditor.open(f"/admin/activity?actor={user_id}")
    seen = [rows_of(page)]

    while match := re.search(r'rel="next" href="([^"]+)"', page.text):
        page = await auditor.open(f"/admin/activity{match[1].replace('&amp;', '&')}")
        seen.append(rows_of(page))

    assert [[row[0] for row in rows] for rows in seen] == [["Rejected"], ["Signed in"]]
    assert "First page" in page.text


async def test_the_csv_has_the_same_events_and_is_recorded(auditor, staff, rejected):
    user_id, email, person = staff

    response = await person.open(f"/admin/activity/export.csv?actor={user_id}&type=&from=&to=")

    rows = list(csv.DictReader(io.StringIO(response.text.removeprefix("\ufeff"))))
    assert [row["type"] for row in rows] == ["audit.exported", "candidate.rejected", "session.started"]
    assert {row["actor_name"] for row in rows} == {email}
    [exported, *_] = rows_of(await auditor.open(f"/admin/activity?actor={user_id}"))
    assert without_time(exported) == ["Activity exported", "–", email, "CSV; filtered by actor"]


@pytest.mark.parametrize("kind", ["csv", "xlsx", "json"])
async def test_exports_of_candidates_are_recorded_without_the_words_searched_for(auditor, staff, database, kind):
    user_id, email, person = staff
    await person.open(f"/admin/candidates/export.{kind}?status=all&product=apples&search=maria@example.com")

    [exported, *_] = rows_of(await auditor.open(f"/admin/activity?actor={user_id}"))

    details = f"{kind.upper()}; filtered by search; all; apples"
    assert without_time(exported) == ["Candidates exported", "–", email, details]
    data = await database.fetchval(
        "SELECT data::text FROM audit_events WHERE actor_id = $1 ORDER BY id DESC LIMIT 1", user_id
    )
    assert "maria" not in data


async def test_a_failed_sign_in_names_the_account_and_nobody_as_actor(auditor, staff, someone):
    _, email, _ = staff
    await someone.send("/admin/sign-out", {})
    await someone.submit(await someone.open("/admin/sign-in"), "/sign-in", username=email, password="wrong password")

    rows = rows_of(await auditor.open("/admin/activity?type=session.failed"))

    assert [without_time(row) for row in rows if email in row] == [["Sign-in failed", email, "Unknown", "–"]]


@pytest.mark.parametrize("query", ["actor=x", "type=x", "from=x", "after=x", "to=9999-12-31", "from=0001-01-01", ""])
async def test_any_query_is_answered(auditor, query):
    response = await auditor.ask("GET", f"/admin/activity?{query}")

    assert response.status_code == (422 if query.endswith("=x") else 200)


async def test_viewers_are_not_shown_the_page(viewer):
    assert "/admin/activity" not in (await viewer.open("/admin/candidates")).text
    assert "You do not have permission" in text_of(await viewer.open("/admin/activity"))
