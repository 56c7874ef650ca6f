"""Rows locked by an open transaction: requests for these wait or fail; others of the same batch do not."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager
from time import monotonic
from uuid import UUID, uuid4

import asyncpg
import pytest
from sqlalchemy import text

from provider_registration.approvals.batches import ApprovalBatches
from provider_registration.approvals.models import ClaimRequest, CreatedProvider
from provider_registration.audit.models import Actor
from provider_registration.auth.models import Role
from provider_registration.candidates import queries
from provider_registration.candidates.errors import ApprovalUnfinished
from provider_registration.candidates.models import Rejection
from provider_registration.candidates.service import CandidateService
from provider_registration.db import batching
from provider_registration.db.database import BATCH_LOCK_TIMEOUT, Database, RowLocked
from provider_registration.db.reading import Reader
from provider_registration.settings import DatabaseSettings
from tests.service import PASSWORD

SOON = 4.0  # seconds; waiting for the locked row would take 9
INSERT = """
    INSERT INTO candidates (company_name, contact_email, products, truck_count, capacity_tons_per_day)
    VALUES ('Held', $1, '{apples}', 1, 1) RETURNING id
"""

INSERT_WITH_CANONICAL = """
    INSERT INTO candidates
        (company_name, contact_email, contact_email_canonical, products, truck_count, capacity_tons_per_day)
    VALUES ('Held', 'x' || $1, $1, '{apples}', 1, 1)
