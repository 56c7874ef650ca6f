"""Companies of a file are registered as by the API, each once, and what is wrong is said by row and field."""

from __future__ import annotations

import csv
import io
from uuid import uuid4

import pytest

from provider_registration.candidates.company import EXAMPLE
from provider_registration.imports.limits import ROWS_IN_PART

from .files import HEADINGS, a_row, as_csv, as_xlsx

pytestmark = pytest.mark.usefixtures("no_candidates")


async def test_a_file_is_read_before_anything_is_registered(send, admin):
    rows = [a_row(), a_row()]
    response = await send(as_csv(rows))
    assert response.status_code == 201
    sent = response.json()
    assert response.headers["Location"] == f"/imports/{sent['import_id']}"
    assert (sent["state"], sent["format"], sent["rows"], sent["done"]) == ("ready", "csv", 2, 0)
    assert sent["columns"] == list(HEADINGS)
    assert sent["mapping"] == {
        "company_name": "Company",
        "contact_email": "E-mail",
        "phone": "Phone",
        "products": "Products",
        "truck_count": "Trucks",
        "capacity_tons_per_day": "Capacity",
        "location": "Location",
    }
    assert sent["sample"] == [list(map(str, row)) for row in rows]
    assert (await admin.get("/candidates")).json()["pagination"]["total"] == 0
    assert sent == (await admin.get(f"/imports/{sent['import_id']}")).json()


@pytest.mark.parametrize("kind", ["csv", "xlsx"])
async def test_every_row_becomes_the_candidate_that_the_api_would_register(run, admin, kind):
    row = a_row(products="oranges, grapes", phone=34963555017)
    done = await run(as_csv([row]) if kind == "csv" else as_xlsx([row]))
    assert done["state"] == "imported"
    assert done["counts"] == {"valid": 0, "invalid": 0, "registered": 1, "already_registered": 0, "erased": 0}
    [candidate] = (await admin.get("/candidates")).json()["candidates"]
    assert {fact: candidate[fact] for fact in EXAMPLE} == {
        **EXAMPLE,
        "company_name": row[0],
        "contact_email": row[1],
        "phone": "34963555017",
        "location": "Valencia, España",
    }
    assert (candidate["status"], candidate["version"]) == ("pending", 1)


async def test_the_history_names_who_imported_and_which_import(run, admin):
    done = await run(as_csv([a_row()]))
    [candidate] = (await admin.get("/candidates")).json()["candidates"]
    [event] = (await admin.get(f"/candidates/{candidate['candidate_id']}/events")).json()["events"]
    assert (event["type"], event["actor"]["name"]) == ("candidate.registered", "admin@example.com")
    assert event["data"] == {"import_id": done["import_id"], "job_id": done["job_id"], "notify": False}


async def test_errors_are_listed_by_row_and_field_and_the_other_rows_are_registered(run, errors_of):
    rows = [
        a_row(),
        a_row(contact_email="nobody"),
        a_row(truck_count=0, company_name=""),
        a_row(products="milk, oranges"),
    ]
    done = await run(as_csv(rows))
    assert done["counts"] | {"registered": 1, "invalid": 3} == done["counts"]
    errors = await errors_of(done["import_id"])
    found = [
        (each["row"], each["outcome"], error["field"], error["column"], error["code"])
        for each in errors
        for error in each["errors"]
    ]
    assert found == [
        (3, "invalid", "contact_email", "E-mail", "invalid"),
        (4, "invalid", "company_name", "Company", "missing"),
        (4, "invalid", "truck_count", "Trucks", "invalid"),
        (5, "invalid", "products", "Products", "invalid"),
    ]
    assert "milk" not in str(errors)


async def test_failed_rows_can_be_corrected_and_sent_again_until_none_is_left(run, admin):
    formula = a_row(company_name="=Fruit & Co", truck_count="many")
    first = await run(as_csv([a_row(), formula, a_row(contact_email="")]))
    assert first["counts"]["registered"] == 1
    failed = (await admin.get(f"/imports/{first['import_id']}/failed.csv")).content
    rows = list(csv.reader(io.StringIO(failed.decode("utf-8-sig"))))
    assert rows[0] == [*HEADINGS, "Row in the file", "Errors"]
    assert [row[-2] for row in rows[1:]] == ["3", "4"]
    assert "Trucks" in rows[1][-1]
    rows[1][4] = "3"

    second = await run(as_csv(rows[1:], headings=rows[0]))
    assert second["counts"] | {"registered": 1, "invalid": 1} == second["counts"]
    assert (await admin.get("/candidates")).json()["candidates"][0]["company_name"] == "=Fruit & Co"
    again = (await admin.get(f"/imports/{second['import_id']}/failed.csv")).content.decode("utf-8-sig")
    assert next(csv.reader(io.StringIO(again))) == rows[0]


