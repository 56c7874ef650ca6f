"""DEPLOYMENT.md: its steps and roles are sufficient, its revisions and files exist."""

from __future__ import annotations

import asyncio
import json
import re
import tomllib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import asyncpg
import httpx
import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory
from fastapi.routing import iter_route_contexts
from sqlalchemy import text

from provider_registration import __version__, cli, preflight
from provider_registration.app import create_app
from provider_registration.db import grants, migrations
from provider_registration.db.database import Database
from provider_registration.local.background_server import serve_in_background
from provider_registration.local.sandbox import create_sandbox
from provider_registration.settings import Settings
from tests.chromium import text_of
from tests.console.conftest import Person
from tests.mail_server import mailbox
from tests.ports import a_port
from tests.service import JWT_SECRET, PASSWORD

from .conftest import (
    ADMIN,
    METRICS_TOKEN,
    Live,
    Shell,
    execute,
    make_admin,
    make_settings,
)
from .markdown import ROOT, code, section

DOCKERFILE = (ROOT / "Dockerfile").read_text()
QUERY = """{
    candidates(limit: 5) { candidates { approval { state } events { events { actor { name } } } similar { score } } }
    approvals { pagination { total } } statistics { is_complete }
}"""


def test_rollback_names_every_revision() -> None:
    [table] = section("DEPLOYMENT.md", "Rollback").tables
    script = ScriptDirectory.from_config(Config(ROOT / "alembic.ini"))

    assert [code(row["below"]) for row in table] == [revision.revision for revision in script.walk_revisions()]


@dataclass(frozen=True)
class Roles:
    """The two roles of the document with other names, and their database URLs."""

    owner: str
    database: str
    address: str

    @property
    def service(self) -> str:
        return f"{self.owner}_api"

    @property
    def owner_url(self) -> str:
        return f"postgresql://{self.owner}:choose-one@{self.address}/{self.database}"

    @property
    def service_url(self) -> str:
        return f"postgresql://{self.service}:choose-another@{self.address}/{self.database}"

    def in_their_names(self, text: str) -> str:
        """The document's text with the names of these roles."""
        return re.sub(r"\bprovider_registration(?=_(?:api|bi)\b|\b)", self.owner, text)


@asynccontextmanager
async def _made(server_url: str) -> AsyncIterator[Roles]:
    """Roles created by the document's first step."""
    name = f"test_{uuid4().hex}"
    roles = Roles(name, name, urlsplit(server_url).netloc.rpartition("@")[2])
    sql = section("DEPLOYMENT.md", "First deployment").blocks[0].text
    try:
        await execute(server_url, *roles.in_their_names(sql).strip().removesuffix(";").split(";\n"))
        yield roles
    finally:
        dropped = (f"DATABASE IF EXISTS {name} WITH (FORCE)", f"ROLE IF EXISTS {name}_api", f"ROLE IF EXISTS {name}")
        await execute(server_url, *(f"DROP {what}" for what in dropped))


@pytest.fixture
async def roles(server_url: str) -> AsyncIterator[Roles]:
    """Roles for one test, without a schema."""
    async with _made(server_url) as roles:
        yield roles


async def _migrate(roles: Roles, shell: Shell, commands: str) -> Roles:
    """The roles after the migration step of the document."""
    migrate = section("DEPLOYMENT.md", "First deployment").blocks[2].text
    finished = await shell(roles.in_their_names(migrate), PATH=commands, OWNER_URL=roles.owner_url)
    assert finished.status == 0, finished.errors
    return roles


@pytest.fixture
async def own_migrated(roles: Roles, shell: Shell, commands: str) -> Roles:
    """Migrated roles for one test."""
    return await _migrate(roles, shell, commands)


@pytest.fixture(scope="module")
async def migrated(server_url: str, shell: Shell, commands: str) -> AsyncIterator[Roles]:
    """Migrated roles for tests that do not change the database."""
    async with _made(server_url) as roles:
        yield await _migrate(roles, shell, commands)


