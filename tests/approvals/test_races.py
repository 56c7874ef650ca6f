"""A statement that waited for a row sees what was committed meanwhile, not the older version."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from uuid import UUID, uuid4

import asyncpg
import pytest

from provider_registration.auth import revocations
from provider_registration.auth.models import Role
from provider_registration.auth.revocations import RevocationWatch
from provider_registration.candidates.counts import recount
from provider_registration.candidates.service import CandidateService
from provider_registration.db.database import Database
from provider_registration.db.reading import Reader
from provider_registration.privacy.queries import ERASE_CANDIDATE, LOCK_CANDIDATE
from provider_registration.privacy.service import erase_person
from provider_registration.settings import DatabaseSettings
from tests.service import PASSWORD, make_settings, user_directory

WAITING = """
    SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'
"""
CLAIMED = """
    INSERT INTO approval_intents
        (candidate_id, idempotency_key, provider_name, requested_by, claim_id, next_attempt_at)
    SELECT $1, gen_random_uuid(), gen_random_uuid()::text, (SELECT min(id::text)::uuid FROM users), gen_random_uuid(),
           clock_timestamp() + make_interval(secs => 450)
"""


@asynccontextmanager
async def holding(url, *statements):
    """A transaction that has executed these statements; yields its connection, commits at the end of the block."""
    connection = await asyncpg.connect(url)
    try:
        async with connection.transaction():
            for statement, *values in statements:
                await connection.execute(statement, *values)
            yield connection
    finally:
        await connection.close()


async def until_waiting(url):
    """Return as soon as a statement waits for a lock."""
    connection = await asyncpg.connect(url)
    async with asyncio.timeout(20):
        while not await connection.fetchval(WAITING):
            await asyncio.sleep(0.02)
    await connection.close()


@pytest.fixture
async def patient(migrated_database_url):
    """The database as commands use it, without a timeout."""
    database = Database(DatabaseSettings(_env_file=None, database_url=migrated_database_url).database_url, pool_size=4)
    yield database
    await database.close()


@pytest.fixture
async def member(users, database):
    """The e-mail address and the id of a user."""
    email = f"{uuid4().hex}@example.com"
    await users.create(email, PASSWORD, Role.ADMIN)
    return email, await database.fetchval("SELECT id FROM users WHERE email = $1", email)


async def test_a_link_for_an_e_mail_does_not_outlive_the_erasure_that_it_waited_for(
    migrated_database_url, patient, database, register
):
    candidate = await register()
    email, candidate_id = candidate["contact_email"], UUID(candidate["candidate_id"])
    candidates = CandidateService(patient, Reader(patient, None), list, creates_status_links=True)
    async with patient.transaction() as session:
        await session.execute(LOCK_CANDIDATE, {"email_canonical": email})
        adding = asyncio.create_task(candidates.add_status_link(candidate_id))
        await until_waiting(migrated_database_url)
        await session.execute(ERASE_CANDIDATE, {"candidate_id": candidate_id})

    assert await adding is None
    assert await database.fetchval("SELECT count(*) FROM status_links WHERE candidate_id = $1", candidate_id) == 0
    assert await candidates.add_status_link(candidate_id) is None


BEGIN_SESSION = "INSERT INTO sessions (user_id, expires_at) VALUES ($1, now() + interval '1 hour')"

TAKING_AWAY = {
    "password": lambda users, _, email: users.set_password(email, "another good password"),
    "role": lambda users, _, email: users.set_role(email, Role.VIEWER),
    "access": lambda users, _, email: users.disable(email),
    "all data": lambda _, database, email: erase_person(database, email),
}


@pytest.mark.asvs("V7.4.2", "V7.4.3")
@pytest.mark.parametrize("take_away", TAKING_AWAY.values(), ids=TAKING_AWAY)
async def test_a_session_that_begins_while_something_is_taken_away_ends_too(
    migrated_database_url, users, patient, member, database, take_away
):
    email, user_id = member
    share = ("SELECT FROM users WHERE id = $1 FOR SHARE", user_id)  # as a login does
    async with holding(migrated_database_url, share, (BEGIN_SESSION, user_id)):
        taking = asyncio.create_task(take_away(users, patient, email))
        await until_waiting(migrated_database_url)
    await taking

    ends = await database.fetch("SELECT revoked_at FROM sessions WHERE user_id = $1", user_id)
    assert [row["revoked_at"] is not None for row in ends] == [True]


async def ended_everywhere(url, database, user_id, end):
    """Whether another process sees the end of each of three sessions; each one waited for the one before."""
    sessions = [await database.fetchval(f"{BEGIN_SESSION} RETURNING id", user_id) for _ in range(3)]
    elsewhere = Database(DatabaseSettings(_env_file=None, database_url=url).database_url, pool_size=1)
    watch = RevocationWatch(elsewhere)
    await watch.refresh()
    async with holding(url, ("SELECT FROM sessions WHERE id = $1 FOR UPDATE", max(sessions))):
        ending = asyncio.create_task(end())
        await until_waiting(url)
        for _ in range(10):
            await asyncio.sleep(0.1)
            await watch.refresh()
    await ending
    await watch.refresh()
    await elsewhere.close()
    return [await watch.is_revoked(session) for session in sessions]


@pytest.fixture
def short_overlap(monkeypatch):
    """Shorten the overlap, so that a wait of one second is too long, as one of 75 seconds is in production."""
    monkeypatch.setattr(revocations, "OVERLAP_SECONDS", 0.4)


@pytest.mark.asvs("V7.4.2", "V7.4.3")
@pytest.mark.usefixtures("short_overlap")
@pytest.mark.parametrize("take_away", TAKING_AWAY.values(), ids=TAKING_AWAY)
async def test_sessions_that_end_after_a_long_wait_have_ended_everywhere(
    migrated_database_url, users, patient, member, database, take_away
):
    email, user_id = member

    ended = await ended_everywhere(migrated_database_url, database, user_id, lambda: take_away(users, patient, email))

    assert ended == [True] * 3


@pytest.mark.usefixtures("short_overlap")
async def test_all_sessions_that_end_after_a_long_wait_have_ended_everywhere(own_database_url):
    connection = await asyncpg.connect(own_database_url)
    async with user_directory(own_database_url) as users:
        user_id = await users.create("a@example.com", PASSWORD, Role.ADMIN)

        assert await ended_everywhere(own_database_url, connection, user_id, users.end_all_sessions) == [True] * 3
    await connection.close()


@pytest.fixture
async def slow_billing(migrated_database_url, shared_billing_url, run_service, connect, tokens):
    """An admin of a service whose claims last as long as the settings allow."""
    settings = make_settings(migrated_database_url, shared_billing_url, billing_deadline_seconds=300)
    async with run_service(settings) as service, connect(service.url, tokens[Role.ADMIN]) as client:
        yield client


LOCK = "SELECT FROM candidates WHERE id = $1 FOR UPDATE"
REJECTED = "UPDATE candidates SET status = 'rejected' WHERE id = $1"
RACES = {
    "an approval meets a claim": ("approve", CLAIMED, "approval-in-progress"),
    "a rejection meets a claim": ("reject", CLAIMED, "approval-in-progress"),
    "an approval meets a rejection": ("approve", REJECTED, "candidate-not-pending"),
    "a rejection meets a rejection": ("reject", REJECTED, "candidate-not-pending"),
    "a retry meets a rejection": ("approval/retry", REJECTED, "candidate-not-pending"),
}


@pytest.mark.parametrize(("decision", "meanwhile", "code"), RACES.values(), ids=RACES)
async def test_a_decision_that_waited_sees_what_was_decided_meanwhile(
    migrated_database_url, slow_billing, register, database, decision, meanwhile, code
):
    candidate_id = UUID((await register())["candidate_id"])
    async with holding(migrated_database_url, (LOCK, candidate_id)) as holder:
        deciding = asyncio.create_task(slow_billing.post(f"/candidates/{candidate_id}/{decision}"))
        await until_waiting(migrated_database_url)
        await asyncio.sleep(0.2)  # so that later events are later than the start of the wait
        await holder.execute(meanwhile, candidate_id)
    answer = await deciding

    await database.execute("DELETE FROM approval_intents WHERE candidate_id = $1", candidate_id)
    assert answer.json()["type"].rpartition(":")[2] == code


WAITS = "UPDATE approval_intents SET claim_id = NULL WHERE candidate_id = $1"
TAKEN = "UPDATE approval_intents SET claim_id = gen_random_uuid() WHERE candidate_id = $1"  # as a sweep does


@pytest.mark.parametrize("decision", ["approve", "approval/retry"])
async def test_a_waiting_approval_that_a_sweep_claims_first_is_not_claimed_again(
    migrated_database_url, slow_billing, register, database, decision
):
    candidate_id = UUID((await register())["candidate_id"])
    for statement in (CLAIMED, WAITS):
        await database.execute(statement, candidate_id)
    async with holding(migrated_database_url, (TAKEN, candidate_id)) as sweep:
        claim_id = await sweep.fetchval("SELECT claim_id FROM approval_intents WHERE candidate_id = $1", candidate_id)
        deciding = asyncio.create_task(slow_billing.post(f"/candidates/{candidate_id}/{decision}"))
        await until_waiting(migrated_database_url)
    answer = await deciding

    left = "DELETE FROM approval_intents WHERE candidate_id = $1 RETURNING claim_id"
    assert await database.fetchval(left, candidate_id) == claim_id
    assert answer.json()["type"].endswith(":approval-in-progress")


async def test_the_counts_are_right_when_many_recount_and_write_at_once(
    migrated_database_url, patient, anonymous, registration, database
):
    await database.execute("DELETE FROM candidate_counts")

    async def register_some():
        for _ in range(5):
            answer = await anonymous.post("/candidates", json=registration())
            assert answer.status_code == 201

    await asyncio.gather(*(recount(patient) for _ in range(4)), *(register_some() for _ in range(4)))

    assert await recount(patient) == {}
