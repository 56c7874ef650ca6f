"""`provider-registration candidates`: over the API of a running service, with API keys."""

from __future__ import annotations

import json
import socket
from contextlib import asynccontextmanager
from functools import partial

import pytest
from starlette.applications import Starlette
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Route

from provider_registration.auth.models import Role
from provider_registration.local.background_server import serve_in_background

UNKNOWN = "00000000-0000-4000-8000-000000000000"


@pytest.fixture
def run(call):
    """Runs a subcommand of `candidates` as an admin; the result has its output and exit code."""
    return partial(call, "candidates")


async def test_it_lists_the_newest_across_pages(run, register):
    names = [(await register(products=["mangoes"]))["company_name"] for _ in range(3)]

    listed = await run("list", "--limit", "3", "--status", "pending", "--filter", "product=mangoes")
    as_json = json.loads((await run("list", "--limit", "150", "--product", "mangoes", "--json")).stdout)

    assert listed.exit_code == 0
    assert [line.rpartition("  ")[2] for line in listed.stdout.splitlines()] == names[::-1]
    assert [one["company_name"] for one in as_json][:3] == names[::-1]


async def test_it_shows_the_whole_record(run, register):
    candidate = await register()

    shown = await run("show", candidate["candidate_id"])
    as_json = await run("show", candidate["candidate_id"], "--json", role=Role.VIEWER)

    assert json.loads(as_json.stdout) == candidate
    assert candidate["company_name"] in shown.stdout
    assert "rejection_reason" not in shown.stdout


async def test_approving_asks_first_and_decides_on_what_was_shown(run, register, billing):
    candidate = await register()

    refused = await run("approve", candidate["candidate_id"], stdin="n\n")
    approved = await run("approve", candidate["candidate_id"], stdin="y\n")

    assert refused.exit_code == 1
    assert candidate["company_name"] in refused.stderr
    [provider] = await billing.providers(candidate["company_name"])
    assert approved.stdout == f"Approved; the provider in billing is {provider['id']}.\n"


async def test_with_json_only_the_answer_is_on_standard_output(run, register):
    candidate = await register()

    result = await run("approve", candidate["candidate_id"], "--json", stdin="y\n")

    assert json.loads(result.stdout)["status"] == "approved"


async def test_rejecting_takes_a_reason(run, register, admin):
    candidate = await register()

    result = await run("reject", candidate["candidate_id"], "--reason", "No cold chain", "--no-notify", "--yes")

    assert (result.exit_code, result.stdout) == (0, "Rejected.\n")
    record = (await admin.get(f"/candidates/{candidate['candidate_id']}")).json()
    assert (record["status"], record["rejection_reason"]) == ("rejected", "No cold chain")


async def test_a_refusal_is_the_problem_in_a_sentence(run, register):
    candidate = await register()
    identity = candidate["candidate_id"]

    results = {
        "Candidate not found: ": await run("show", UNKNOWN),
        "Role not allowed: ": await run("reject", identity, "--yes", role=Role.VIEWER),
        "Not authenticated: ": await run("list", PROVIDER_REGISTRATION_API_KEY="prk_wrong"),
        "Version mismatch: ": await run("approve", identity, "--yes", "--if-match", "7"),
        "Invalid request: ": await run("list", "--filter", "colour=red"),
    }

    for beginning, result in results.items():
        assert (result.exit_code, result.stdout) == (1, "")
        assert result.stderr.startswith(f"Error: {beginning}")
    assert "colour: Unknown field or parameter" in results["Invalid request: "].stderr


async def test_the_key_can_be_in_a_file_and_be_an_access_token(run, keys, tokens, tmp_path):
    file = tmp_path / "key"
    for key in (keys[Role.VIEWER], tokens[Role.VIEWER]):
        file.write_text(f"{key}\n")

        result = await run("--api-key-file", str(file), "list", PROVIDER_REGISTRATION_API_KEY="")

        assert result.exit_code == 0


async def test_the_key_that_decided_is_named_in_the_history(run, register, admin):
    candidate = await register()

    await run("reject", candidate["candidate_id"], "--yes")

    [event, *_] = (await admin.get(f"/candidates/{candidate['candidate_id']}/events")).json()["events"]
    actor = event["actor"]
    assert (event["type"], actor["kind"], actor["name"]) == ("candidate.rejected", "api_key", "Reviews")