async def test_a_role_of_reports_reads_only_the_view(
    server_url: str, own_migrated: Roles, shell: Shell, commands: str
) -> None:
    create, grant = (own_migrated.in_their_names(block.text) for block in section("DEPLOYMENT.md", "Reports").blocks)
    role = f"{own_migrated.owner}_bi"
    await execute(server_url, create.strip().removesuffix(";"))
    try:
        finished = await shell(grant, PATH=commands, OWNER_URL=own_migrated.owner_url)
        assert finished.status == 0, finished.errors
        connection = await asyncpg.connect(own_migrated.owner_url)
        held = "SELECT has_table_privilege($1, $2, 'SELECT')"
        assert [await connection.fetchval(held, role, name) for name in ("bi_candidates", "candidates")] == [
            True,
            False,
        ]
        await connection.close()
        await execute(urlsplit(server_url)._replace(path=f"/{own_migrated.database}").geturl(), f"DROP OWNED BY {role}")
    finally:
        await execute(server_url, f"DROP ROLE {role}")


@pytest.mark.asvs("V6.3.2")
async def test_a_new_database_has_no_account(migrated: Roles) -> None:
    connection = await asyncpg.connect(migrated.owner_url)
    try:
        assert await connection.fetchval("SELECT count(*) FROM users") == 0
    finally:
        await connection.close()


async def test_the_serving_role_can_do_all_that_the_service_does(own_migrated: Roles, tmp_path: Path) -> None:
    await make_admin(own_migrated.owner_url)
    async with serve_in_background(create_sandbox(tmp_path / "sandbox.sqlite3")) as billing, mailbox() as box:
        settings = make_settings(
            own_migrated.service_url,
            billing,
            billing_deadline_seconds=1,  # sweeps all the time
            smtp_url=box.url(),
            staff_mail_to=ADMIN,
            staff_digest="each",
        )
        app = create_app(settings)
        async with serve_in_background(app) as api:
            service = await Live(api, billing, own_migrated.service_url).logged_in()
            answers = [
                answer for part in (_webhooks, _api_keys, _imports, _everything) async for answer in part(service)
            ]
            async with asyncio.timeout(20):
                while not (box.to(ADMIN) and any("link" in str(mail["Subject"]) for mail in box.mails)):
                    await asyncio.sleep(0.05)

    connection = await asyncpg.connect(own_migrated.owner_url)
    try:
        assert await connection.fetchval("SELECT count(last_used_at) FROM api_keys") == 1
    finally:
        await connection.close()
    refused = [(name.rpartition("/")[2], status) for name, status in answers if status not in (200, 201, 202, 204, 303)]
    assert refused == [
        ("retry", 404),  # the webhook has no delivery
        ("approve", 502),
        ("approve", 502),
        ("retry", 409),  # two lost responses, one of them in doubt
        ("cancel", 400),  # the job is done
        ("retry", 404),  # there is no such delivery
    ]
    asked = {name for name, _ in answers}
    assert asked == {
        f"{method} {route.path_format}"
        for route in iter_route_contexts(app.routes)
        for method in route.methods or ()
        if method != "HEAD"
    }


async def test_the_serving_role_can_do_all_that_the_console_does(own_migrated: Roles, tmp_path: Path) -> None:
    await make_admin(own_migrated.owner_url)
    async with serve_in_background(create_sandbox(tmp_path / "sandbox.sqlite3")) as billing:
        app = create_app(make_settings(own_migrated.service_url, billing, admin_pages=True))
        async with serve_in_background(app) as api, httpx.AsyncClient(base_url=api, timeout=30) as client:
            for number in range(4):
                (await client.post("/candidates", json=_company(number))).raise_for_status()
            admin = Person(client)
            opened = [await admin.sign_in(ADMIN)]
            addresses = ("", "/candidates?search=obst", "/candidates/export.csv?status=all", "/next")
            opened += [await admin.open(f"/admin{address}") for address in addresses]
            company = opened[-1].url.path
            opened.append(await admin.submit(await admin.open(f"{company}/approve"), "/approve"))
            opened += [await admin.open(f"/admin/{page}") for page in ("approvals", "activity", "activity/export.csv")]
            marks = {"mark": re.findall(r'name="mark" value="([^"]+)"', (await admin.open("/admin/candidates")).text)}
            asking = await admin.submit(await admin.open("/admin/candidates"), "/marked", decision="reject", **marks)
            opened.append(await admin.submit(asking, "/marked/reject", choice="0", **marks))
            opened.append(await admin.submit(opened[0], "/sign-out"))

    assert [page.status_code for page in opened] == [200] * len(opened)
    assert "was approved as provider" in text_of(opened[5])
    assert "3 of 3 done" in text_of(opened[-2])


