"""API.md matches the API: endpoints, responses and codes, and each example returns the response shown."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import httpx
import pytest

from provider_registration.app import create_app
from provider_registration.audit.models import AuditType
from provider_registration.auth import service as auth_service
from provider_registration.auth import tokens
from provider_registration.auth.errors import UserExists, UserNotFound
from provider_registration.broker.models import Message
from provider_registration.console.event_names import AUDIT_EVENTS, EVENTS, REASONS
from provider_registration.errors import ServiceError
from provider_registration.events.models import EventType
from provider_registration.settings import Settings
from provider_registration.web import addresses, body, error_handlers, pagination, rate_limit_middleware, rate_limits
from provider_registration.web.problems import ERROR_CODES, PROBLEM_MEDIA_TYPE, status_of
from provider_registration.webhooks import delivering, sending
from provider_registration.webhooks import service as webhooks_service
from provider_registration.webhooks.messages import event_message
from tests.webhooks.receivers import receiving

from .conftest import Live, Shell, execute, make_settings
from .markdown import Section, code, read, section, sections, without_varying

ENDPOINT = re.compile(r"(GET|POST|PUT|PATCH|DELETE) (/\S*)")
RESPONSES = re.compile(r"\*\*Responses:\*\* (.+?)(?:\n\n|\Z)", re.DOTALL)
COMPANY = {
    "company_name": "Huerta del Sol S.L.",
    "contact_email": "ventas@huertadelsol.example",
    "phone": "+34 963 555 017",
    "products": ["oranges", "grapes"],
    "truck_count": 12,
    "capacity_tons_per_day": 80,
    "location": "Valencia, Spain",
}


@pytest.fixture(scope="module")
def openapi() -> dict[str, Any]:
    return create_app(make_settings("postgresql://nobody@localhost/nothing", "http://localhost")).openapi()


def _endpoints() -> dict[str, Section]:
    return {one.title: one for one in sections(read("API.md"), 3) if ENDPOINT.fullmatch(one.title)}


def _described() -> dict[str, Section]:
    """Those that the OpenAPI document has: GraphQL describes its own schema."""
    return {title: one for title, one in _endpoints().items() if title != "POST /graphql"}


def _operations(openapi: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {
        f"{method.upper()} {path}": operation
        for path, operations in openapi["paths"].items()
        for method, operation in operations.items()
    }


@pytest.mark.asvs("API9")
def test_every_route_has_a_section_and_every_section_a_route(openapi: dict[str, Any]) -> None:
    assert sorted(_described()) == sorted(_operations(openapi))


def test_the_table_at_the_top_names_every_endpoint() -> None:
    table = read("API.md").tables[0]

    assert {name for row in table for name in re.findall(r"\[`([^`]+)`\]", row["endpoint"])} == set(_endpoints())


def test_every_endpoint_names_the_responses_of_the_openapi_document(openapi: dict[str, Any]) -> None:
    documented = {title: dict(_documented_answers(one)) for title, one in _described().items()}

    assert documented == {name: _answers(operation) for name, operation in _operations(openapi).items()}


def _documented_answers(endpoint: Section) -> Iterator[tuple[str, set[str]]]:
    match = RESPONSES.search(endpoint.text)
    assert match, endpoint.title
    for answer in re.split(r"\s+·\s+", match[1]):
        status, _, rest = answer.partition(" ")
        is_refusal = int(status) >= HTTPStatus.BAD_REQUEST
        yield status, set(re.findall(r"`([a-z-]+)`", rest)) if is_refusal else set()


def _answers(operation: dict[str, Any]) -> dict[str, set[str]]:
    return {
        status: set(response.get("content", {}).get(PROBLEM_MEDIA_TYPE, {}).get("examples", {}))
        for status, response in operation["responses"].items()
    }


# Endpoints that refuse some roles depending on the query.
PARTLY = {"GET /statistics": "viewer, auditor, admin; `by=decided_by`: auditor, admin"}


@pytest.mark.asvs("V8.1.1")
def test_every_endpoint_names_the_required_role(openapi: dict[str, Any]) -> None:
    who = {title: re.search(r"\*\*Who:\*\* (.+)\.", one.text)[1] for title, one in _described().items()}  # type: ignore[index]

    assert who == {name: _who(operation) for name, operation in _operations(openapi).items()} | PARTLY


def _who(operation: dict[str, Any]) -> str:
    if not operation["security"]:
        return "anyone"
    if operation["security"] == [{"ScrapeToken": []}]:
        return "Prometheus"
    refusals = operation["responses"].get("403", {"content": {PROBLEM_MEDIA_TYPE: {"examples": {}}}})
    examples = refusals["content"][PROBLEM_MEDIA_TYPE]["examples"]
    in_person = "; no API key" if "person-required" in examples else ""
    if "role-not-allowed" not in examples:
        return "viewer, auditor, admin" + in_person
    detail = examples["role-not-allowed"]["value"]["detail"]
    return ("auditor, admin" if "auditor" in detail else "admin") + in_person


def test_every_type_of_event_is_explained_and_has_words_in_the_console() -> None:
    [events] = [one for one in sections(read("API.md"), 3) if one.title == "GET /candidates/{candidate_id}/events"]

    assert {name for row in events.tables[0] for name in re.findall(r"`([^`]+)`", row["type"])} == set(EventType)
    assert set(EVENTS) == set(EventType)
    [table] = section("API.md", "Who did what").tables
    assert {name for row in table for name in re.findall(r"`([^`]+)`", row["type"])} == set(AuditType)
    assert set(AUDIT_EVENTS) == set(AuditType)
    reasons = set(
        re.findall(r"`(\w+)`", section("API.md", "Who did what").text.partition("`reason` is")[2].partition(".")[0])
    )
    assert reasons == set(REASONS)


async def test_the_verification_of_webhooks_accepts_ours_and_nothing_else(live: Live) -> None:
    [verification] = [block for block in _before_endpoints("Webhooks").blocks if block.language == "python"]
    names: dict[str, Any] = {}
    exec(verification.text, names)  # noqa: S102 - the example of the document
    is_genuine = names["is_genuine"]
    async with receiving() as receiver:
        added = (await live.ask("POST", "/webhooks", {"url": f"http://127.0.0.1:{receiver.port}/"})).json()
        await live.ask("POST", f"/webhooks/{added['webhook_id']}/test")
        rotated = (await live.ask("POST", f"/webhooks/{added['webhook_id']}/rotate-secret")).json()
        await live.ask("POST", f"/webhooks/{added['webhook_id']}/test")
    first, second = receiver.messages

    assert is_genuine(added["secret"], first.headers, first.body)
    assert is_genuine(added["secret"], second.headers, second.body)
    assert is_genuine(rotated["secret"], second.headers, second.body)
    assert not is_genuine(rotated["secret"], first.headers, first.body)
    assert not is_genuine(added["secret"], first.headers, first.body + b" ")
    for header, value in {"webhook-id": "test_1", "webhook-timestamp": "1", "webhook-signature": "v1,AAAA"}.items():
        assert not is_genuine(added["secret"], {**first.headers, header: value}, first.body)


def test_messages_of_webhooks_look_as_documented() -> None:
    [shown] = [block for block in _before_endpoints("Webhooks").blocks if block.language == "json"]
    event = json.loads(shown.text)

    body = event_message(event_type=event["type"], at=datetime.fromisoformat(event["timestamp"]), **event["data"])
    assert json.loads(body) == event


def test_the_waits_of_webhooks_are_those_of_the_code() -> None:
    text = " ".join(_before_endpoints("Webhooks").text.split())
    [waits] = re.findall(r"again after (.+?), or later", text)

    seconds = {"s": 1, "min": 60, "h": 3600}
    documented = [int(number) * seconds[unit] for number, unit in re.findall(r"(\d+) (s|min|h)\b", waits)]
    assert documented == list(delivering.WAITS)
    assert f"within {sending.ATTEMPT_SECONDS:g} s" in text
    assert f"status and {sending.MAX_SHOWN} characters" in text
    assert f"at most {webhooks_service.MAX_WEBHOOKS} webhooks" in text


def _before_endpoints(title: str) -> Section:
    """A section, down to its first endpoint."""
    one = section("API.md", title)
    return Section(one.title, one.text.partition("\n### ")[0])


def test_every_code_of_the_code_is_explained_with_its_status() -> None:
    [_, table] = section("API.md", "Errors").tables
    documented = {code(row["code"]): int(row["status"]) for row in table}

    framework = {status.phrase.lower().replace(" ", "-"): int(status) for status in error_handlers.FRAMEWORK_MESSAGES}
    assert documented == {
        **{kind.code: int(status_of(kind.__new__(kind))) for kind in _kinds(ServiceError)},
        **framework,
        "internal-error": 500,
    }


def _kinds(parent: type[ServiceError]) -> Iterator[type[ServiceError]]:
    for kind in parent.__subclasses__():
        if "code" in vars(kind) and kind not in (UserExists, UserNotFound):  # only raised on the command line
            yield kind
        yield from _kinds(kind)


def test_every_code_of_an_entry_of_errors_is_explained() -> None:
    [table, _] = section("API.md", "Errors").tables

    assert {name for row in table for name in re.findall(r"`([^`]+)`", row["`code` in `errors`"])} == ERROR_CODES


def test_what_to_do_after_a_lost_response_is_said_for_every_request(openapi: dict[str, Any]) -> None:
    lost, answers = section("API.md", "Retrying safely").tables
    writing = [name for name in _operations(openapi) if not name.startswith("GET ")]
    said = " ".join(row["request whose response was lost"] for row in lost)

    for name in writing:
        method, path = name.split(" ")
        last = path.rpartition("}")[2] or path
        assert f"`{name}`" in said or f"`{method} …{last}`" in said or f"`{method} …`" in said, name
    named = {int(number) for row in answers for number in re.findall(r"\b[45]\d\d\b", row["response"])}
    assert named == {
        int(status) for one in _operations(openapi).values() for status in one["responses"] if status >= "4"
    } | {
        405,
        414,
        431,
        500,
    }


def test_pages_have_the_documented_size() -> None:
    text = section("API.md", "Pagination").text

    assert f"default {pagination.DEFAULT_LIMIT}" in text
    assert f"1 to {pagination.MAX_LIMIT}" in text


def test_bodies_have_the_documented_limits() -> None:
    text = read("API.md").text

    assert f"{body.MAX_BODY_BYTES // 1024} KiB" in text
    assert f"within {body.BODY_SECONDS} s" in text


@pytest.mark.asvs("V2.1.1", "V2.1.3", "V6.1.1")
def test_calls_have_the_documented_limits() -> None:
    one = section("API.md", "Rate limits")
    documented = [re.sub(r"(\d+) an? (\w+)", r"\1/\2", row["at most"]) for row in one.tables[0]]

    settings = ("rate_limit_login", "rate_limit_registration", "rate_limit_default")
    login, *others = [Settings.model_fields[name].default for name in settings]
    amount, _, period = login.partition("/")
    accounts = f"{int(amount) * rate_limits.ACCOUNTS_PER_ADDRESS}/{period}"
    registration, default = others
    assert documented == [login, accounts, registration, rate_limits.LOST_LINKS, default]
    assert f"first {addresses.IPV6_NETWORK_BITS} bits" in " ".join(one.text.split())
    assert set(re.findall(r"`(/\S+)`", one.text)) == rate_limit_middleware.UNLIMITED_PATHS


@pytest.mark.asvs("V7.1.1", "V7.3.1", "V7.3.2", "V10.4.8")
async def test_sessions_last_as_long_as_documented(live: Live) -> None:
    text = " ".join(section("API.md", "Authentication").text.split())
    minutes, hours, days = (
        int(re.search(pattern, text)[1])  # type: ignore[index]
        for pattern in (r"valid for (\d+) minutes", r"used once, within (\d+) hours", r"(\d+) days after the sign-in")
    )

    assert (minutes * 60, hours * 3600, days * 86400) == (
        tokens.ACCESS_TOKEN_SECONDS,
        auth_service.IDLE_SECONDS,
        auth_service.SESSION_SECONDS,
    )
    for table in ("refresh_tokens", "sessions"):
        session = await live.logged_in()
        await execute(live.database_url, f"UPDATE {table} SET expires_at = now() - interval '1 second'")
        assert (
            await session.ask("GET", "/candidates")
        ).status_code == 200  # an access token stays valid until it expires
        response = await session.ask("POST", "/auth/refresh", {"refresh_token": session.refresh_token})
        assert response.json()["type"].endswith(":invalid-refresh-token")


@pytest.mark.asvs("V2.1.1", "V2.1.3")
def test_fields_have_the_documented_limits(openapi: dict[str, Any]) -> None:
    documented = {code(row["field"]): _numbers(row[""]) for row in section("API.md", "Candidates").tables[0]}
    schemas = openapi["components"]["schemas"]
    fields = {
        **schemas["CandidateRegistration"]["properties"],
        "rejection_reason": schemas["RejectionRequest"]["properties"]["reason"],
    }

    limits = {name: _limits(field) for name, field in fields.items() if name != "products"}
    assert {name: documented[name] for name in limits} == limits


def _numbers(text: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", text)]


def _limits(schema: dict[str, Any]) -> list[int]:
    [text_or_number] = [kind for kind in schema.get("anyOf", [schema]) if kind.get("type") != "null"]
    keys = ("minLength", "maxLength", "minimum", "maximum")
    return [text_or_number[key] for key in keys if key in text_or_number]


async def _nothing(_live: Live) -> str:
    return ""


async def _registered(live: Live) -> str:
    response = await live.ask("POST", "/candidates", COMPANY)
    return str(response.json()["candidate_id"])


async def _job(live: Live) -> str:
    candidate = await _registered(live)
    body = {"decision": "reject", "items": [{"candidate_id": candidate, "version": 1}]}
    headers = {"Idempotency-Key": uuid4().hex, "Prefer": "wait=10"}
    response = await live.ask("POST", "/candidates/decisions", body, headers=headers)
    assert response.status_code == 200, response.text
    return str(response.json()["job_id"])


async def _only_job(live: Live) -> str:
    await execute(live.database_url, "DELETE FROM jobs")
    return await _job(live)


async def _waiting(live: Live) -> str:
    candidate = await _registered(live)
    await live.tell_sandbox("faults", {"mode": "fail_500", "times": 1})
    response = await live.ask("POST", f"/candidates/{candidate}/approve")
    assert response.status_code == 502, response.text
    return candidate


async def _in_doubt(live: Live) -> str:
    candidate = await _registered(live)
    await live.tell_sandbox("settings", {"honour_idempotency_key": False})
    await live.tell_sandbox("faults", {"mode": "commit_then_500", "times": 1})
    await live.ask("POST", f"/candidates/{candidate}/approve")
    response = await live.ask("POST", f"/candidates/{candidate}/approval/retry")
    assert response.json()["type"].endswith("approval-in-doubt"), response.text
    return candidate


async def _dead(live: Live) -> str:
    await _in_feed(live)
    connection = await asyncpg.connect(live.database_url)
    try:
        insert = """
            INSERT INTO deliveries (kind, target, event_id, state, attempts, next_attempt_at, last_status, last_error)
            SELECT 'email', 'applicant', id, 'dead', 8, NULL, 451, '451 4.7.1 to RCPT' FROM candidate_events
            ON CONFLICT (event_id, kind, target) DO UPDATE
            SET (state, attempts, next_attempt_at, last_status, last_error) = (
                excluded.state, excluded.attempts, excluded.next_attempt_at, excluded.last_status, excluded.last_error
            )
            RETURNING id
        """
        return str(await connection.fetchval(insert))
    finally:
        await connection.close()


async def _in_feed(live: Live) -> str:
    candidate = await _registered(live)
    while not (await live.ask("GET", f"/candidates/{candidate}/events")).json()["events"][0]["sequence"]:
        await asyncio.sleep(0.05)
    return candidate


async def _with_a_similar_one(live: Live) -> str:
    other = {**COMPANY, "company_name": "HUERTA DEL SOL", "contact_email": "office@huertadelsol-export.example"}
    earlier = (await live.ask("POST", "/candidates", other)).json()["candidate_id"]
    await live.ask("POST", f"/candidates/{earlier}/reject", {"reason": "No cold chain"})
    candidate = await _registered(live)
    while not (await live.ask("GET", f"/candidates/{candidate}/similar")).json()["similar"]:
        await asyncio.sleep(0.05)
    return candidate


ERP = {
    "url": "https://erp.example/hooks/suppliers",
    "types": ["candidate.approved", "candidate.rejected"],
    "description": "ERP",
}


async def _webhook(live: Live, url: str = ERP["url"]) -> str:
    response = await live.ask("POST", "/webhooks", {**ERP, "url": url})
    return str(response.json()["webhook_id"])


async def _import(live: Live) -> str:
    await execute(live.database_url, "DELETE FROM imports")
    headings = "Empresa;Correo;Productos;Camiones;Toneladas por día"
    content = f"{headings}\nHuerta del Sol S.L.;ventas@huertadelsol.example;naranjas, uvas;12;80\n".encode()
    headers = {"Authorization": f"Bearer {live.token}", "Content-Type": "text/csv"}
    async with httpx.AsyncClient(base_url=live.api) as client:
        response = await client.post("/imports", content=content, headers=headers)
    return str(response.json()["import_id"])


async def _api_key(live: Live) -> str:
    await execute(live.database_url, "DELETE FROM api_keys")
    response = await live.ask("POST", "/api-keys", {"name": "ERP import", "role": "auditor"})
    return str(response.json()["api_key_id"])


# The preparation of a section's example; a pending candidate by default.
BEFORE: dict[str, Callable[[Live], Awaitable[str]]] = {
    "POST /candidates": _nothing,
    "GET /candidates/{candidate_id}/events": _in_feed,
    "GET /candidates/{candidate_id}/similar": _with_a_similar_one,
    "GET /events": _in_feed,
    "GET /events/stream": _in_feed,
    "GET /deliveries": _dead,
    "POST /deliveries/{delivery_id}/retry": _dead,
    "GET /jobs": _only_job,
    "GET /jobs/{job_id}": _job,
    "POST /jobs/{job_id}/cancel": _job,
    "GET /approvals": _waiting,
    "POST /candidates/{candidate_id}/approval/retry": _waiting,
    "POST /candidates/{candidate_id}/approval/resolve": _in_doubt,
    "GET /candidates/{candidate_id}/approval/events": _waiting,
    "POST /api-keys": _nothing,
    "GET /api-keys": _api_key,
    "GET /api-keys/{api_key_id}": _api_key,
    "DELETE /api-keys/{api_key_id}": _api_key,
    "POST /imports": _nothing,
    "GET /imports": _import,
    "GET /imports/{import_id}": _import,
    "POST /imports/{import_id}/start": _import,
    "GET /imports/{import_id}/errors": _import,
    "GET /imports/{import_id}/failed.csv": _import,
    "DELETE /imports/{import_id}": _import,
    "POST /webhooks": _nothing,
    "GET /webhooks": _webhook,
    "GET /webhooks/{webhook_id}": _webhook,
    "PATCH /webhooks/{webhook_id}": _webhook,
    "DELETE /webhooks/{webhook_id}": _webhook,
    "POST /webhooks/{webhook_id}/rotate-secret": _webhook,
    "GET /webhooks/{webhook_id}/deliveries": _webhook,
    "POST /webhooks/{webhook_id}/deliveries/{delivery_id}/retry": _webhook,
    "POST /webhooks/{webhook_id}/replay": _webhook,
}


@dataclass(frozen=True)
class Example:
    """A request with curl, and the response shown below it."""

    title: str
    request: str
    answer: str


def _examples() -> Iterator[Example]:
    for one in sections(read("API.md"), 3):
        blocks = iter([block for block in one.blocks if block.language in ("bash", "http")])
        for block in blocks:
            answer = next(blocks)
            assert (block.language, answer.language) == ("bash", "http"), one.title
            yield Example(one.title, block.text, answer.text)


def test_a_published_event_is_as_shown() -> None:
    [block] = section("API.md", "Events from a message broker").blocks
    shown = json.loads(block.text)
    event = {
        "position": 1,
        "id": int(shown["id"]),
        "type": shown["type"],
        "at": datetime.fromisoformat(shown["time"]),
        "candidate_id": UUID(shown["subject"]),
        "sequence": shown["data"]["sequence"],
        "version": shown["data"]["version"],
        "data": json.dumps({**shown["data"]["data"], "idempotency_key": "k"}),
    }

    message = Message.from_row(event, source=shown["source"])

    assert json.loads(message.body) == shown
    assert message.subject == "provider_registration.candidate.approved"


def test_every_endpoint_has_an_example() -> None:
    assert set(_endpoints()) <= {example.title for example in _examples()}


@pytest.mark.parametrize("example", list(_examples()), ids=lambda example: example.title)
async def test_the_example_returns_the_response_shown(example: Example, live: Live, shell: Shell) -> None:
    async with receiving() as receiver:
        if example.title == "POST /webhooks/{webhook_id}/test":
            made = await _webhook(live, f"http://127.0.0.1:{receiver.port}/")
        else:
            made = await BEFORE.get(example.title, _registered)(live)
        finished = await shell(
            example.request,
            CANDIDATE=made,
            DELIVERY=made,
            WEBHOOK=made,
            API_KEY_ID=made,
            JOB=made,
            IMPORT=made,
            **live.variables,
        )

    assert finished.status == 0, finished.errors
    shown, came = _Answer.read(example.answer), _Answer.read(finished.output)
    assert came.status == shown.status
    assert came.headers | shown.headers == came.headers
    if isinstance(shown.body, list):
        assert set(shown.body) <= set(came.body)
    else:
        assert came.body == shown.body


@dataclass(frozen=True)
class _Answer:
    """A response as printed by `curl -i`; the body is JSON, or the lines of another format."""

    status: str
    headers: dict[str, str]
    body: Any

    @classmethod
    def read(cls, text: str) -> _Answer:
        head, _, body = without_varying(text.replace("\r\n", "\n").replace("\ufeff", "")).partition("\n\n")
        status, *headers = head.split("\n")
        try:
            content = json.loads(body)
        except ValueError:
            content = body.splitlines()
        status = " ".join(status.split()[:2])  # the reason phrase differs between Python versions
        return cls(status, dict(header.split(": ", 1) for header in headers), content)
