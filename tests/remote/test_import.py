"""`provider-registration import`: a file over the API of a running service, with an API key."""

from __future__ import annotations

import asyncio
import csv
import json
import socket
from functools import partial

import pytest
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

from provider_registration.auth.models import Role
from provider_registration.imports.limits import MAX_FILE_BYTES
from provider_registration.local.background_server import serve_in_background
from tests.imports.files import HEADINGS, a_row, as_csv, as_xlsx

DELETE_IMPORTS = "DELETE FROM imports; DELETE FROM jobs"

pytestmark = pytest.mark.usefixtures("no_candidates")


@pytest.fixture
def run(call):
    """Runs the command as an admin."""
    return partial(call, "import")


@pytest.fixture
def file(tmp_path):
    """Writes a file of companies and returns its path."""

    def file(content):
        path = tmp_path / "suppliers"
        path.write_bytes(content)
        return str(path)

    return file


@pytest.fixture(autouse=True)
async def no_imports(database):
    await database.execute(DELETE_IMPORTS)  # also those of tests elsewhere
    yield
    await database.execute(DELETE_IMPORTS)


@pytest.mark.parametrize("write", [as_csv, as_xlsx])
async def test_it_registers_the_companies_and_says_how_many(run, file, admin, write):
    rows = [a_row(), a_row()]
    path = file(write(rows))

    done, again = await run(path), await run(path)

    assert (done.exit_code, done.stdout) == (0, "Registered: 2\n")
    assert (again.exit_code, again.stdout) == (0, "Registered: 0\nAlready registered: 2\n")
    listed = (await admin.get("/candidates")).json()["candidates"]
    assert {each["company_name"] for each in listed} == {row[0] for row in rows}


async def test_rows_that_are_not_valid_are_written_to_a_file_that_can_be_sent_again(run, file, tmp_path):
    failed = tmp_path / "failed.csv"

    done = await run(file(as_csv([a_row(), a_row(truck_count="many")])), "--failed", str(failed))

    assert (done.exit_code, done.stdout) == (1, "Registered: 1\nNot valid: 1\n")
    heading, row = csv.reader(failed.read_text("utf-8-sig").splitlines())
    assert heading[: len(HEADINGS)] == list(HEADINGS)
    assert row[4] == "many"
    failed.write_text(failed.read_text("utf-8-sig").replace("many", "3"))
    assert (await run(str(failed))).stdout == "Registered: 1\n"


async def test_a_dry_run_registers_nothing(run, file, admin):
    done = await run(file(as_csv([a_row(), a_row(truck_count=0)])), "--dry-run")

    assert (done.exit_code, done.stdout) == (1, "Would be registered: 1\nNot valid: 1\n")
    assert (await admin.get("/candidates")).json()["pagination"]["total"] == 0


async def test_json_is_that_of_the_api_and_options_reach_it(run, file, admin):
    content = as_csv(
        [a_row(phone="x" * 80)], headings=("Firma", "E-mail", "Phone", "Products", "LKW", "Capacity", "Ort")
    )
    mapping = ("--mapping", "company_name=Firma", "--mapping", "truck_count=LKW", "--mapping", "phone=")

    result = await run(file(content), *mapping, "--notify", "--json")

    done = json.loads(result.stdout)
    assert done == (await admin.get(f"/imports/{done['import_id']}")).json()
    assert (result.exit_code, done["counts"]["registered"], done["notify"]) == (0, 1, True)
    assert done["mapping"] == {
        "company_name": "Firma",
        "contact_email": "E-mail",
        "products": "Products",
        "truck_count": "LKW",
        "capacity_tons_per_day": "Capacity",
    }


async def test_a_refusal_is_the_problem_in_a_sentence_and_leaves_nothing(run, file, admin):
    path = file(as_csv([a_row()]))
    results = {
        "Role not allowed: ": await run(path, role=Role.VIEWER),
        "Not authenticated: ": await run(path, PROVIDER_REGISTRATION_API_KEY="prk_wrong"),
        "Mapping invalid: ": await run(path, "--mapping", "phone=Telefon"),
        "Invalid request: ": await run(path, "--mapping", "colour=Phone"),
        "File unreadable: ": await run(file(b"Company\r\n")),
    }

    for beginning, result in results.items():
        assert (result.exit_code, result.stdout) == (1, "")
        assert result.stderr.startswith(f"Error: {beginning}")
    assert "--mapping" in results["Mapping invalid: "].stderr
    assert "Company" in results["Mapping invalid: "].stderr  # a column of the file
    assert (await admin.get("/imports")).json()["imports"] == []