async def test_behind_pgbouncer_the_role_has_the_limits_that_the_service_would_send(roles: Roles, server_url: str):
    names = ("statement_timeout", "idle_in_transaction_session_timeout", "jit")
    limits = " || ' ' || ".join(f"current_setting('{name}')" for name in names)
    settings = Settings(
        _env_file=None, database_url=roles.service_url, jwt_secret_key=JWT_SECRET, billing_service_url="http://billing"
    )
    direct = Database(settings.database_url, pool_size=1, time_limit=settings.database_timeout_seconds)
    async with direct.statement() as session:
        sent = await session.scalar(text(f"SELECT {limits}"))
    await direct.close()

    [sql] = [block.text for block in section("DEPLOYMENT.md", "Behind PgBouncer").blocks if block.language == "sql"]
    await execute(server_url, roles.in_their_names(sql))

    connection = await asyncpg.connect(roles.service_url)
    given = await connection.fetchval(f"SELECT {limits}")
    await connection.close()
    assert given == sent


async def _webhooks(service: Live) -> AsyncIterator[tuple[str, int]]:
    """Every route of webhooks and its response."""
    added = await service.ask("POST", "/webhooks", {"url": "http://127.0.0.1:9/"})
    yield "POST /webhooks", added.status_code
    bodies = {
        "GET /webhooks": None,
        "GET /webhooks/{webhook_id}": None,
        "PATCH /webhooks/{webhook_id}": {"description": "ERP"},
        "POST /webhooks/{webhook_id}/rotate-secret": None,
        "POST /webhooks/{webhook_id}/test": None,
        "POST /webhooks/{webhook_id}/replay": {"since": "2026-01-01T00:00:00Z"},
        "GET /webhooks/{webhook_id}/deliveries": None,
        "POST /webhooks/{webhook_id}/deliveries/{delivery_id}/retry": None,
        "DELETE /webhooks/{webhook_id}": None,
    }
    for endpoint, body in bodies.items():
        method, path = endpoint.split()
        path = path.format(webhook_id=added.json()["webhook_id"], delivery_id=1)
        yield endpoint, (await service.ask(method, path, body)).status_code


async def _api_keys(service: Live) -> AsyncIterator[tuple[str, int]]:
    """Every route of API keys and its response; the key is used, and the time of its use is stored at the end."""
    added = await service.ask("POST", "/api-keys", {"name": "ERP", "role": "admin"})
    yield "POST /api-keys", added.status_code
    program = replace(service, token=added.json()["key"])
    for endpoint in ("GET /api-keys", "GET /api-keys/{api_key_id}"):
        method, path = endpoint.split()
        yield endpoint, (await program.ask(method, path.format(**added.json()))).status_code
    path = f"/api-keys/{added.json()['api_key_id']}"
    yield "DELETE /api-keys/{api_key_id}", (await service.ask("DELETE", path)).status_code


async def _imports(service: Live) -> AsyncIterator[tuple[str, int]]:
    """Every route of imports and its response; one of two companies is registered."""
    rows = ("Company;Email;Products;Trucks;Tonnes", "Huerta;import@huerta.example;apples;1;1", "Finca;;apples;1;1")
    file = "\r\n".join(rows).encode()
    headers = {"Authorization": f"Bearer {service.token}", "Content-Type": "text/csv"}
    async with httpx.AsyncClient(base_url=service.api, headers=headers, timeout=30) as client:
        sent = await client.post("/imports", content=file)
    yield "POST /imports", sent.status_code
    path = f"/imports/{sent.json()['import_id']}"
    mapping = {
        "company_name": "Company",
        "contact_email": "Email",
        "products": "Products",
        "truck_count": "Trucks",
        "capacity_tons_per_day": "Tonnes",
    }
    started = await service.ask("POST", f"{path}/start", {"mapping": mapping})
    yield "POST /imports/{import_id}/start", started.status_code
    async with asyncio.timeout(20):
        while (await service.ask("GET", path)).json()["state"] not in ("imported", "cancelled"):
            await asyncio.sleep(0.05)
    for rest in ("", "/errors", "/failed.csv"):
        yield f"GET /imports/{{import_id}}{rest}", (await service.ask("GET", f"{path}{rest}")).status_code
    yield "GET /imports", (await service.ask("GET", "/imports")).status_code
    yield "DELETE /imports/{import_id}", (await service.ask("DELETE", path)).status_code


