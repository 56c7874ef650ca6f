"""README.md: its first approval runs as written, and its tables are correct."""

from __future__ import annotations

import asyncio
import json
import re
import shlex
import signal
import sys
import tomllib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from provider_registration import cli
from provider_registration.app import create_app
from provider_registration.local.background_server import serve_in_background
from tests.imports.files import HEADINGS, a_row, as_csv
from tests.ports import a_port
from tests.service import a_registration

from .conftest import Billing, Live, Shell, make_settings
from .markdown import ROOT, code, section, without_varying

MARK = "=== end of a block ==="
PACKAGE = ROOT / "src/provider_registration"


@asynccontextmanager
async def _running(database_url: str, folder: Path) -> AsyncIterator[dict[str, str]]:
    """`provider-registration run` while the block runs; its announcement, by label."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "provider_registration", "run"),
        cwd=folder,
        env={"DATABASE_URL": database_url, "APP_PORT": str(a_port()), "PATH": "/usr/bin:/bin"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        announced = {}
        while "Demo data" not in announced:
            line = (await process.stdout.readline()).decode()
            if not line:
                pytest.fail((await process.communicate())[1].decode())
            label, _, value = line.strip().partition("  ")
            announced[label] = value.strip()
        yield announced
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGINT)
        await process.communicate()


async def test_run_says_what_is_shown_and_the_first_approval_runs_as_written(
    empty_database_url: str, tmp_path: Path, shell: Shell
) -> None:
    [announcement] = [block.text for block in section("README.md", "Quick start").blocks if block.language == "text"]
    blocks = section("README.md", "A first approval").blocks
    script = f"\necho {shlex.quote(MARK)}\n".join(block.text for block in blocks if block.language == "bash")
    shown = [block.text for block in blocks if block.language != "bash"]

    async with _running(empty_database_url, tmp_path) as announced:
        assert list(announced) == [line.strip().partition("  ")[0] for line in announcement.splitlines()]
        login = re.fullmatch(r"admin@example\.com with the password (\S+) \(shown only now\)", announced["Sign in"])
        assert login
        for name, value in (("API", announced["API"]), ("BILLING", announced["Billing"]), ("PASSWORD", login[1])):
            script, times = re.subn(rf"(?m)^{name}=.*$", f"{name}={shlex.quote(value)}", script)
            assert times == 1
        finished = await shell(script)

    assert finished.status == 0, finished.errors
    printed = [text.strip() for text in finished.output.split(MARK)]
    assert printed.pop(0) == "", "logging in prints nothing"
    assert [without_varying(text) for text in printed] == [without_varying(text) for text in shown]


def test_tasks_are_those_of_make() -> None:
    [table] = section("README.md", "Tasks").tables
    tasks = re.findall(r"(?m)^([a-z-]+):.*## ", (ROOT / "Makefile").read_text())

    assert [code(row["command"]) for row in table] == ["make", *(f"make {task}" for task in tasks)]


def test_commands_are_those_of_the_command_line() -> None:
    table, _ = section("README.md", "Commands").tables

    assert {code(row["command"]) for row in table} == {f"provider-registration {name}" for name in cli.main.commands}


async def test_the_script_of_commands_over_the_api_runs_as_written(
    live: Live, shell: Shell, commands: str, tmp_path: Path
) -> None:
    [block] = section("README.md", "Commands").blocks
    ids = [(await live.ask("POST", "/candidates", a_registration())).json()["candidate_id"] for _ in range(2)]

    key = (await live.ask("POST", "/api-keys", {"name": "Reviews", "role": "admin"})).json()["key"]
    file = tmp_path / "suppliers.csv"
    file.write_bytes(as_csv([a_row()], headings=["Empresa", *HEADINGS[1:]]))
    variables = live.variables | {"API_KEY": key, "CANDIDATE": ids[0], "OTHER_CANDIDATE": ids[1], "FILE": str(file)}

    finished = await shell(block.text, **variables, PATH=commands)

    assert finished.status == 0, finished.errors
    records = [(await live.ask("GET", f"/candidates/{one}")).json() for one in ids]
    assert [record["status"] for record in records] == ["approved", "rejected"]
    assert finished.output.endswith("Would be registered: 1\nRegistered: 1\n")


def test_the_tree_names_what_is_there() -> None:
    [tree, _] = [block.text.splitlines() for block in section("README.md", "The code").blocks]
    inside = {name for line in tree[1:] if line.startswith("  ") for name in _names(line)}
    beside = {name for line in tree[1:] if not line.startswith("  ") for name in _names(line)}

    assert inside == {
        path.name + "/" * path.is_dir() for path in PACKAGE.iterdir() if not path.name.startswith(("__init__", "__py"))
    }
    assert all((ROOT / name).is_dir() for name in beside)


def _names(line: str) -> list[str]:
    return re.findall(r"[\w]+(?:\.py|/)", line[:25])


def test_the_layers_are_those_that_lint_holds() -> None:
    [_, layers] = [block.text for block in section("README.md", "The code").blocks]
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]

    assert [layer.strip() for layer in layers.split(">")] == contracts[0]["layers"]


def _faults() -> list[tuple[int, str, str, str]]:
    """Of the first table: a response's status and code, the fault that causes it, and what is done before."""
    faults = []
    for row in section("README.md", "Every response").tables[0]:
        status, name = re.match(r"(\d+) `([a-z-]+)`", row["response to `POST …/approve`"]).groups()  # type: ignore[union-attr]
        [fault] = re.findall(r"`(\{\"mode.+?\})`", row["fault"])
        before = re.findall(r"`(curl .+)`", row["fault"])
        faults.append((int(status), name, fault, before[0] if before else ""))
    return faults


@pytest.mark.parametrize(("status", "name", "fault", "before"), _faults(), ids=lambda value: str(value)[:25])
async def test_the_fault_of_each_row_runs_and_gives_its_response(
    status: int, name: str, fault: str, before: str, billing: Billing, database_url: str, tmp_path: Path, shell: Shell
) -> None:
    async with (
        billing.fresh(tmp_path),
        serve_in_background(billing) as billing_url,
        serve_in_background(create_app(make_settings(database_url, billing_url, billing_max_tries=4))) as api,
    ):
        live = await Live(api, billing_url, database_url).logged_in()
        company = a_registration()
        script = before.replace("the company_name", str(company["company_name"]))
        assert (await shell(script, BILLING=billing_url)).status == 0
        await live.tell_sandbox("faults", json.loads(fault))

        async def approve(registration: dict[str, object]) -> httpx.Response:
            candidate = (await live.ask("POST", "/candidates", registration)).json()["candidate_id"]
            first = asyncio.create_task(live.ask("POST", f"/candidates/{candidate}/approve"))
            if "slow" not in fault:
                return await first
            while not (await live.ask("GET", f"/candidates/{candidate}")).json()["approval"]:
                await asyncio.sleep(0.05)
            second = await live.ask("POST", f"/candidates/{candidate}/approve")
            first.cancel()
            return second

        response = await approve(company)
        for _ in range(5 if name == "billing-paused" else 0):
            response = await approve(a_registration())

    assert (response.status_code, response.json()["type"].rpartition(":")[2]) == (status, name)