@pytest.mark.parametrize(
    ("arguments", "environment"),
    [
        ([], {"PROVIDER_REGISTRATION_URL": ""}),
        ([], {"PROVIDER_REGISTRATION_API_KEY": ""}),
        (["--mapping", "Firma"], {}),
        (["--mapping", "=Firma"], {}),
        (["no-such-file"], {}),
    ],
)
async def test_wrong_usage_has_a_code_of_its_own(run, file, arguments, environment):
    assert (await run(file(b"Company"), *arguments, **environment)).exit_code == 2


async def test_a_file_over_the_limit_is_not_sent(run, file):
    result = await run(file(b"a" * (MAX_FILE_BYTES + 1)))

    assert result.exit_code == 2
    assert "larger than 20 MiB" in result.stderr


@pytest.mark.usefixtures("_patient")
async def test_a_service_that_does_not_respond_has_a_code_of_its_own(run, file):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://user:hunter2@127.0.0.1:{listener.getsockname()[1]}"

    result = await run(file(b"Company"), PROVIDER_REGISTRATION_URL=url)

    assert result.exit_code == 3
    assert "hunter2" not in result.stderr


@pytest.mark.usefixtures("_patient")
async def test_a_service_that_is_lost_meanwhile_leaves_the_import_running(run, file):
    async def respond(request):
        if request.method == "GET":
            return JSONResponse("no problem document", 502)
        return JSONResponse({"import_id": "import-7", "rows": 1, "mapping": {}}, 202)

    routes = [Route("/imports{rest:path}", respond, methods=["GET", "POST"])]
    async with serve_in_background(Starlette(routes=routes)) as url:
        result = await run(file(b"Company"), PROVIDER_REGISTRATION_URL=url)

    assert result.exit_code == 3
    assert "import-7" in result.stderr  # which the operator needs to look at it


@pytest.mark.usefixtures("_patient")
async def test_a_file_that_was_not_taken_is_sent_again(run, file):
    busy = {"title": "Busy", "detail": "Later.", "type": "urn:problem-type:provider-registration:imports-busy"}
    done = {"import_id": "7", "rows": 1, "done": 1, "mapping": {}, "state": "imported", "dry_run": False}
    done["counts"] = dict.fromkeys(("registered", "valid", "already_registered", "erased", "invalid"), 0)
    sent = []

    async def add(request):
        sent.append(await request.body())
        return JSONResponse(busy, 429, {"Retry-After": "10"}) if len(sent) == 1 else JSONResponse(done, 201)

    async def other(_request):
        return JSONResponse(done)

    routes = [Route("/imports", add, methods=["POST"]), Route("/imports/{rest:path}", other, methods=["GET", "POST"])]
    async with serve_in_background(Starlette(routes=routes)) as url:
        result = await run(file(b"Company"), PROVIDER_REGISTRATION_URL=url)

    assert (result.exit_code, sent) == (0, [b"Company"] * 2)


@pytest.mark.usefixtures("_patient")
async def test_a_file_that_may_have_been_taken_is_not_sent_again(run, file):
    begun = []

    async def receive_and_close(reader, writer):
        begun.append(await reader.readuntil(b"\r\n"))
        await reader.readuntil(b"Company")
        writer.close()

    async with await asyncio.start_server(receive_and_close, "127.0.0.1") as server:
        port = server.sockets[0].getsockname()[1]
        result = await run(file(b"Company"), PROVIDER_REGISTRATION_URL=f"http://127.0.0.1:{port}")

    assert (result.exit_code, begun) == (3, [b"POST /imports HTTP/1.1\r\n"])


async def test_help_needs_neither_url_nor_key(run):
    assert (await run("--help", PROVIDER_REGISTRATION_URL="", PROVIDER_REGISTRATION_API_KEY="")).exit_code == 0