async def _everything(service: Live) -> AsyncIterator[tuple[str, int]]:
    """Every route and its response: candidates are approved, swept, cancelled in doubt, and rejected."""

    async def ask(endpoint: str, body: object = None, **places: str) -> tuple[str, int]:
        method, path = endpoint.split()
        return endpoint, (await service.ask(method, path.format(**places), body)).status_code

    ids = []
    for number in range(4):
        response = await service.ask("POST", "/candidates", _company(number))
        ids.append(response.json()["candidate_id"])
        yield "POST /candidates", response.status_code
    approve, retry = "POST /candidates/{candidate_id}/approve", "POST /candidates/{candidate_id}/approval/retry"
    yield await ask(approve, candidate_id=ids[0])
    await service.tell_sandbox("faults", {"mode": "commit_then_500", "times": 1})
    yield await ask(approve, candidate_id=ids[1])
    async with asyncio.timeout(20):
        while (await service.ask("GET", f"/candidates/{ids[1]}")).json()["status"] != "approved":
            await asyncio.sleep(0.05)
    await service.tell_sandbox("settings", {"honour_idempotency_key": False})
    await service.tell_sandbox("faults", {"mode": "commit_then_500", "times": 1})
    yield await ask(approve, candidate_id=ids[2])
    async with asyncio.timeout(20):
        while not (await service.ask("GET", "/approvals?state=in_doubt")).json()["approvals"]:
            await asyncio.sleep(0.05)
    yield await ask("GET /approvals")
    yield await ask(retry, candidate_id=ids[2])
    resolve = "POST /candidates/{candidate_id}/approval/resolve"
    yield await ask(resolve, {"resolution": "let_go"}, candidate_id=ids[2])
    yield await ask("GET /candidates/{candidate_id}/approval/events", candidate_id=ids[2])
    yield await ask("POST /candidates/{candidate_id}/reject", candidate_id=ids[3])
    yield await ask("POST /candidates/{candidate_id}/status-link", candidate_id=ids[3])
    yield await ask("GET /candidates/{candidate_id}/events", candidate_id=ids[3])
    yield await ask("GET /candidates/{candidate_id}/similar", candidate_id=ids[3])
    yield await ask("GET /statistics")
    yield await ask("POST /graphql", {"query": QUERY})
    yield await ask("GET /audit")
    yield await ask("GET /audit.csv")
    async for answer in _events(service):
        yield answer
    async for answer in _of_a_company(service):
        yield answer
    yield await ask("POST /applications/lost", {"contact_email": _company(3)["contact_email"]})
    yield await ask("GET /candidates")
    yield await ask("GET /candidates.{kind}", kind="csv")
    yield await ask("GET /candidates/{candidate_id}", candidate_id=ids[3])
    for path in ("/health", "/health/live", "/health/ready", "/openapi.json", "/docs", "/redoc", "/graphiql"):
        yield await ask(f"GET {path}")
    yield await ask("GET /docs/{asset}", asset="swagger-ui.css")
    yield await ask("GET /redoc/{asset}", asset="redoc.standalone.js")
    yield await ask("GET /graphiql/{asset}", asset="graphiql.min.js")
    yield await ask("POST /auth/login", {"username": ADMIN, "password": PASSWORD})
    yield await ask("POST /auth/refresh", {"refresh_token": service.refresh_token})
    yield await ask("POST /auth/logout")
    yield "GET /metrics", (await replace(service, token=METRICS_TOKEN).ask("GET", "/metrics")).status_code