@pytest.mark.parametrize(
    ("arguments", "environment"),
    [
        (["list"], {"PROVIDER_REGISTRATION_URL": ""}),
        (["list"], {"PROVIDER_REGISTRATION_URL": "supply.example"}),
        (["list"], {"PROVIDER_REGISTRATION_URL": "http://[::1"}),
        (["list"], {"PROVIDER_REGISTRATION_API_KEY": ""}),
        (["list"], {"PROVIDER_REGISTRATION_API_KEY": "a b"}),
        (["list", "--filter", "colour"], {}),
        (["list", "--limit", "0"], {}),
        (["show", "not-an-id"], {}),
    ],
)
async def test_wrong_usage_has_a_code_of_its_own(run, arguments, environment):
    result = await run(*arguments, **environment)

    assert result.exit_code == 2


@pytest.mark.parametrize("command", ["list", "show", "approve", "reject"])
async def test_help_needs_neither_url_nor_key(run, command):
    result = await run(command, "--help", PROVIDER_REGISTRATION_URL="", PROVIDER_REGISTRATION_API_KEY="")

    assert result.exit_code == 0


@pytest.mark.usefixtures("_patient")
async def test_a_service_that_does_not_respond_has_a_code_of_its_own(run):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://user:hunter2@127.0.0.1:{listener.getsockname()[1]}"

    result = await run("list", PROVIDER_REGISTRATION_URL=url)

    assert result.exit_code == 3
    assert "hunter2" not in result.stderr


CANDIDATE = {"candidate_id": UNKNOWN, "status": "pending", "company_name": "Obst \x1b[2J", "version": 1}
PROBLEM = {
    "title": "Billing paused",
    "detail": "Later.",
    "type": "urn:problem-type:provider-registration:billing-paused",
}


@asynccontextmanager
async def answering(*answers):
    """A service that gives these answers to decisions, one after another; yields its URL and the keys that came."""
    keys, left = [], list(answers)

    async def show(_request):
        return JSONResponse(CANDIDATE, headers={"ETag": '"1"'})

    async def decide(request):
        keys.append((request.headers["Idempotency-Key"], request.headers["If-Match"]))
        return left.pop(0)

    routes = [Route("/candidates/{id}", show), Route("/candidates/{id}/approve", decide, methods=["POST"])]
    async with serve_in_background(Starlette(routes=routes)) as url:
        yield url, keys


@pytest.mark.usefixtures("_patient")
async def test_what_was_not_carried_out_is_repeated_with_the_same_key(run):
    later = JSONResponse(PROBLEM, 503, {"Retry-After": "5"})
    done = JSONResponse({"provider_id": 7})
    async with answering(later, later, done) as (url, keys):
        result = await run("approve", UNKNOWN, "--yes", PROVIDER_REGISTRATION_URL=url)

    assert (result.exit_code, len(keys), len(set(keys))) == (0, 3, 1)
    assert 16 <= len(keys[0][0]) <= 255
    assert keys[0][1] == '"1"'


@pytest.mark.usefixtures("_patient")
async def test_what_may_have_been_carried_out_is_left_to_the_user_with_the_key(run):
    uncertain = PROBLEM | {"type": "urn:problem-type:provider-registration:database-unavailable"}
    async with answering(JSONResponse(uncertain, 503), PlainTextResponse("\x1b[2J oops", 502)) as (url, keys):
        refused = await run("approve", UNKNOWN, "--yes", PROVIDER_REGISTRATION_URL=url)
        lost = await run("approve", UNKNOWN, "--yes", "--idempotency-key", "k" * 16, PROVIDER_REGISTRATION_URL=url)

    assert (refused.exit_code, lost.exit_code) == (1, 3)
    assert keys[1][0] == "k" * 16
    assert f"--idempotency-key {'k' * 16}" in lost.stderr
    assert "\x1b" not in lost.stderr


async def test_text_from_the_service_does_not_control_the_terminal(run):
    async with answering() as (url, _):
        result = await run("show", UNKNOWN, PROVIDER_REGISTRATION_URL=url)

    assert result.exit_code == 0
    assert "\x1b" not in result.stdout
    assert "Obst \N{REPLACEMENT CHARACTER}[2J" in result.stdout  # click removes whole sequences if it is no terminal