async def test_an_export_of_failed_rows_is_recorded_and_a_look_at_its_headers_is_not(send, admin, auditor):
    path = f"/imports/{(await send(as_csv([a_row()]))).json()['import_id']}/failed.csv"
    before = (await auditor.get("/audit?limit=1")).json()["events"][0]["id"]
    looked = await admin.head(path)
    assert (looked.status_code, looked.content) == (200, b"")
    assert "attachment" in looked.headers["Content-Disposition"]
    assert (await auditor.get("/audit?limit=1")).json()["events"][0]["id"] == before
    await admin.get(path)
    assert (await auditor.get("/audit?limit=1")).json()["events"][0]["type"] == "import.exported"


async def test_the_same_file_again_adds_nothing_and_says_so(run, admin, errors_of):
    content = as_csv([a_row(), a_row()])
    assert (await run(content))["counts"]["registered"] == 2
    again = await run(content)
    assert again["counts"] | {"registered": 0, "already_registered": 2} == again["counts"]
    assert [each["errors"][0]["code"] for each in await errors_of(again["import_id"])] == ["email-taken"] * 2
    assert (await admin.get("/candidates")).json()["pagination"]["total"] == 2


async def test_an_address_twice_in_a_file_is_registered_once_in_any_spelling(run, admin):
    email = f"{uuid4().hex}@huerta.example"
    rows = [a_row(contact_email=email), *(a_row() for _ in range(ROWS_IN_PART)), a_row(contact_email=email.upper())]
    checked = await run(as_csv(rows), dry_run=True)
    assert checked["state"] == "checked"
    assert checked["counts"] | {"valid": ROWS_IN_PART + 1, "already_registered": 1} == checked["counts"]
    assert (await admin.get("/candidates")).json()["pagination"]["total"] == 0
    done = await run(as_csv(rows))
    assert done["counts"] | {"registered": ROWS_IN_PART + 1, "already_registered": 1} == done["counts"]


async def test_a_dry_run_says_what_an_import_would_do_and_changes_nothing(send, ended, admin, register):
    taken = await register()
    rows = [a_row(), a_row(contact_email=taken["contact_email"].upper()), a_row(truck_count="-1")]
    import_id = (await send(as_csv(rows))).json()["import_id"]
    await admin.post(f"/imports/{import_id}/start", json={"dry_run": True})
    checked = await ended(import_id)
    assert (checked["state"], checked["dry_run"]) == ("checked", True)
    assert checked["counts"] | {"valid": 1, "invalid": 1, "already_registered": 1} == checked["counts"]
    assert (await admin.get("/candidates")).json()["pagination"]["total"] == 1

    await admin.post(f"/imports/{import_id}/start", json={})
    done = await ended(import_id)
    assert done["counts"] | {"registered": 1, "invalid": 1, "already_registered": 1} == done["counts"]


async def test_a_wrong_mapping_is_corrected_and_only_the_other_rows_are_worked_on_again(send, ended, admin):
    headings = ("Firma", "Mail", "Ware", "LKW", "Tonnen")
    rows = [[row[0], row[1], row[3], row[4], row[5]] for row in (a_row(), a_row())]
    sent = (await send(as_csv(rows, headings=headings))).json()
    assert sent["mapping"] == {"contact_email": "Mail"}
    url = f"/imports/{sent['import_id']}/start"
    refused = await admin.post(url, json={})
    assert (refused.status_code, refused.json()["type"].rpartition(":")[2]) == (422, "mapping-invalid")
    assert [part.partition(":")[0] for part in refused.json()["detail"].split("; ")] == [
        "company_name",
        "products",
        "truck_count",
        "capacity_tons_per_day",
    ]
    unknown = await admin.post(url, json={"mapping": {"company_name": "Company"}})
    assert unknown.json()["type"].endswith("mapping-invalid")
    assert (await admin.post(url, json={"mapping": {"name": "Firma"}})).status_code == 422

    mapping = {
        "company_name": "Firma",
        "contact_email": "Mail",
        "products": "Ware",
        "truck_count": "Ware",
        "capacity_tons_per_day": "Tonnen",
    }
    assert (await admin.post(url, json={"mapping": mapping})).status_code == 202
    assert (await ended(sent["import_id"]))["counts"]["invalid"] == 2
    assert (await admin.post(url, json={"mapping": mapping | {"truck_count": "LKW"}})).status_code == 202
    done = await ended(sent["import_id"])
    assert done["counts"] | {"registered": 2, "invalid": 0} == done["counts"]
    assert done["mapping"]["truck_count"] == "LKW"


