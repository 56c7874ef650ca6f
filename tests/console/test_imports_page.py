"""The pages for imports work without scripts: send a file, choose columns, check, register, correct."""

from __future__ import annotations

import asyncio
import re

import pytest

from tests.imports.files import a_row, as_csv

pytestmark = pytest.mark.usefixtures("no_candidates", "no_imports")


async def sent(admin, content, name="suppliers.csv"):
    """Send a file with the form; return the response."""
    return await admin.ask("POST", "/admin/imports", files={"file": (name, content, "application/vnd.ms-excel")})


async def shows(admin, path, text):
    async with asyncio.timeout(30):
        while text not in (page := await admin.open(path)).text:
            await asyncio.sleep(0.1)
    return page


async def test_a_file_is_sent_checked_registered_and_corrected(admin):
    rows = [a_row(), a_row(truck_count="<many>")]
    path = (await sent(admin, as_csv(rows))).headers["Location"]
    page = await admin.open(path)
    assert rows[0][0] in page.text
    assert re.search(r'<option value="E-mail" selected>', page.text)
    columns = dict(re.findall(r'<select id="(\w+)".*?<option value="([^"]+)" selected>', page.text, re.DOTALL))
    assert columns["truck_count"] == "Trucks"

    await admin.send(f"{path}/start", {**columns, "action": "check"})
    page = await shows(admin, path, "Checked")
    assert "Would be registered" in page.text
    assert "<bdi>Trucks</bdi>: Input should be" in page.text

    await admin.send(f"{path}/start", {**columns, "action": "register"})
    page = await shows(admin, path, "Imported")
    assert "Not valid" in page.text
    failed = (await admin.open(f"{path}/failed.csv")).text
    assert "<many>" in failed
    again = (await sent(admin, failed.replace("<many>", "3").encode())).headers["Location"]
    await admin.send(f"{again}/start", {**columns, "action": "register"})
    await shows(admin, again, "Imported")
    assert rows[1][0] in (await admin.open("/admin/candidates")).text

    await admin.send(f"{path}/delete", {})
    assert (await admin.ask("GET", path)).status_code == 404
    assert path not in (await admin.open("/admin/imports")).text


async def test_a_column_that_is_missing_is_named_and_the_choice_is_kept(admin):
    path = (await sent(admin, as_csv([["a", "b"]], headings=["Firma", "Mail"]))).headers["Location"]
    page = await admin.send(f"{path}/start", {"company_name": "Firma", "action": "register"})
    assert page.status_code == 422
    for field in ("E-mail: ", "Products: ", "Trucks: "):
        assert field in page.text
    assert '<option value="Firma" selected>' in page.text


async def test_a_file_that_cannot_be_read_is_explained(admin):
    for content, why in ((b"", "no rows"), (b"\xd0\xcf\x11\xe0 old", "Save it as .xlsx")):
        page = await sent(admin, content)
        assert page.status_code == 422
        assert "There is a problem" in page.text
        assert why in page.text


async def test_a_large_file_is_read_as_it_arrives(admin):
    content = as_csv([a_row(location="x" * 200) for _ in range(5000)])
    assert len(content) > 1_000_000
    path = (await sent(admin, content)).headers["Location"]
    assert "Import of 5,000 rows" in (await admin.open(path)).text


async def test_a_form_without_a_file_is_refused(admin):
    response = await admin.ask(
        "POST", "/admin/imports", content=b"--x\r\nno end", headers={"Content-Type": "multipart/form-data; boundary=x"}
    )
    assert response.status_code == 422
    response = await admin.ask("POST", "/admin/imports", data={"file": "x"})
    assert response.status_code == 415
