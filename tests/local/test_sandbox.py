"""The billing sandbox over real HTTP."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner, Result
from starlette.applications import Starlette

from provider_registration.cli import main
from provider_registration.local.background_server import serve_in_background
from provider_registration.local.sandbox import create_sandbox


@asynccontextmanager
async def sandbox_client(state_file: Path, *, honour_idempotency_key: bool = True) -> AsyncIterator[httpx.AsyncClient]:
    async with (
        serve_in_background(create_sandbox(state_file, honour_idempotency_key=honour_idempotency_key)) as url,
        httpx.AsyncClient(base_url=url, timeout=10) as client,
    ):
        yield client


@pytest.fixture
def state_file(tmp_path: Path) -> Path:
    return tmp_path / "made on demand" / "billing.sqlite3"


@pytest.fixture
def not_a_state_file(tmp_path: Path) -> Path:
    file = tmp_path / "notes.txt"
    file.write_text("this is no database, and long enough for SQLite to look at it")
    return file


@pytest.fixture
async def sandbox(state_file: Path) -> AsyncIterator[httpx.AsyncClient]:
    async with sandbox_client(state_file) as client:
        yield client


async def create(
    client: httpx.AsyncClient, name: str, key: str | None = None, *, seconds: float = 10
) -> httpx.Response:
    headers = {} if key is None else {"Idempotency-Key": key}
    return await client.post("/provider", json={"name": name}, headers=headers, timeout=seconds)


async def fail(client: httpx.AsyncClient, mode: str, **details: object) -> None:
    response = await client.put("/sandbox/faults", json={"mode": mode, **details})
    assert response.status_code == 200, response.text


async def provider_names(client: httpx.AsyncClient) -> list[str]:
    return [one["name"] for one in (await client.get("/sandbox/providers")).json()["providers"]]


async def test_root_page_says_what_it_is(sandbox: httpx.AsyncClient) -> None:
    about = (await sandbox.get("/")).json()
    assert about["service"] == "billing sandbox"
    assert "fail_500" in about["modes"]
    for endpoint in ("POST /provider", "GET /sandbox/requests", "GET, PUT /sandbox/faults"):
        assert endpoint in about["endpoints"]


async def test_providers_are_numbered_from_one(sandbox: httpx.AsyncClient) -> None:
    first, second = await create(sandbox, "Huerta del Sol"), await create(sandbox, "青果株式会社")
    assert (first.status_code, first.json()) == (201, {"id": 1, "name": "Huerta del Sol"})
    assert (second.status_code, second.json()) == (201, {"id": 2, "name": "青果株式会社"})


async def test_taken_name_is_a_conflict_and_uses_up_no_id(sandbox: httpx.AsyncClient) -> None:
    await create(sandbox, "Huerta")
    again = await create(sandbox, "Huerta", key="another-key")
    assert again.status_code == 409
    assert again.json() == {"detail": "A provider with this name already exists."}
    assert (await create(sandbox, "Granja")).json()["id"] == 2


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"\xff", 400),
        (b"[" * 60_000, 400),
        (b"[]", 422),
        (b"{}", 422),
        (b'{"name": null}', 422),
        (b'{"name": 7}', 422),
        (b'{"name": ""}', 422),
        (b'{"name": "  "}', 422),
        (b'{"name": "a\\u0000b"}', 422),
        (b'{"name": "\\ud800"}', 422),
        (json.dumps({"name": "x" * 256}).encode(), 422),
        (json.dumps({"name": "x" * 70_000}).encode(), 413),
    ],
    ids=lambda value: repr(value)[:30],
)
async def test_bad_body_is_refused_and_creates_nothing(sandbox: httpx.AsyncClient, body: bytes, status: int) -> None:
    refused = await sandbox.post("/provider", content=body)
    assert refused.status_code == status
    assert isinstance(refused.json()["detail"], str)
    assert await provider_names(sandbox) == []
    (received,) = (await sandbox.get("/sandbox/requests")).json()["requests"]
    assert (received["outcome"], received["status"]) == ("bad_request", status)


async def test_repeated_key_gives_the_same_provider(sandbox: httpx.AsyncClient) -> None:
    first, again = await create(sandbox, "Huerta", "k1"), await create(sandbox, "Huerta", "k1")
    assert (again.status_code, again.json()) == (201, first.json())
    assert await provider_names(sandbox) == ["Huerta"]


async def test_key_of_another_provider_is_refused(sandbox: httpx.AsyncClient) -> None:
    await create(sandbox, "Huerta", "k1")
    assert (await create(sandbox, "Granja", "k1")).status_code == 422
    assert await provider_names(sandbox) == ["Huerta"]


async def test_simultaneous_requests_with_one_key_create_one_provider(sandbox: httpx.AsyncClient) -> None:
    answers = await asyncio.gather(*(create(sandbox, "Huerta", "k1") for _ in range(30)))
    assert {answer.status_code for answer in answers} == {201}
    assert {answer.json()["id"] for answer in answers} == {1}


async def test_simultaneous_requests_for_one_name_create_one_provider(sandbox: httpx.AsyncClient) -> None:
    answers = await asyncio.gather(*(create(sandbox, "Huerta", f"k{number}") for number in range(30)))
    assert sorted(answer.status_code for answer in answers) == [201] + [409] * 29


async def test_keys_are_ignored_when_switched_off(state_file: Path) -> None:
    async with sandbox_client(state_file, honour_idempotency_key=False) as client:
        assert (await create(client, "Huerta", "k1")).status_code == 201
        assert (await create(client, "Huerta", "k1")).status_code == 409
        assert (await create(client, "Granja", "k1")).status_code == 201

        switched = await client.put("/sandbox/settings", json={"honour_idempotency_key": True})
        assert switched.json() == {"honour_idempotency_key": True, "latency_ms": 0}
        assert (await create(client, "Finca", "k2")).json() == (await create(client, "Finca", "k2")).json()


async def test_one_setting_leaves_the_other_alone(state_file: Path) -> None:
    async with sandbox_client(state_file, honour_idempotency_key=False) as client:
        await client.put("/sandbox/settings", json={"latency_ms": 200})
        settings = (await client.get("/sandbox/settings")).json()
        assert settings == {"honour_idempotency_key": False, "latency_ms": 200}
        started = time.monotonic()
        await create(client, "Huerta")
        assert time.monotonic() - started >= 0.2


async def test_providers_and_keys_outlast_a_restart(state_file: Path) -> None:
    async with sandbox_client(state_file) as client:
        await create(client, "Huerta", "k1")
    async with sandbox_client(state_file) as client:
        assert (await create(client, "Huerta", "k1")).json() == {"id": 1, "name": "Huerta"}
        assert (await create(client, "Huerta")).status_code == 409
        assert (await create(client, "Granja")).json()["id"] == 2


async def test_received_requests_are_shown_filtered_and_forgotten(sandbox: httpx.AsyncClient) -> None:
    await sandbox.post("/provider", json={"name": "Huerta"}, headers={"Idempotency-Key": "k1", "X-Request-ID": "r1"})
    await create(sandbox, "Huerta", "k1")
    await create(sandbox, "Huerta", "k2")
    await create(sandbox, "Granja")

    shown = (await sandbox.get("/sandbox/requests")).json()
    assert shown["total"] == 4
    first = shown["requests"][0]
    assert first.pop("time").endswith("Z")
    assert first == {
        "name": "Huerta",
        "key": "k1",
        "request_id": "r1",
        "traceparent": None,
        "outcome": "created",
        "fault": None,
        "provider_id": 1,
        "status": 201,
    }
    assert [one["outcome"] for one in shown["requests"]] == ["created", "repeated", "name_taken", "created"]

    assert (await sandbox.get("/sandbox/requests", params={"name": "Huerta"})).json()["total"] == 3
    assert (await sandbox.get("/sandbox/requests", params={"name": "Huerta", "key": "k1"})).json()["total"] == 2

    assert (await sandbox.delete("/sandbox/requests")).status_code == 204
    assert (await sandbox.get("/sandbox/requests")).json() == {"total": 0, "requests": []}
    assert await provider_names(sandbox) == ["Huerta", "Granja"]


async def test_remembered_requests_are_bounded(state_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("provider_registration.local.sandbox.MAX_STORED_REQUESTS", 3)
    async with sandbox_client(state_file) as client:
        for name in "abcde":
            await create(client, name)
        shown = (await client.get("/sandbox/requests")).json()
    assert [one["name"] for one in shown["requests"]] == ["c", "d", "e"]


async def test_providers_are_paged_and_filtered(sandbox: httpx.AsyncClient) -> None:
    for name in "abcde":
        await create(sandbox, name, f"key-{name}")
    page = (await sandbox.get("/sandbox/providers", params={"limit": 2, "offset": 3})).json()
    assert page["total"] == 5
    assert [(one["id"], one["name"], one["idempotency_key"]) for one in page["providers"]] == [
        (4, "d", "key-d"),
        (5, "e", "key-e"),
    ]
    found = (await sandbox.get("/sandbox/providers", params={"name": "b"})).json()
    assert (found["total"], found["providers"][0]["id"]) == (1, 2)
    assert (await sandbox.get("/sandbox/providers", params={"limit": "all"})).status_code == 422


@pytest.mark.parametrize(
    ("mode", "status"), [("fail_500", 500), ("fail_503", 503), ("refuse_400", 400), ("redirect", 307)]
)
async def test_refusing_fault_creates_nothing(sandbox: httpx.AsyncClient, mode: str, status: int) -> None:
    await fail(sandbox, mode, retry_after=7)
    answer = await create(sandbox, "Huerta")
    assert answer.status_code == status
    if status != 307:
        assert answer.headers["Retry-After"] == "7"
    assert await provider_names(sandbox) == []


async def test_fault_holds_for_so_many_requests_and_then_ends(sandbox: httpx.AsyncClient) -> None:
    await fail(sandbox, "fail_503", times=2)
    assert (await create(sandbox, "Huerta")).status_code == 503
    assert (await sandbox.get("/sandbox/faults")).json()["times"] == 1
    assert (await create(sandbox, "Huerta")).status_code == 503
    assert (await sandbox.get("/sandbox/faults")).json()["mode"] == "none"
    assert (await create(sandbox, "Huerta")).status_code == 201


async def test_fault_holds_for_the_named_companies_alone(sandbox: httpx.AsyncClient) -> None:
    await fail(sandbox, "fail_500", times=1, names=["Huerta"])
    assert (await create(sandbox, "Granja")).status_code == 201
    assert (await create(sandbox, "Huerta")).status_code == 500
    assert (await create(sandbox, "Huerta")).status_code == 201


async def test_unknown_fault_is_refused_and_the_old_one_stays(sandbox: httpx.AsyncClient) -> None:
    await fail(sandbox, "fail_500")
    for wrong in ({"mode": "explode"}, {"mode": "hang", "times": 0}, {"mode": "slow", "delay": 999}, {"tims": 3}):
        assert (await sandbox.put("/sandbox/faults", json=wrong)).status_code == 422
    assert (await sandbox.get("/sandbox/faults")).json()["mode"] == "fail_500"


@pytest.mark.parametrize(("mode", "committed"), [("reset", []), ("commit_then_reset", ["Huerta"])])
async def test_reset_closes_the_connection_without_a_response(
    sandbox: httpx.AsyncClient, mode: str, committed: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    await fail(sandbox, mode, times=1)
    with pytest.raises(httpx.ReadError):  # a reset; an orderly close would be a RemoteProtocolError
        await create(sandbox, "Huerta", "k1")
    assert await provider_names(sandbox) == committed
    assert caplog.records == [] or not [one for one in caplog.records if one.levelname == "ERROR"]
    (received,) = (await sandbox.get("/sandbox/requests")).json()["requests"]
    assert (received["fault"], received["status"]) == (mode, None)
    assert (await create(sandbox, "Huerta", "k1")).status_code == 201
    assert await provider_names(sandbox) == ["Huerta"]


@pytest.mark.parametrize(("mode", "committed"), [("hang", []), ("commit_then_hang", ["Huerta"])])
async def test_hanging_fault_never_responds(sandbox: httpx.AsyncClient, mode: str, committed: list[str]) -> None:
    await fail(sandbox, mode, times=1)
    with pytest.raises(httpx.ReadTimeout):
        await create(sandbox, "Huerta", seconds=0.5)
    assert await provider_names(sandbox) == committed


async def test_hanging_ends_with_a_reset_after_its_bound(
    sandbox: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("provider_registration.local.sandbox_faults.MAX_HANG", 0.2)
    await fail(sandbox, "hang")
    with pytest.raises(httpx.ReadError):
        await create(sandbox, "Huerta", seconds=5)


async def test_failure_after_the_commit_leaves_the_provider(sandbox: httpx.AsyncClient) -> None:
    await fail(sandbox, "commit_then_500", times=1, retry_after=0)
    answer = await create(sandbox, "Huerta", "k1")
    assert (answer.status_code, answer.headers["Retry-After"]) == (500, "0")
    assert (await create(sandbox, "Huerta", "k1")).json() == {"id": 1, "name": "Huerta"}


async def test_slow_creates_even_for_a_client_that_left(sandbox: httpx.AsyncClient) -> None:
    await fail(sandbox, "slow", delay=0.5, times=1)
    with pytest.raises(httpx.ReadTimeout):
        await create(sandbox, "Huerta", seconds=0.1)
    assert await provider_names(sandbox) == []
    await asyncio.sleep(1)
    assert await provider_names(sandbox) == ["Huerta"]


async def test_delay_comes_after_the_commit(sandbox: httpx.AsyncClient) -> None:
    await fail(sandbox, "commit_then_500", delay=60)
    with pytest.raises(httpx.ReadTimeout):
        await create(sandbox, "Huerta", seconds=0.3)
    assert await provider_names(sandbox) == ["Huerta"]


async def test_broken_201_is_not_json(sandbox: httpx.AsyncClient) -> None:
    await fail(sandbox, "broken_201", times=1)
    answer = await create(sandbox, "Huerta")
    assert answer.status_code == 201
    with pytest.raises(json.JSONDecodeError):
        answer.json()
    assert await provider_names(sandbox) == ["Huerta"]


async def test_oversize_response_is_valid_but_huge(sandbox: httpx.AsyncClient) -> None:
    await fail(sandbox, "oversize")
    answer = await create(sandbox, "Huerta")
    assert len(answer.content) > 32 * 2**20
    assert (answer.json()["id"], answer.json()["name"]) == (1, "Huerta")


async def test_wrong_name_and_bad_id(sandbox: httpx.AsyncClient) -> None:
    await fail(sandbox, "wrong_name")
    assert (await create(sandbox, "Huerta")).json() == {"id": 1, "name": "not Huerta"}
    await fail(sandbox, "bad_id")
    assert (await create(sandbox, "Granja")).json() == {"id": "not-a-number", "name": "Granja"}
    await fail(sandbox, "bad_id", bad_id=2**40)
    assert (await create(sandbox, "Finca")).json()["id"] == 2**40


async def test_distorting_fault_leaves_a_conflict_as_it_is(sandbox: httpx.AsyncClient) -> None:
    await create(sandbox, "Huerta")
    await fail(sandbox, "broken_201")
    assert (await create(sandbox, "Huerta")).status_code == 409


async def test_server_without_the_reset_extension_refuses_faults(state_file: Path) -> None:
    transport = httpx.ASGITransport(app=create_sandbox(state_file))
    async with httpx.AsyncClient(transport=transport, base_url="http://sandbox") as client:
        assert (await client.put("/sandbox/faults", json={"mode": "reset"})).status_code == 501


async def test_server_stops_promptly_while_a_request_hangs(state_file: Path) -> None:
    async with httpx.AsyncClient(timeout=30) as client:
        async with serve_in_background(create_sandbox(state_file)) as url:
            await client.put(f"{url}/sandbox/faults", json={"mode": "hang"})
            hanging = asyncio.create_task(client.post(f"{url}/provider", json={"name": "Huerta"}))
            await asyncio.sleep(0.2)
            started = time.monotonic()
        assert time.monotonic() - started < 1.5
        with pytest.raises(httpx.RemoteProtocolError):
            await hanging
        with pytest.raises(httpx.ConnectError):
            await client.get(url)


async def test_server_in_the_background_leaves_signal_handlers_alone(state_file: Path) -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    async with sandbox_client(state_file):
        assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


async def test_state_file_serves_one_sandbox_at_a_time(sandbox: httpx.AsyncClient, state_file: Path) -> None:
    await create(sandbox, "Huerta")
    result = await asyncio.to_thread(run_command, "--state-file", str(state_file))
    assert result.exit_code == 1
    assert "database is locked" in result.output


async def test_taken_port_is_an_error(state_file: Path) -> None:
    async with serve_in_background(create_sandbox(state_file)) as url:
        with pytest.raises(OSError, match="in use"):
            async with serve_in_background(Starlette(), port=int(url.rsplit(":", 1)[1])):
                raise AssertionError


async def test_failed_lifespan_is_an_error(not_a_state_file: Path) -> None:
    with pytest.raises(RuntimeError, match="did not start"):
        async with serve_in_background(create_sandbox(not_a_state_file)):
            raise AssertionError


def run_command(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["billing-sandbox", *arguments])


@asynccontextmanager
async def sandbox_process(*arguments: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "error", "-m", "provider_registration", "billing-sandbox", "--port", "0", *arguments),
        stdout=asyncio.subprocess.PIPE,
        env={"PYTHONUNBUFFERED": "1", "PATH": ""},
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(30):
            announcement = (await process.stdout.readline()).decode()
        yield process, announcement.split()[3]
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        await process.stdout.read()


async def test_no_acknowledged_provider_is_lost_when_the_process_is_killed(state_file: Path) -> None:
    answered: dict[str, int] = {}
    enough = asyncio.Event()

    async def keep_creating(url: str, worker: int) -> None:
        async with httpx.AsyncClient(base_url=url) as client:
            for number in range(100_000):
                name = f"Company {worker}.{number}"
                try:
                    answered[name] = (await create(client, name, f"key {name}")).json()["id"]
                except httpx.TransportError:
                    return
                if len(answered) >= 200:
                    enough.set()

    async with sandbox_process("--state-file", str(state_file)) as (process, url):
        working = asyncio.gather(*(keep_creating(url, worker) for worker in range(8)))
        async with asyncio.timeout(30):
            await enough.wait()
        process.kill()
        await working

    async with sandbox_client(state_file) as client:
        for name, provider_id in answered.items():
            again = await create(client, name, f"key {name}")
            assert (again.status_code, again.json()["id"]) == (201, provider_id)


async def test_command_stops_on_sigterm_while_a_request_hangs(state_file: Path) -> None:
    async with (
        sandbox_process("--state-file", str(state_file), "--ignore-idempotency-key") as (process, url),
        httpx.AsyncClient(base_url=url) as client,
    ):
        assert (await client.get("/sandbox/settings")).json()["honour_idempotency_key"] is False
        await fail(client, "commit_then_hang")
        hanging = asyncio.create_task(create(client, "Huerta"))
        await asyncio.sleep(0.2)
        process.terminate()
        async with asyncio.timeout(5):
            await process.wait()
        with pytest.raises(httpx.RemoteProtocolError):
            await hanging


async def test_command_names_a_file_that_is_something_else(not_a_state_file: Path) -> None:
    result = await asyncio.to_thread(run_command, "--state-file", str(not_a_state_file))
    assert result.exit_code == 1
    assert result.output == (
        f"Error: {not_a_state_file} cannot be used as the billing sandbox's state file: file is not a database.\n"
    )


async def test_command_names_a_taken_port(sandbox: httpx.AsyncClient, tmp_path: Path) -> None:
    arguments = ("--port", str(sandbox.base_url.port), "--state-file", str(tmp_path / "another.sqlite3"))
    result = await asyncio.to_thread(run_command, *arguments)
    assert result.exit_code == 1
    assert f"Cannot listen on 127.0.0.1 port {sandbox.base_url.port}" in result.output