async def test_registered_rows_are_not_kept(run, database):
    done = await run(as_csv([a_row(), a_row(truck_count="x")]))
    rows = await database.fetch(
        "SELECT cells, addresses FROM import_rows WHERE import_id = $1 ORDER BY position", done["import_id"]
    )
    assert [(row["cells"] is None, row["addresses"] == "") for row in rows] == [(True, True), (False, False)]


@pytest.mark.parametrize("state", ["running", "cancelled"])  # while a process works on its rows
async def test_a_running_import_cannot_be_started_or_deleted(send, admin, database, state):
    import_id = (await send(as_csv([a_row() for _ in range(3)]))).json()["import_id"]
    await admin.post(f"/imports/{import_id}/start", json={"dry_run": True})
    await database.execute(
        "UPDATE jobs SET state = $2, due_at = now() + interval '1 minute', claim_id = gen_random_uuid(), "
        "parameters = '{}', ended_at = CASE $2 WHEN 'cancelled' THEN now() END, "
        "cancel_reason = CASE $2 WHEN 'cancelled' THEN 'asked' END "
        "WHERE id = (SELECT job_id FROM imports WHERE id = $1)",
        *(import_id, state),
    )
    for request in (admin.post(f"/imports/{import_id}/start", json={}), admin.delete(f"/imports/{import_id}")):
        response = await request
        assert (response.status_code, response.json()["type"].rpartition(":")[2]) == (409, "import-running")
    await database.execute("DELETE FROM jobs WHERE id = (SELECT job_id FROM imports WHERE id = $1)", import_id)


async def test_a_deleted_import_leaves_its_companies(run, admin, database):
    done = await run(as_csv([a_row(), a_row(truck_count="x")]))
    assert (await admin.delete(f"/imports/{done['import_id']}")).status_code == 204
    assert (await admin.get(f"/imports/{done['import_id']}")).status_code == 404
    assert await database.fetchval("SELECT count(*) FROM import_rows WHERE import_id = $1", done["import_id"]) == 0
    assert (await admin.get("/candidates")).json()["pagination"]["total"] == 1


async def test_a_repeated_request_with_its_key_returns_the_same_import(send, admin):
    content, key = as_csv([a_row()]), {"Content-Type": "text/csv", "Idempotency-Key": uuid4().hex}
    first, again = await send(content, headers=key), await send(content, headers=key)
    assert (first.status_code, again.status_code) == (201, 201)
    assert first.json()["import_id"] == again.json()["import_id"]
    assert again.headers["Idempotency-Replayed"] == "true"
    other = await send(as_csv([a_row()]), headers=key)
    assert other.json()["type"].endswith("idempotency-key-reused")
    listed = (await admin.get("/imports?limit=1")).json()["imports"]
    assert [each["import_id"] for each in listed] == [first.json()["import_id"]]


@pytest.mark.parametrize("what", ["imports", "errors"])
async def test_lists_can_be_followed_by_link(send, ended, admin, what):
    if what == "imports":
        for _ in range(3):
            await send(as_csv([a_row()]))
        path = "/imports"
    else:
        import_id = (await send(as_csv([a_row(truck_count=0) for _ in range(3)]))).json()["import_id"]
        await admin.post(f"/imports/{import_id}/start", json={"dry_run": True})
        await ended(import_id)
        path = f"/imports/{import_id}/errors"
    whole = (await admin.get(f"{path}?limit=100")).json()[what]
    assert len(whole) >= 3

    seen, link = [], f"{path}?limit=2"
    while link and len(seen) <= len(whole):
        page = await admin.get(link)
        seen += page.json()[what]
        assert page.links["first"]["url"] == f"{path}?limit=2"
        link = page.links.get("next", {}).get("url")
        assert bool(link) == bool(page.json()["pagination"]["next_cursor"])

    assert seen == whole


async def test_a_repeated_request_does_not_bring_a_deleted_import_back(send, admin):
    content, key = as_csv([a_row()]), {"Content-Type": "text/csv", "Idempotency-Key": uuid4().hex}
    first = await send(content, headers=key)
    await admin.delete(f"/imports/{first.json()['import_id']}")
    again = await send(content, headers=key)
    assert (again.status_code, again.json()["type"].rpartition(":")[2]) == (404, "import-not-found")
