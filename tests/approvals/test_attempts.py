"""Attempts of an approval against the billing sandbox: what happens to the claim, and who owns it."""

from __future__ import annotations

import asyncio
import json
import logging
from dataclasses import replace
from time import monotonic
from uuid import uuid4

import pytest
from sqlalchemy import text
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

from provider_registration.approvals import queries, service
from provider_registration.approvals.attempt import MAX_UNANSWERED, Attempt
from provider_registration.approvals.batches import ApprovalBatches
from provider_registration.approvals.errors import (
    ApprovalFailed,
    ApprovalInDoubt,
    ApprovalWaiting,
    BillingPaused,
    ProviderNameTaken,
)
from provider_registration.approvals.models import Claim, ClaimRequest, CreatedProvider
from provider_registration.approvals.service import LEASE_SHARE, ApprovalService
from provider_registration.audit.models import Actor, ActorKind
from provider_registration.auth.models import Role
from provider_registration.billing import protection
from provider_registration.billing.errors import BillingNameTaken
from provider_registration.candidates import queries as candidate_queries
from provider_registration.candidates.errors import ApprovalInProgress, CandidateChanged, CandidateNotFound
from provider_registration.candidates.models import LONGEST_SECONDS, Candidate
from provider_registration.candidates.service import CandidateService
from provider_registration.db.database import Database
from provider_registration.db.reading import Reader
from provider_registration.local.background_server import serve_in_background
from provider_registration.observability.metrics import APPROVAL_ATTEMPTS
from provider_registration.settings import DatabaseSettings, Settings
from provider_registration.web.pagination import Page
from tests.billing_client import billing_at
from tests.conftest import DELETE_CANDIDATES
from tests.service import PASSWORD

LEASE_SECONDS = 30.0
ADD_CANDIDATE = """
    INSERT INTO candidates (company_name, contact_email, products, truck_count, capacity_tons_per_day)
    VALUES ($1, $2, '{apples}', 1, 1) RETURNING id
"""
ADD_INTENT = """
    INSERT INTO approval_intents
        (candidate_id, idempotency_key, provider_name, requested_by, claim_id, next_attempt_at, attempts)
    SELECT $1, $2, $3, (SELECT id FROM users LIMIT 1), $4, now() + interval '30 s', $5
"""
READ_CLAIM = "SELECT claim_id, in_doubt_since FROM approval_intents WHERE candidate_id = $1"
READ_WAIT = """
    SELECT state, CAST(extract(epoch FROM next_attempt_at - now()) AS float8) AS wait_seconds
    FROM unfinished_approvals WHERE candidate_id = $1
"""
READ_EVENTS = "SELECT event, provider_id FROM approval_events WHERE candidate_id = $1 ORDER BY id"


@pytest.fixture
async def service_database(migrated_database_url, no_candidates):
    del no_candidates
    url = DatabaseSettings(_env_file=None, database_url=migrated_database_url).database_url
    database = Database(url, pool_size=2)
    yield database
    await database.close()


@pytest.fixture
async def answer():
    """Make the sandbox's next responses this status and body; the name `None` stands for the requested name."""
    prepared = {"status": 201, "body": {}}

    async def give(request):
        asked = json.loads(await request.body())
        return JSONResponse({**asked, **prepared["body"]}, prepared["status"])

    app = Starlette(routes=[Route("/provider", give, methods=["POST"])])
    async with serve_in_background(app) as url, billing_at(url, max_tries=1) as billing:

        def answer(status, **body):
            prepared.update(status=status, body=body)
            return billing

        yield answer


