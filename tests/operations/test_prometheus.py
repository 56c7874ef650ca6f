"""A real Prometheus scrapes two live processes of the service, one of them without a billing service."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack, asynccontextmanager
from uuid import uuid4

import httpx

from tests.mail_server import mailbox
from tests.ports import a_port
from tests.production.conftest import PASSWORD

from .deployed import alerts, config, needs_prometheus, panel_expressions, rules

FAULTS = {"BillingBreakerOpen", "ApprovalInDoubt", "PasswordsGuessed", "ClientsRefused"}
WAIT_SECONDS = 60  # a busy machine takes its time
TOKEN = uuid4().hex + uuid4().hex


@asynccontextmanager
async def prometheus(folder, targets):
    """Scrape the targets every second while the block runs; yields a client of its API."""
    (folder / "token").write_text(TOKEN)
    intervals = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    (folder / "prometheus.yml").write_text(config(folder / "token", targets, **intervals))
    address = f"127.0.0.1:{a_port()}"
    with (folder / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            "prometheus",
            f"--config.file={folder}/prometheus.yml",
            f"--storage.tsdb.path={folder}/data",
            f"--web.listen-address={address}",
            stdout=log,
            stderr=log,
        )
    try:
        async with httpx.AsyncClient(base_url=f"http://{address}", timeout=30) as client:
            async with asyncio.timeout(WAIT_SECONDS):
                while not await is_ready(client):
                    assert process.returncode is None, (folder / "log").read_text()
                    await asyncio.sleep(0.1)
            yield client
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def is_ready(client):
    try:
        return (await client.get("/-/ready")).status_code == 200
    except httpx.TransportError:
        return False


async def ask(client, expression):
    response = await client.get("/api/v1/query", params={"query": expression})
    assert response.status_code == 200, f"{expression}: {response.text}"
    return response.json()["data"]["result"]


async def make_traffic(healthy, lonely, registration, email, sandbox):
    """Requests that succeed, and faults that are easy to cause."""
    login = await healthy.post("/auth/login", json={"username": email, "password": PASSWORD})
    staff = {"Authorization": f"Bearer {login.raise_for_status().json()['access_token']}"}
    unreachable = {"url": "http://127.0.0.1:1/"}  # its deliveries fail
    (await healthy.post("/webhooks", json=unreachable, headers=staff)).raise_for_status()
    ids = []
    for _ in range(8):
        response = await healthy.post("/candidates", json=registration())
        ids.append(response.raise_for_status().json()["candidate_id"])
    assert (await healthy.get("/nowhere", headers=staff)).status_code == 404
    assert (await healthy.post(f"/candidates/{ids[0]}/approve", headers=staff)).status_code == 200
    async with httpx.AsyncClient(base_url=sandbox) as billing:
        (await billing.put("/sandbox/faults", json={"mode": "commit_then_500", "times": 1})).raise_for_status()
    doubtful = await healthy.post(f"/candidates/{ids[1]}/approve", headers=staff)
    assert doubtful.json()["type"].endswith(":approval-in-doubt")
    dead = [(await lonely.post(f"/candidates/{one}/approve", headers=staff)).status_code for one in ids[2:]]
    assert dead == [502] * 5 + [503]
    return staff, ids


async def go_on(healthy, lonely, staff, ids, registration, email):
    """Requests for counters that must grow between two scrapes."""
    for _ in range(15):
        await healthy.post("/auth/login", json={"username": email, "password": "wrong password"})
        await healthy.post("/candidates", json=registration())
        await healthy.get("/candidates", headers=staff)
        await healthy.get(f"/candidates/{ids[0]}", headers=staff)
    await healthy.post(f"/candidates/{ids[2]}/approve", headers=staff)
    await healthy.post("/auth/refresh", json={"refresh_token": "unknown"})
    await lonely.post(f"/candidates/{ids[3]}/approve", headers=staff)


async def has_no_data(client, expressions):
    return {expression for expression in expressions if not await ask(client, expression)}


@needs_prometheus
async def test_every_rule_and_panel_has_data_of_a_live_service(
    serving, environment, no_candidates, admin_email, registration, tmp_path
):
    common = {
        **environment,
        "METRICS_TOKEN": TOKEN,
        "RATE_LIMIT_REGISTRATION": "10/hour",
        "BILLING_MAX_TRIES": "1",
        "BILLING_DEADLINE_SECONDS": "10",  # sweeps every 1.5 s
        "BILLING_RETRY_AMBIGUOUS": "false",
        "SECRETS_KEY": TOKEN,
        "WEBHOOKS_ALLOW_HTTP": "true",
        "WEBHOOKS_ALLOWED_NETWORKS": "127.0.0.1",
        "MAIL_FROM": "supply@example.com",
    }
    wanted = [*(rule["expr"] for rule in rules() if "record" in rule), *panel_expressions("10s")]
    wanted += [rule["record"] for rule in rules() if "record" in rule]
    wanted += [alerts()[f"ProviderRegistration{name}"]["expr"] for name in FAULTS]
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        common["SMTP_URL"] = (await enter(mailbox())).url()
        processes = [
            await enter(serving({**common, **more}, tmp_path))
            for more in ({}, {"BILLING_SERVICE_URL": "http://127.0.0.1:1"})
        ]
        healthy, lonely = [await enter(httpx.AsyncClient(base_url=process.url, timeout=30)) for process in processes]
        client = await enter(prometheus(tmp_path, [process.url.removeprefix("http://") for process in processes]))
        sandbox = environment["BILLING_SERVICE_URL"]
        staff, ids = await make_traffic(healthy, lonely, registration, admin_email, sandbox)
        ends = time.monotonic() + WAIT_SECONDS
        missing = set(wanted)
        while missing and time.monotonic() < ends:
            await go_on(healthy, lonely, staff, ids, registration, admin_email)
            await asyncio.sleep(0.5)
            missing = await has_no_data(client, missing)
        fired = {name for name, alert in alerts().items() if await ask(client, alert["expr"])}
        found = (await client.get("/api/v1/rules")).json()["data"]["groups"]
        up = await ask(client, "sum(up)")

    assert missing == set()
    assert up[0]["value"][1] == "2"
    quiet = {"Down", "InstanceDown", "RateLimitStorageFails", "OrphanedProvider", "ApprovalUnfinished"}
    quiet |= {"DatabaseDown", "ReplicaBehind", "TransactionOpen", "SweepStale", "CandidateWaits", "EventsUnpublished"}
    quiet |= {"BackupOld", "CertificateExpires", "DiskFull"}
    assert not fired & {f"ProviderRegistration{name}" for name in quiet}
    assert "error expanding template" not in str(found)
    assert {rule["health"] for group in found for rule in group["rules"]} == {"ok"}
    assert len([rule for group in found for rule in group["rules"]]) == len(rules())