async def _events(service: Live) -> AsyncIterator[tuple[str, int]]:
    async with asyncio.timeout(20):
        while not (await service.ask("GET", "/events")).json()["events"]:
            await asyncio.sleep(0.05)
    yield "GET /events", (await service.ask("GET", "/events")).status_code
    async with (
        httpx.AsyncClient(base_url=service.api, headers={"Authorization": f"Bearer {service.token}"}) as follower,
        follower.stream("GET", "/events/stream") as stream,
    ):
        yield "GET /events/stream", stream.status_code
    body = {"decision": "reject", "items": [{"candidate_id": str(uuid4())}]}
    job = await service.ask(
        "POST", "/candidates/decisions", body, headers={"Idempotency-Key": uuid4().hex, "Prefer": "wait=10"}
    )
    yield "POST /candidates/decisions", job.status_code
    yield "GET /jobs", (await service.ask("GET", "/jobs")).status_code
    path = f"/jobs/{job.json()['job_id']}"
    yield "GET /jobs/{job_id}", (await service.ask("GET", path)).status_code
    yield "POST /jobs/{job_id}/cancel", (await service.ask("POST", f"{path}/cancel")).status_code
    yield "GET /deliveries", (await service.ask("GET", "/deliveries")).status_code
    yield "POST /deliveries/{delivery_id}/retry", (await service.ask("POST", "/deliveries/9999/retry")).status_code


async def _of_a_company(service: Live) -> AsyncIterator[tuple[str, int]]:
    """Every page for companies and its response."""
    async with httpx.AsyncClient(base_url=service.api, follow_redirects=True) as applicant:
        form = await applicant.get("/apply")
        yield "GET /", (await applicant.get("/", follow_redirects=False)).status_code
        yield "GET /apply", form.status_code
        [style] = re.findall(r'href="(/static/applicants[^"]+)"', form.text)
        yield "GET /static/{name}", (await applicant.get(style)).status_code
        page = await applicant.post("/apply", data=_company(4))
        yield "POST /apply", page.history[0].status_code
        yield "GET /applications/{secret}", page.status_code
        yield "GET /apply/lost", (await applicant.get("/apply/lost")).status_code
        page = await applicant.post("/apply/lost", data={"contact_email": _company(4)["contact_email"]})
        yield "POST /apply/lost", page.history[0].status_code
        yield "GET /apply/lost/sent", page.status_code


def _company(number: int) -> dict[str, object]:
    return {
        "company_name": f"Obsthof {number}",
        "contact_email": f"{number}@obsthof.example",
        "products": ["apples"],
        "truck_count": 1,
        "capacity_tons_per_day": 1,
    }


@pytest.mark.asvs("V13.2.2")
@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE mine (id integer)",
        "CREATE FUNCTION candidates_before_update() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
        "ALTER TABLE candidates ADD COLUMN note text",
        "ALTER TABLE candidates DISABLE TRIGGER ALL",
        "DROP TABLE candidates",
        "TRUNCATE candidates CASCADE",
        "DELETE FROM candidates",
        "DELETE FROM approval_events",
        "UPDATE approval_events SET event = 'approved'",
        "DELETE FROM candidate_events",
        "UPDATE candidate_events SET actor_id = NULL",
        "DELETE FROM candidate_event_details",
        "DELETE FROM audit_events",
        "UPDATE audit_events SET actor_id = NULL",
        "INSERT INTO event_retention (minimum_days) VALUES (1)",
        "INSERT INTO users (email, password_hash, role) VALUES ('me@example.com', 'x', 'admin')",
        "UPDATE users SET role = 'admin'",
        "UPDATE users SET email = 'me@example.com'",
        "DELETE FROM users",
        "UPDATE alembic_version SET version_num = version_num",
        "CREATE ROLE another",
        "CREATE TEMPORARY TABLE mine (id integer)",
        "INSERT INTO sessions (user_id, created_at, expires_at) SELECT id, '2100-01-01', '2100-01-02' FROM users",
        "UPDATE sessions SET expires_at = expires_at + interval '1 year'",
    ],
)
async def test_the_serving_role_can_do_no_more(migrated: Roles, statement: str) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await execute(migrated.service_url, statement)


@pytest.mark.asvs("V13.2.2")
async def test_the_serving_role_makes_no_session_that_outlasts_a_week(migrated: Roles) -> None:
    # Refresh tokens and browsers' secrets end with their session.
    session = "INSERT INTO sessions (user_id, expires_at) SELECT id, now() + interval '{}' FROM users"
    owner = "INSERT INTO users (email, password_hash, role) VALUES ('a@example.com', 'x', 'admin')"
    await execute(migrated.owner_url, owner)

    await execute(migrated.service_url, session.format("168 hours"))

    for duration in ("168 hours 1 second", "100 years"):
        with pytest.raises(asyncpg.CheckViolationError):
            await execute(migrated.service_url, session.format(duration))
    await execute(migrated.owner_url, "DELETE FROM sessions", "DELETE FROM users")