"""


@asynccontextmanager
async def open_transaction(url, *statements):
    """A transaction that has executed these statements; it is rolled back at the end of the block."""
    connection = await asyncpg.connect(url)
    transaction = connection.transaction()
    await transaction.start()
    try:
        for statement, *values in statements:
            await connection.execute(statement, *values)
        yield
    finally:
        await transaction.rollback()
        await connection.close()


async def timed(awaitable):
    began = monotonic()
    result = await awaitable
    return result, monotonic() - began


async def test_an_address_that_is_held_fails_alone(migrated_database_url, anonymous, service, connect, registration):
    held = f"{uuid4().hex}@obsthof.example"
    bodies = [registration(**({"contact_email": held} if n % 20 == 0 else {})) for n in range(420)]
    async with open_transaction(migrated_database_url, (INSERT, held)), AsyncExitStack() as stack:
        # httpx looks through all requests of a client for each of them: for 420, that takes 8 s of processor time.
        clients = [await stack.enter_async_context(connect(service.url)) for _ in range(20)]
        answers = await asyncio.gather(
            # An address may have a hundred requests at once.
            *(
                clients[n % 20].post("/candidates", json=body, headers={"X-Forwarded-For": f"192.0.2.{n % 20}"})
                for n, body in enumerate(bodies)
            )
        )

    refused = answers[::20]
    assert {answer.status_code for answer in refused} == {503}
    assert all("Retry-After" in answer.headers for answer in refused)
    assert [answer.status_code for n, answer in enumerate(answers) if n % 20] == 399 * [201]
    async with asyncio.timeout(10):  # it is refused until LOCKED_SECONDS are over
        while (await anonymous.post("/candidates", json=registration(contact_email=held))).status_code == 503:
            await asyncio.sleep(0.1)
    assert (await anonymous.post("/candidates", json=registration(contact_email=held))).status_code == 409


async def test_an_address_that_was_held_is_refused_in_any_spelling(
    migrated_database_url, anonymous, registration, monkeypatch
):
    monkeypatch.setattr(batching, "LOCKED_SECONDS", 600)
    unique = uuid4().hex
    canonical, *spellings = (f"{name}-{unique}@x.example" for name in ("strasse", "straße", "STRASSE"))
    async with open_transaction(migrated_database_url, (INSERT_WITH_CANONICAL, canonical)):
        assert (await anonymous.post("/candidates", json=registration(contact_email=spellings[0]))).status_code == 503

    # The row is free, and no one requests it.
    for spelling in (canonical, *spellings):
        assert (await anonymous.post("/candidates", json=registration(contact_email=spelling))).status_code == 503


@pytest.fixture
async def batches(migrated_database_url):
    url = DatabaseSettings(_env_file=None, database_url=migrated_database_url).database_url
    database = Database(url, pool_size=6, time_limit=10)
    yield ApprovalBatches(database, lease_seconds=30)
    await database.close()


@pytest.fixture
async def admin_id(database, tokens):
    return await database.fetchval("SELECT id FROM users WHERE email = 'admin@example.com'")


def request_for(candidate, admin_id):
    return ClaimRequest(UUID(candidate["candidate_id"]), uuid4(), uuid4(), Actor.user(admin_id), None, is_retry=False)


async def test_a_provider_name_that_is_held_keeps_no_other_approval_waiting(
    migrated_database_url, batches, admin_id, register
):
    candidates = [await register() for _ in range(12)]
    twin = await register(company_name=candidates[0]["company_name"])
    claim = (
        "INSERT INTO approval_intents (candidate_id, idempotency_key, provider_name, requested_by, next_attempt_at) "
        "VALUES ($1, $2, $3, $4, now())"
    )
    held = (claim, UUID(twin["candidate_id"]), uuid4(), twin["company_name"], admin_id)
    async with open_transaction(migrated_database_url, held):
        first, *others = [asyncio.create_task(batches.claim(request_for(each, admin_id))) for each in candidates]
        claims, seconds = await timed(asyncio.gather(*others))
        assert not first.done()

    assert [claim.candidate_id for claim in claims] == [UUID(c["candidate_id"]) for c in candidates[1:]]
    assert seconds < SOON
    assert (await first).candidate_id == UUID(candidates[0]["candidate_id"])  # the name was released


async def test_a_candidate_that_is_held_keeps_no_other_approval_from_ending(
    migrated_database_url, batches, admin_id, register
):
    candidates = [await register() for _ in range(12)]
    claims = await asyncio.gather(*(batches.claim(request_for(candidate, admin_id)) for candidate in candidates))
    lock = ("SELECT FROM candidates WHERE id = $1 FOR UPDATE", claims[0].candidate_id)
    first = 1_900_000_000
    made = [
        CreatedProvider(claim.candidate_id, claim.candidate_version, claim.idempotency_key, first + number)
        for number, claim in enumerate(claims)
    ]
    async with open_transaction(migrated_database_url, lock):
        results, seconds = await timed(asyncio.gather(*map(batches.finish, made), return_exceptions=True))

    assert [isinstance(result, RowLocked) for result in results] == [True] + 11 * [False]
    assert [candidate.provider_id for candidate in results[1:]] == [each.provider_id for each in made[1:]]
    assert seconds < SOON
    assert (await batches.finish(made[0])).provider_id == first


async def test_of_rejections_that_come_together_the_held_one_alone_is_left(migrated_database_url, users):
    user_id = await users.create(f"{uuid4().hex}@example.com", PASSWORD, Role.ADMIN)
    connection = await asyncpg.connect(migrated_database_url)
    ids = [await connection.fetchval(INSERT, f"{uuid4().hex}@obsthof.example") for _ in range(4)]
    await connection.close()
    database = Database(DatabaseSettings(_env_file=None, database_url=migrated_database_url).database_url, pool_size=1)
    candidates = CandidateService(database, Reader(database, None), list, creates_status_links=False)
    lock = ("SELECT FROM candidates WHERE id = $1 FOR UPDATE", ids[0])

    async with open_transaction(migrated_database_url, lock):
        outcomes = await candidates._reject([Rejection(id_, None, Actor.user(user_id), None) for id_ in ids[:3]])
    outcomes += await candidates._reject([Rejection(ids[3], None, Actor.user(user_id), None)])

    assert [getattr(outcome, "candidate_id", None) for outcome in outcomes] == [None, *ids[1:]]
    await database.close()


async def test_a_rejection_sees_an_approval_that_began_after_its_statement(
    migrated_database_url, users, database, monkeypatch
):
    user_id = await users.create(f"{uuid4().hex}@example.com", PASSWORD, Role.ADMIN)
    candidate_id = await database.fetchval(INSERT, f"{uuid4().hex}@obsthof.example")
    key = uuid4().int % 2**31
    # Waits between taking its snapshot and locking the candidate.
    waiting = queries.REJECT_CANDIDATES.text.replace(
        "(SELECT set_config(", f"(SELECT pg_advisory_xact_lock({key}), set_config(", 1
    )
    assert str(key) in waiting
    monkeypatch.setattr(queries, "REJECT_CANDIDATES", text(waiting).bindparams(queries.LONGEST, BATCH_LOCK_TIMEOUT))
    service_database = Database(
        DatabaseSettings(_env_file=None, database_url=migrated_database_url).database_url, pool_size=1
    )
    candidates = CandidateService(service_database, Reader(service_database, None), list, creates_status_links=False)
    begins = (
        "INSERT INTO approval_intents (candidate_id, idempotency_key, provider_name, requested_by, next_attempt_at) "
        "VALUES ($1, gen_random_uuid(), gen_random_uuid()::text, $2, now())"
    )

    async with open_transaction(migrated_database_url, (f"SELECT pg_advisory_xact_lock({key})",)):
        rejection = asyncio.create_task(candidates.reject(candidate_id, actor=Actor.user(user_id), reason=None))
        while not await database.fetchval("SELECT count(*) FROM pg_locks WHERE objid = $1 AND NOT granted", key):
            await asyncio.sleep(0.01)
        await database.execute(begins, candidate_id, user_id)

    with pytest.raises(ApprovalUnfinished):
        await rejection
    assert await database.fetchval("SELECT status FROM candidates WHERE id = $1", candidate_id) == "pending"
    await service_database.close()


async def test_a_member_of_staff_whose_row_is_held_keeps_no_other_rejection_waiting(
    migrated_database_url, users, service, connect, admin, register
):
    email = f"{uuid4().hex}@example.com"
    user_id = await users.create(email, PASSWORD, Role.ADMIN)
    async with connect(service.url) as other:
        answer = await other.post("/auth/login", json={"username": email, "password": PASSWORD})
        other.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"
        candidates = [await register() for _ in range(13)]
        paths = [f"/candidates/{candidate['candidate_id']}/reject" for candidate in candidates]
        async with open_transaction(migrated_database_url, ("SELECT FROM users WHERE id = $1 FOR UPDATE", user_id)):
            waiting = asyncio.create_task(other.post(paths[0]))
            answers, seconds = await timed(asyncio.gather(*(admin.post(path) for path in paths[1:])))

        assert {answer.status_code for answer in answers} == {200}
        assert seconds < SOON
        assert (await waiting).status_code == 200  # it waited only for the row