@pytest.fixture
async def hanging_billing():
    """Billing that accepts requests and never responds."""
    held: list[asyncio.StreamWriter] = []
    server = await asyncio.start_server(lambda _, writer: held.append(writer), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with billing_at(f"http://127.0.0.1:{port}", request_seconds=1, max_tries=1, deadline=1) as billing:
        yield billing
    for writer in held:
        writer.close()
    server.close()


@pytest.fixture
async def claimed(database, users):
    """Create a candidate with a claimed approval; return the claim too."""

    async def claimed(*, attempts=1):
        unique = uuid4().hex
        if not await database.fetchval("SELECT EXISTS (SELECT FROM users)"):
            await users.create(f"{uuid4().hex}@example.com", PASSWORD, Role.ADMIN)
        name = f"Obsthof {unique}"
        candidate_id = await database.fetchval(ADD_CANDIDATE, name, f"{unique}@obsthof.example")
        claim = Claim(candidate_id, 1, uuid4(), uuid4(), name, attempts, maybe_sent=attempts > 1)
        await database.execute(ADD_INTENT, candidate_id, claim.idempotency_key, name, claim.claim_id, attempts)
        return claim

    return claimed


@pytest.fixture
def carry_out(service_database):
    async def carry_out(claim, billing):
        batches = ApprovalBatches(service_database, lease_seconds=LEASE_SECONDS)
        return await Attempt(service_database, billing, batches, claim, lease_seconds=LEASE_SECONDS).carry_out()

    return carry_out


UNHAPPY = {
    "to wait": (500, {}, ApprovalWaiting),
    "in doubt": (201, {"id": 7, "name": "another"}, ApprovalInDoubt),
    "to end": (400, {}, ApprovalFailed),
}


@pytest.mark.parametrize(("status", "body", "error"), UNHAPPY.values(), ids=UNHAPPY)
async def test_a_worker_releases_its_own_claim(carry_out, claimed, answer, database, status, body, error):
    claim = await claimed()

    with pytest.raises(error):
        await carry_out(claim, answer(status, **body))

    row = await database.fetchrow(READ_CLAIM, claim.candidate_id)
    assert (row and row["claim_id"]) is None


def attempts_that_were(outcome):
    """How many attempts had this outcome, according to the metric."""
    samples = [sample for metric in APPROVAL_ATTEMPTS.collect() for sample in metric.samples]
    return sum(one.value for one in samples if one.name.endswith("_total") and one.labels["outcome"] == outcome)


@pytest.mark.parametrize(("status", "body", "error"), UNHAPPY.values(), ids=UNHAPPY)
async def test_a_worker_that_lost_its_claim_leaves_the_next_holders_alone(
    carry_out, claimed, answer, database, status, body, error
):
    del error
    next_holders = await claimed()
    late = replace(next_holders, claim_id=uuid4())
    superseded = attempts_that_were("superseded")

    with pytest.raises(ApprovalInProgress):
        await carry_out(late, answer(status, **body))

    assert attempts_that_were("superseded") == superseded + 1

    row = await database.fetchrow(READ_CLAIM, late.candidate_id)
    assert (row["claim_id"], row["in_doubt_since"]) == (next_holders.claim_id, None)
    assert await database.fetch(READ_EVENTS, late.candidate_id) == []


@pytest.mark.parametrize(
    ("status", "state"),
    [(408, "waiting"), (425, "waiting"), (429, "waiting")]
    + [(status, "in_doubt") for status in (400, 401, 403, 404, 409, 422)],
)
async def test_after_a_lost_response_only_a_final_refusal_is_left_to_an_admin(
    carry_out, claimed, answer, database, status, state
):
    claim = await claimed(attempts=2)

    with pytest.raises(ApprovalWaiting if state == "waiting" else ApprovalInDoubt):
        await carry_out(claim, answer(status))

    assert (await database.fetchrow(READ_WAIT, claim.candidate_id))["state"] == state


@pytest.mark.parametrize(
    ("attempts", "error", "status", "code"),
    [
        (1, ApprovalFailed, 400, "refused"),
        (2, ApprovalInDoubt, 400, "refused"),
        (3, ApprovalInDoubt, 409, "name_taken"),
        (1, ProviderNameTaken, 409, "name_taken"),
        (1, ApprovalInDoubt, 302, "unusable"),
    ],
)
async def test_an_approval_that_billing_refuses_is_recorded_with_the_reason(
    carry_out, claimed, answer, database, attempts, error, status, code
):
    claim = await claimed(attempts=attempts)

    with pytest.raises(error) as caught:
        await carry_out(claim, answer(status))

    [row] = await database.fetch(
        "SELECT event, idempotency_key, user_id, detail FROM approval_events WHERE candidate_id = $1",
        claim.candidate_id,
    )
    event = "in_doubt" if error is ApprovalInDoubt else "failed"
    reason = getattr(caught.value, "reason", str(BillingNameTaken()))
    assert tuple(row) == (event, claim.idempotency_key, None, reason)
    data = await database.fetchval(
        "SELECT data::text FROM candidate_events WHERE candidate_id = $1 AND data ? 'idempotency_key'",
        claim.candidate_id,
    )
    assert json.loads(data) == {
        "idempotency_key": str(claim.idempotency_key),
        "attempt": attempts,
        "error_code": code,
    }


@pytest.mark.parametrize(("attempts", "seconds"), [(1, 2.5), (2, 5), (3, 10), (4, 20), (5, 30), (2000, 30)])
async def test_waits_between_attempts_double_up_to_half_a_minute(
    carry_out, claimed, answer, database, attempts, seconds
):
    claim = await claimed(attempts=attempts)

    with pytest.raises(ApprovalWaiting):
        await carry_out(claim, answer(500))

    waits = (await database.fetchrow(READ_WAIT, claim.candidate_id))["wait_seconds"]
    assert 0.75 * seconds - 0.5 <= waits <= 1.25 * seconds


async def test_billing_is_called_again_after_the_stated_pause(carry_out, claimed, answer):
    billing = answer(201, id=79)
    began = monotonic()
    for _ in range(protection.FAILURES_TO_OPEN):
        billing.breaker.failed()

    with pytest.raises(BillingPaused) as caught:
        await carry_out(await claimed(), billing)

    assert protection.OPEN_SECONDS - (monotonic() - began) < caught.value.retry_after <= protection.OPEN_SECONDS + 1


async def test_a_sweep_updates_the_breaker_metric_even_if_nothing_is_due(service_database, answer, monkeypatch):
    billing, shown = answer(201, id=80), []
    approvals = ApprovalService(service_database, Reader(service_database, None), billing)
    monkeypatch.setattr(billing.breaker, "update_metric", lambda: shown.append(billing.breaker.state))

    await approvals.sweep()

    assert shown == [protection.BreakerState.CLOSED]


async def test_an_approval_without_responses_leaves_the_probe_to_others(
    service_database, database, claimed, answer, monkeypatch
):
    now = 0.0
    billing = answer(201, id=82)
    billing.breaker = protection.CircuitBreaker(lambda: now)
    for _ in range(protection.FAILURES_TO_OPEN):
        billing.breaker.failed()
    claim = await claimed(attempts=MAX_UNANSWERED)
    await database.execute("UPDATE approval_intents SET next_attempt_at = now()")
    approvals = ApprovalService(service_database, Reader(service_database, None), billing)
    attempts = "SELECT attempts FROM approval_intents WHERE candidate_id = $1"

    now = protection.OPEN_SECONDS + service.LAST_RESORT_SECONDS - 1
    await approvals.sweep()
    assert await database.fetchval(attempts, claim.candidate_id) == MAX_UNANSWERED

    now += 1  # no one else has called billing
    await approvals.sweep()
    assert await database.fetchval("SELECT provider_id FROM candidates WHERE id = $1", claim.candidate_id) == 82


def lines_of_approvals(caplog):
    return [record for record in caplog.records if record.name.startswith("provider_registration.approvals")]


async def test_an_approval_writes_one_line_with_all_that_identifies_it(
    service_database, candidate_id, key, answer, caplog
):
    caplog.set_level(logging.INFO)
    approvals = ApprovalService(service_database, Reader(service_database, None), answer(201, id=85))

    await approvals.approve(candidate_id, actor=key)

    [line] = lines_of_approvals(caplog)
    assert (line.levelname, line.candidate_id, line.provider_id, line.attempt) == ("INFO", str(candidate_id), 85, 1)
    assert line.idempotency_key


async def test_billings_response_is_kept_for_the_lease_while_the_database_is_down(claimed, answer, caplog):
    away = Database("postgresql+asyncpg://nobody@127.0.0.1:1/nothing", pool_size=1)
    batches = ApprovalBatches(away, lease_seconds=LEASE_SECONDS)
    attempt = Attempt(away, answer(201, id=82), batches, await claimed(), lease_seconds=0.5)
    began = monotonic()

    async with asyncio.timeout(10):
        with pytest.raises(ApprovalWaiting):
            await attempt.carry_out()

    assert monotonic() - began > 0.4
    assert 82 in [vars(line).get("provider_id") for line in lines_of_approvals(caplog)]
    await away.close()


async def test_the_approval_that_is_due_longest_is_claimed_first(service_database, database, claimed):
    due = "UPDATE approval_intents SET next_attempt_at = now() - make_interval(secs => $2) WHERE candidate_id = $1"
    overdue = [(seconds, (await claimed()).candidate_id) for seconds in (10, 30, 20)]
    for seconds, candidate_id in overdue:
        await database.execute(due, candidate_id, seconds)
    parameters = {"lease_seconds": LEASE_SECONDS, "longest_seconds": LONGEST_SECONDS, "max_attempts": 100}

    async with service_database.transaction() as session:
        asked = [await session.execute(queries.CLAIM_DUE, parameters | {"claim_id": uuid4()}) for _ in overdue]
        claims = [one.mappings().one()["candidate_id"] for one in asked]

    assert claims == [candidate_id for _, candidate_id in sorted(overdue, reverse=True)]


async def test_how_long_the_oldest_pending_candidate_has_waited_is_measured(service_database, database, claimed):
    for seconds, status in ((50, "pending"), (100, "pending"), (1000, "rejected")):
        claim = await claimed()
        await database.execute(
            "UPDATE candidates SET created_at = now() - make_interval(secs => $2), status = $3 WHERE id = $1",
            *(claim.candidate_id, seconds, status),
        )

    async with service_database.statement() as session:
        waited = await session.scalar(candidate_queries.OLDEST_PENDING_SECONDS)

    assert 100 <= waited < 110


async def test_a_sweep_completes_what_is_due_and_keeps_nothing_of_it(service_database, database, claimed, answer):
    claim = await claimed()
    await database.execute("UPDATE approval_intents SET next_attempt_at = now()")
    approvals = ApprovalService(service_database, Reader(service_database, None), answer(201, id=81))

    await approvals.sweep()

    assert await database.fetchval("SELECT provider_id FROM candidates WHERE id = $1", claim.candidate_id) == 81
    async with asyncio.timeout(10):
        while approvals._running:  # a finished task is removed in a later iteration of the event loop
            await asyncio.sleep(0.01)


async def test_a_process_that_ends_waits_for_attempts_but_not_long(
    service_database, database, claimed, hanging_billing, monkeypatch, caplog
):
    monkeypatch.setattr(service, "STOP_SECONDS", 0.05)
    claim = await claimed()
    await database.execute("UPDATE approval_intents SET next_attempt_at = now()")
    approvals = ApprovalService(service_database, Reader(service_database, None), hanging_billing)
    sweeping = asyncio.create_task(approvals.sweep())
    stopping = asyncio.Event()
    stopping.set()

    async with asyncio.timeout(10):
        while not approvals._running:
            await asyncio.sleep(0.01)
        await approvals.stop(stopping)
        await sweeping  # waiting callers get ApprovalWaiting

    assert not approvals._running
    assert await database.fetchrow(READ_CLAIM, claim.candidate_id)
    assert not [record for record in caplog.records if record.name == "asyncio"]


@pytest.mark.parametrize(
    ("change", "state"),
    [
        ("claim_id = claim_id", "in_progress"),
        ("claim_id = NULL, in_doubt_since = now()", "in_doubt"),
        ("claim_id = NULL", "waiting"),
    ],
)
async def test_only_a_waiting_approval_shows_its_next_attempt(service_database, claimed, change, state):
    keys = {"candidate_id": (await claimed()).candidate_id}
    async with service_database.transaction() as session:  # one connection, so that no sweep runs in between
        await session.execute(text(f"UPDATE approval_intents SET {change} WHERE candidate_id = :candidate_id"), keys)
        row = (await session.execute(candidate_queries.FIND_CANDIDATE, keys)).mappings().one()

    approval = Candidate.from_row(row).approval

    assert approval.state == state
    assert (approval.next_attempt_at is not None) is (state == "waiting")


async def test_a_long_history_shows_the_newest_hundred_events(service_database, database, claimed, answer):
    claim = await claimed()
    await database.execute(
        """
        INSERT INTO approval_events (candidate_id, idempotency_key, event, provider_id)
        SELECT $1, $2, 'orphaned', number FROM generate_series(1, 101) AS number
        """,
        claim.candidate_id,
        claim.idempotency_key,
    )

    approvals = ApprovalService(service_database, Reader(service_database, None), answer(201))
    history = (await approvals.history(claim.candidate_id, limit=100)).records

    assert [record.provider_id for record in history] == list(range(101, 1, -1))


@pytest.mark.parametrize("was_known", [False, True])
async def test_the_provider_of_a_decided_candidate_is_recorded_once_as_an_orphan(
    carry_out, claimed, answer, database, was_known
):
    claim = await claimed()
    await database.execute("UPDATE candidates SET status = 'rejected' WHERE id = $1", claim.candidate_id)
    if was_known:
        with pytest.raises(CandidateChanged):
            await carry_out(claim, answer(201, id=77))
    superseded = attempts_that_were("superseded")

    with pytest.raises(CandidateChanged):
        await carry_out(claim, answer(201, id=77))

    assert attempts_that_were("superseded") == superseded + 1
    events = [tuple(row) for row in await database.fetch(READ_EVENTS, claim.candidate_id)]
    assert events == [("orphaned", 77)]
    assert await database.fetchrow(READ_CLAIM, claim.candidate_id) is None


async def test_a_provider_in_hand_is_recorded_though_another_holds_the_claim(carry_out, claimed, answer, database):
    claim = await claimed()

    candidate = await carry_out(replace(claim, claim_id=uuid4()), answer(201, id=78))

    assert candidate.provider_id == 78
    assert await database.fetchrow(READ_CLAIM, claim.candidate_id) is None


async def test_a_provider_whose_candidate_is_gone_is_an_error_that_says_so(
    carry_out, claimed, answer, database, caplog
):
    claim = await claimed()
    await database.execute(DELETE_CANDIDATES)

    with pytest.raises(CandidateNotFound):
        await carry_out(claim, answer(201, id=83))

    assert 83 in [vars(line).get("provider_id") for line in lines_of_approvals(caplog)]


async def test_an_approval_in_doubt_is_cancelled_alone(service_database, database, claimed, answer):
    mine, other = await claimed(), await claimed()
    await database.execute("UPDATE approval_intents SET claim_id = NULL, in_doubt_since = now()")
    user_id = await database.fetchval("SELECT id FROM users LIMIT 1")
    approvals = ApprovalService(service_database, Reader(service_database, None), answer(201))

    await approvals.let_go(mine.candidate_id, actor=Actor.user(user_id))

    left = await database.fetch("SELECT candidate_id FROM approval_intents")
    assert [row["candidate_id"] for row in left] == [other.candidate_id]
    assert await database.fetch(READ_EVENTS, other.candidate_id) == []


async def test_who_requested_an_approval_approved_it_whoever_requested_others_since(service_database, database, users):
    batches = ApprovalBatches(service_database, lease_seconds=LEASE_SECONDS)
    claims = []
    for _ in range(2):
        unique = uuid4().hex
        user_id = await users.create(f"{unique}@example.com", PASSWORD, Role.ADMIN)
        candidate_id = await database.fetchval(ADD_CANDIDATE, unique, f"{unique}@obsthof.example")
        request = ClaimRequest(candidate_id, uuid4(), uuid4(), Actor.user(user_id), None, is_retry=False)
        claims.append((await batches.claim(request), user_id))

    for number, (claim, _) in enumerate(claims):
        await batches.finish(CreatedProvider(claim.candidate_id, 1, claim.idempotency_key, 84 + number))

    actor = "SELECT actor_id FROM candidate_events WHERE candidate_id = $1 AND type = 'candidate.approved'"
    approved_by = [await database.fetchval(actor, claim.candidate_id) for claim, _ in claims]
    assert approved_by == [user_id for _, user_id in claims]


ADD_KEY = """
    INSERT INTO api_keys (name, key_hash, prefix, role)
    VALUES ($1::text, sha256(convert_to($1, 'UTF8')), 'prk_', 'admin') RETURNING id
"""
BY_KEYS = """
    SELECT type FROM candidate_events WHERE candidate_id = $1 AND actor_kind = 'api_key' AND actor_id = $2 ORDER BY id
"""


@pytest.fixture
async def key(database):
    return Actor(ActorKind.API_KEY, await database.fetchval(ADD_KEY, uuid4().hex))


@pytest.fixture
async def candidate_id(database):
    unique = uuid4().hex
    return await database.fetchval(ADD_CANDIDATE, unique, f"{unique}@obsthof.example")


async def test_an_approval_of_a_key_that_a_crash_left_is_finished_in_the_name_of_the_key(
    service_database, database, answer, key, candidate_id
):
    batches = ApprovalBatches(service_database, lease_seconds=LEASE_SECONDS)
    await batches.claim(ClaimRequest(candidate_id, uuid4(), uuid4(), key, None, is_retry=False))
    await database.execute("UPDATE approval_intents SET next_attempt_at = now() - interval '1 s'")
    approvals = ApprovalService(service_database, Reader(service_database, None), answer(201, id=8611))
    [unfinished] = (await approvals.list_unfinished(Page(10), state=None)).approvals

    await approvals.sweep()

    assert (unfinished.actor.kind, unfinished.requested_by) == (ActorKind.API_KEY, key.id)
    assert unfinished.actor.name is not None
    events = [row["type"].removeprefix("candidate.") for row in await database.fetch(BY_KEYS, candidate_id, key.id)]
    assert events == ["approval_requested", "approved"]
    history = (await approvals.history(candidate_id, limit=10)).records
    assert {(event.actor.kind, event.actor.id) for event in history} == {(ActorKind.API_KEY, key.id)}
    assert {event.actor.name for event in history} == {unfinished.actor.name}
    assert {event.user_id for event in history} == {None}


async def test_an_approval_of_a_key_is_finished_in_its_name_after_the_request_was_removed(
    service_database, database, key, candidate_id
):
    batches = ApprovalBatches(service_database, lease_seconds=LEASE_SECONDS)
    claim = await batches.claim(ClaimRequest(candidate_id, uuid4(), uuid4(), key, None, is_retry=False))
    await database.execute("DELETE FROM candidate_events WHERE candidate_id = $1", candidate_id)

    await batches.finish(CreatedProvider(candidate_id, 1, claim.idempotency_key, 8612))

    assert [row["type"] for row in await database.fetch(BY_KEYS, candidate_id, key.id)] == ["candidate.approved"]


@pytest.mark.parametrize("is_linked", [True, False])
async def test_a_key_resolves_an_approval_in_doubt(service_database, database, claimed, answer, key, is_linked):
    claim = await claimed()
    await database.execute("UPDATE approval_intents SET claim_id = NULL, in_doubt_since = now()")
    approvals = ApprovalService(service_database, Reader(service_database, None), answer(201))

    if is_linked:
        await approvals.link(claim.candidate_id, 8613, actor=key)
    else:
        await approvals.let_go(claim.candidate_id, actor=key)

    found = [
        row["type"].removeprefix("candidate.") for row in await database.fetch(BY_KEYS, claim.candidate_id, key.id)
    ]
    assert found == (["approval_linked", "approved"] if is_linked else ["approval_released"])


async def test_a_key_rejects_and_replaces_a_link(service_database, database, key, candidate_id):
    candidates = CandidateService(service_database, Reader(service_database, None), list, creates_status_links=True)
    await candidates.replace_status_secret(candidate_id, actor=key)

    await candidates.reject(candidate_id, actor=key, reason=None)

    found = [row["type"].removeprefix("candidate.") for row in await database.fetch(BY_KEYS, candidate_id, key.id)]
    assert found == ["status_link_replaced", "rejected"]


@pytest.mark.parametrize(("held_for", "is_over"), [("20 s", False), ("-1 s", True), ("1 hour", True)])
async def test_a_lease_longer_than_any_is_over(service_database, database, claimed, held_for, is_over):
    """As if the database's clock had been set back: approval and retry both claim with this statement."""
    claim = await claimed()
    user_id = await database.fetchval("SELECT id FROM users LIMIT 1")
    ids = {"candidate_id": claim.candidate_id, "idempotency_key": uuid4(), "claim_id": uuid4()}
    actor = {"kind": "user", "id": str(user_id)}
    asked = {**{key: str(value) for key, value in ids.items()}, "actor": actor, "expected": None, "is_retry": False}
    parameters = {"requests": json.dumps([asked]), "lease_seconds": LEASE_SECONDS}
    async with service_database.transaction() as session:  # one connection, so that no sweep runs in between
        held = f"UPDATE approval_intents SET next_attempt_at = now() + interval '{held_for}' WHERE candidate_id = :id"
        await session.execute(text(held), {"id": claim.candidate_id})
        taken = (await session.execute(queries.CLAIM, parameters)).mappings().one()["claim_id"]

    assert bool(taken) is is_over


async def test_a_retry_claims_no_other_waiting_approval(service_database, database, claimed):
    mine, other = await claimed(), await claimed()
    waits = text("UPDATE approval_intents SET claim_id = NULL, next_attempt_at = now() + interval '1 hour'")
    user_id = await database.fetchval("SELECT id FROM users LIMIT 1")
    ids = {"candidate_id": mine.candidate_id, "idempotency_key": uuid4(), "claim_id": uuid4()}
    actor = {"kind": "user", "id": str(user_id)}
    asked = {**{key: str(value) for key, value in ids.items()}, "actor": actor, "expected": None, "is_retry": True}
    async with service_database.transaction() as session:  # one connection, so that no sweep runs in between
        await session.execute(waits)
        parameters = {"requests": json.dumps([asked]), "lease_seconds": LEASE_SECONDS}
        claim = (await session.execute(queries.CLAIM, parameters)).mappings().one()
        left = await session.execute(text(READ_CLAIM.replace("$1", ":id")), {"id": other.candidate_id})
        left_alone = left.mappings().one()["claim_id"] is None

    assert claim["claim_id"] == ids["claim_id"]
    assert left_alone


@pytest.mark.parametrize(
    ("held_for", "state"),
    [("20 s", "in_progress"), ("-1 s", "waiting"), ("1 hour", "waiting"), ("10 years", "waiting")],
)
async def test_reject_and_resolve_treat_a_lease_longer_than_the_maximum_as_expired(
    service_database, claimed, held_for, state
):
    keys = {"candidate_id": (await claimed()).candidate_id}
    async with service_database.transaction() as session:  # one connection, so that no sweep runs in between
        held = f"UPDATE approval_intents SET next_attempt_at = now() + interval '{held_for}' WHERE candidate_id = :id"
        await session.execute(text(held), {"id": keys["candidate_id"]})
        seen = await session.execute(candidate_queries.FIND_OBSTACLE, keys | {"expected": None})
        rejecting = seen.mappings().one()["obstacle"]
        resolving = (await session.execute(queries.LOCK_APPROVAL, keys)).mappings().one()["state"]

    assert (rejecting, resolving) == (state, state)


async def test_a_candidate_that_another_transaction_decides_about_is_not_claimed(service_database, database, claimed):
    claim = await claimed()
    user_id = await database.fetchval("SELECT id FROM users LIMIT 1")
    await database.execute("DELETE FROM approval_intents")
    ids = {"candidate_id": claim.candidate_id, "idempotency_key": uuid4(), "claim_id": uuid4()}
    actor = {"kind": "user", "id": str(user_id)}
    asked = {**{key: str(value) for key, value in ids.items()}, "actor": actor, "expected": None, "is_retry": False}
    parameters = {"requests": json.dumps([asked]), "lease_seconds": LEASE_SECONDS}

    async with database.transaction():
        await database.execute("SELECT FROM candidates WHERE id = $1 FOR NO KEY UPDATE", claim.candidate_id)
        async with service_database.statement() as session:
            row = (await session.execute(queries.CLAIM, parameters)).mappings().one()

    assert (row["claim_id"], row["obstacle"]) == (None, None)


async def test_names_are_claimed_in_their_order(service_database, database, users, claimed):
    """Two statements that claim the same names in different orders would deadlock."""
    del users
    await claimed()  # a user to request them
    user_id = await database.fetchval("SELECT id FROM users LIMIT 1")
    prefix = uuid4().hex
    actor = {"kind": "user", "id": str(user_id)}
    requests = []
    for name in "zmaxb":
        email = f"{name}-{prefix}@obsthof.example"
        candidate_id = await database.fetchval(ADD_CANDIDATE, f"{prefix} {name}", email)
        ids = {"candidate_id": candidate_id, "idempotency_key": uuid4(), "claim_id": uuid4()}
        asked = {"actor": actor, "expected": None, "is_retry": False}
        requests.append({key: str(value) for key, value in ids.items()} | asked)

    async with service_database.statement() as session:
        parameters = {"requests": json.dumps(requests), "lease_seconds": LEASE_SECONDS}
        await session.execute(queries.CLAIM, parameters)

    stored = await database.fetch(
        "SELECT provider_name FROM approval_intents WHERE provider_name LIKE $1 ORDER BY ctid", f"{prefix} %"
    )
    assert [row["provider_name"][-1] for row in stored] == ["a", "b", "m", "x", "z"]


def test_no_process_holds_an_approval_for_longer_than_the_longest_lease():
    [most] = [
        each.le for each in Settings.model_fields["billing_deadline_seconds"].metadata if getattr(each, "le", None)
    ]

    assert most * LEASE_SHARE == LONGEST_SECONDS