async def test_the_serving_role_sees_the_transactions_of_others(migrated: Roles) -> None:
    connection = await asyncpg.connect(migrated.service_url)
    try:
        assert await connection.fetchval("SELECT pg_has_role('pg_read_all_stats', 'USAGE')")
    finally:
        await connection.close()


def test_the_grants_are_those_of_the_code() -> None:
    [table] = section("DEPLOYMENT.md", "What the serving role may do").tables

    assert {code(row["table or view"]): code(row["the serving role may"]) for row in table} == grants.PRIVILEGES


@pytest.mark.parametrize("command", ["create-user maria@example.com --password-stdin", "migrate"])
async def test_a_command_for_the_owner_says_so(own_migrated: Roles, shell: Shell, commands: str, command: str) -> None:
    script = f"echo 'correct horse battery staple' | provider-registration {command}"
    if command == "migrate":
        await asyncio.to_thread(migrations.downgrade, own_migrated.owner_url, "014_search_indexes")  # something to do

    finished = await shell(script, PATH=commands, DATABASE_URL=own_migrated.service_url)

    assert finished.status == 1
    assert finished.errors.splitlines() == [f"Error: {cli.NotTheOwner().message}"]


async def test_upgrading_grants_again(own_migrated: Roles, shell: Shell, commands: str) -> None:
    await execute(own_migrated.owner_url, f"REVOKE ALL ON sessions FROM {own_migrated.service}")
    upgrade = section("DEPLOYMENT.md", "Upgrade").text
    [command] = re.findall(r"`(provider-registration migrate [^`]+)`", upgrade)

    finished = await shell(own_migrated.in_their_names(command), PATH=commands, DATABASE_URL=own_migrated.owner_url)

    assert finished.status == 0, finished.errors
    await execute(own_migrated.service_url, "SELECT FROM sessions")


@pytest.mark.asvs("V16.1.1", "V16.2.2")
async def test_the_first_deployment_goes_as_written(roles: Roles, tmp_path: Path, shell: Shell, commands: str) -> None:
    blocks = section("DEPLOYMENT.md", "First deployment").blocks
    _, _, migrate, create_user, check, serve, look, answer = [block.text for block in blocks][:8]
    port = a_port()
    script = f"""
        {roles.in_their_names(migrate)}
        echo 'correct horse battery staple' | {create_user} --password-stdin
        {check} > {tmp_path}/checked
        {serve} 2> {tmp_path}/log &
        trap 'kill %1; wait' EXIT
        until grep --quiet 'startup complete' {tmp_path}/log; do sleep 0.05; jobs %1 > {tmp_path}/jobs; done
        {look.replace(":5004/", f":{port}/")}
    """

    finished = await shell(
        script,
        cwd=tmp_path,
        PATH=commands,
        OWNER_URL=roles.owner_url,
        DATABASE_URL=roles.service_url,
        JWT_SECRET_KEY=JWT_SECRET,
        BILLING_SERVICE_URL="http://127.0.0.1:1",
        APP_PORT=str(port),
    )

    assert finished.status == 0, finished.errors
    assert finished.output.splitlines() == [
        f"The schema is at {migrations.head()}.",
        f"{roles.service} has the privileges that the service needs.",
        "admin@example.com can now sign in as admin.",
        answer.replace("\n ", ""),  # shown on two lines
    ]
    assert f'"version":"{__version__}"' in answer
    checked = [line.split()[:2] for line in (tmp_path / "checked").read_text().splitlines()]
    assert {level for level, about in checked if about != "LC_CTYPE:"} == {"ok"}
    [shown] = section("OPERATIONS.md", "Logs").blocks
    [line] = [text for text in (tmp_path / "log").read_text().splitlines() if '"request"' in text]
    assert list(json.loads(line)) == list(json.loads(shown.text))
    assert json.loads(line)["time"].endswith("+00:00")


@pytest.mark.asvs("V4.1.3", "V15.3.4")
@pytest.mark.parametrize(("gateway", "answers"), [("127.0.0.1", "401 401"), ("192.0.2.1", "401 429")])
async def test_forwarded_addresses_are_trusted_only_from_named_gateways(
    tmp_path: Path, shell: Shell, commands: str, gateway: str, answers: str
) -> None:
    port = a_port()
    ask = f"curl --silent --output {tmp_path}/body --write-out '%{{http_code}}\n' http://127.0.0.1:{port}/candidates"

    finished = await shell(
        f"""
        provider-registration serve 2> {tmp_path}/log &
        trap 'kill %1; wait' EXIT
        until grep --quiet 'startup complete' {tmp_path}/log; do sleep 0.05; jobs %1 > {tmp_path}/jobs; done
        {ask} -H 'X-Forwarded-For: 198.51.100.1'
        {ask} -H 'X-Forwarded-For: 198.51.100.2'
        """,
        cwd=tmp_path,
        PATH=commands,
        DATABASE_URL="postgresql://nobody@127.0.0.1:1/nothing",
        JWT_SECRET_KEY=JWT_SECRET,
        BILLING_SERVICE_URL="http://127.0.0.1:1",
        APP_PORT=str(port),
        RATE_LIMIT_DEFAULT="1/hour",
        FORWARDED_ALLOW_IPS=gateway,
    )

    assert finished.output.split() == answers.split(), finished.errors


@pytest.mark.parametrize("path", ["/registry/health", "/health"])
async def test_a_gateway_may_pass_the_prefix_on_or_cut_it_off(path: str) -> None:
    [nginx] = [block for block in section("DEPLOYMENT.md", "Behind a gateway").blocks if block.language == "nginx"]
    assert "location /registry/ {" in nginx.text
    settings = make_settings("postgresql://nobody@127.0.0.1:1/nothing", "http://127.0.0.1:1", root_path="/registry")

    async with serve_in_background(create_app(settings)) as url, httpx.AsyncClient(base_url=url) as client:
        response = await client.get(f"{path}/live")

    assert response.status_code == 200


@pytest.mark.asvs("V13.4.1")
def test_the_image_copies_what_is_there_and_let_through() -> None:
    allowed = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    copied = {
        source for sources in re.findall(r"(?m)^COPY (?!--from)(.+) \S+$", DOCKERFILE) for source in sources.split()
    }

    assert all((ROOT / source).exists() for source in copied)
    assert copied == set(allowed)
    assert not [secret for secret in (".env", ".local", ".git") if any(fnmatch(secret, path) for path in allowed)]


def test_checking_tells_of_all_that_it_looks_at() -> None:
    [table] = section("DEPLOYMENT.md", "Checking").tables
    documented = [subject for row in table for subject in re.findall(r"`(\w+)`", row["subject"])]
    source = Path(preflight.__file__).read_text()

    looked_at = re.findall(r'Finding\((?:"\w+"|level), "(\w+)"', source)
    assert documented == list(dict.fromkeys(sorted(looked_at, key=documented.index)))


def test_the_image_knows_its_commit_as_the_code_reads_it() -> None:
    source = (ROOT / "src/provider_registration/__init__.py").read_text()
    [name] = re.findall(r'environ\.get\("(\w+)"\)', source)

    for line in (f'ARG {name}=""', f"ENV {name}=${name}", f"LABEL org.opencontainers.image.revision=${name}"):
        assert line in DOCKERFILE.splitlines()
    assert f"--build-arg {name}=" in section("DEPLOYMENT.md", "As a container").text


@pytest.mark.asvs("V13.3.1")
def test_the_image_has_a_supported_python_and_no_secret() -> None:
    tags = set(re.findall(r"(?m)^FROM python:(\d+\.\d+)-slim-bookworm\b", DOCKERFILE))
    supported = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]

    assert supported == ">=3.11,<3.15"
    assert tags <= {"3.11", "3.12", "3.13", "3.14"}
    assert len(re.findall(r"(?m)^FROM ", DOCKERFILE)) == 2
    assert len(tags) == 1
    assert not set(re.findall(r"[A-Z_]{4,}", DOCKERFILE)) & {"DATABASE_URL", "JWT_SECRET_KEY", "ADMIN_PASSWORD"}
