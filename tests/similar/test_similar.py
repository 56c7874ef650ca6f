"""Candidates that may be the same company: found through the API, whatever wrote them, and forgotten when erased."""

from __future__ import annotations

import asyncio
import secrets
import threading
from uuid import UUID, uuid4

import asyncpg
import pytest

from provider_registration.candidates.models import Candidate
from provider_registration.db.database import Database
from provider_registration.db.filling import Filler
from provider_registration.privacy.service import erase_person
from provider_registration.settings import DatabaseSettings
from provider_registration.similar import filling, service
from provider_registration.similar.filling import filler_of_keys, keep_keys_filled
from provider_registration.similar.service import SimilarService


def a_name():
    """A word that no other company has."""
    return "".join(secrets.choice("bcdfghklmnprst") + secrets.choice("aeiou") for _ in range(6)).title()


@pytest.fixture
def alike(admin):
    """The similar companies of a candidate, once a background task has filled their keys."""

    async def alike(candidate, count):
        async with asyncio.timeout(20):
            while True:
                response = await admin.get(f"/candidates/{candidate['candidate_id']}/similar")
                assert response.status_code == 200, response.text
                similar = response.json()["similar"]
                if len(similar) >= count:
                    return similar
                await asyncio.sleep(0.05)

    return alike


def others(*candidates):
    return [candidate["candidate_id"] for candidate in candidates]


async def test_the_reasons_and_the_decision_are_shown(register, admin, alike):
    name, domain, phone = a_name(), f"{a_name().lower()}.example", f"+49 221 {secrets.randbelow(10**7):07}"
    earlier = await register(company_name=f"{name} GmbH", contact_email=f"info@{domain}", phone=phone)
    reason = {"reason": "No cold chain"}
    assert (await admin.post(f"/candidates/{earlier['candidate_id']}/reject", json=reason)).status_code == 200
    later = await register(
        company_name=f"{name.upper()} Ltd", contact_email=f"sales@{domain}", phone=phone.replace("+49 ", "0")
    )

    [similar] = await alike(later, 1)

    assert similar["candidate_id"] == earlier["candidate_id"]
    assert (similar["company_name"], similar["status"]) == (f"{name} GmbH", "rejected")
    assert similar["rejection_reason"] == "No cold chain"
    assert similar["reasons"] == ["name", "email_domain", "phone"]
    assert similar["score"] == 1


async def test_the_likeliest_comes_first(register, alike):
    name, phone = a_name(), f"+49 221 {secrets.randbelow(10**7):07}"
    free = {"contact_email": f"{uuid4().hex}@gmail.com"}
    mistyped = await register(company_name=f"{name[:4]}x{name[4:]}", phone=None)
    by_phone = await register(company_name=a_name(), phone=phone)
    both = await register(company_name=f"{name} Inc.", phone=phone)
    one = await register(company_name=name, phone=phone, **free)

    similar = await alike(one, 3)

    assert [other["candidate_id"] for other in similar] == others(both, mistyped, by_phone)
    assert [other["reasons"] for other in similar] == [["name", "phone"], ["name"], ["phone"]]
    assert 0.8 < similar[1]["score"] < 1
    assert similar[2]["score"] == 0


async def test_free_mail_and_short_numbers_are_no_reason(register, admin, alike):
    name = a_name()
    await register(company_name=a_name(), contact_email=f"{uuid4().hex}@gmail.com", phone="12345")
    same = await register(company_name=name, contact_email=f"{uuid4().hex}@gmail.com", phone="12345")
    one = await register(company_name=name, contact_email=f"{uuid4().hex}@gmail.com", phone="12345")

    similar = await alike(one, 1)

    assert [(other["candidate_id"], other["reasons"]) for other in similar] == [(same["candidate_id"], ["name"])]


async def test_at_most_20_are_returned(register, alike):
    name = a_name()
    for _ in range(22):
        await register(company_name=name)
    one = await register(company_name=name)

    assert len(await alike(one, 20)) == 20


async def test_an_unknown_candidate_has_no_similar_ones(admin):
    assert (await admin.get(f"/candidates/{uuid4()}/similar")).status_code == 404


def opened(url, **options):
    return Database(DatabaseSettings(_env_file=None, database_url=url).database_url, **options)


@pytest.fixture
async def own(own_database_url):
    """A database of its own."""
    database = opened(own_database_url, pool_size=2)
    yield database
    await database.close()


async def keys_of(connection, candidate_id):
    return await connection.fetchval("SELECT keys FROM candidate_keys WHERE candidate_id = $1", candidate_id)


@pytest.fixture
async def connection(own_database_url):
    connection = await asyncpg.connect(own_database_url)
    yield connection
    await connection.close()


ADD = """
    INSERT INTO candidates (company_name, contact_email, products, truck_count, capacity_tons_per_day)
    VALUES ('Obsthof Kaspar', $1, '{apples}', 1, 1) RETURNING id
"""


# 10 ms for each candidate.
SLOW_KEYS = """
    CREATE FUNCTION wait_a_moment() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN PERFORM pg_sleep(0.01); RETURN NEW; END $$;
    CREATE TRIGGER wait_a_moment BEFORE UPDATE ON candidate_keys FOR EACH ROW EXECUTE FUNCTION wait_a_moment();
"""


async def test_rows_of_any_release_get_keys(own, connection):
    """A trigger adds them: a release without this table knows nothing of it."""
    candidate_id = await connection.fetchval(ADD, "a@kaspar.example")
    assert await keys_of(connection, candidate_id) is None

    assert await filler_of_keys(own).fill() == 1
    first = await keys_of(connection, candidate_id)
    await connection.execute("UPDATE candidates SET company_name = 'Sonnenhof' WHERE id = $1", candidate_id)
    assert await keys_of(connection, candidate_id) is None
    assert await filler_of_keys(own).fill() == 1

    assert await keys_of(connection, candidate_id) not in (None, first)
    assert await filler_of_keys(own).fill() == 0


async def test_no_process_waits_for_another_that_fills_keys(own, connection):
    """It would hold its locks on candidates meanwhile, for which decisions wait."""
    held, free = [await connection.fetchval(ADD, f"{name}@kaspar.example") for name in "ab"]
    filler = filler_of_keys(own)
    async with connection.transaction():
        await connection.execute("SELECT FROM candidate_keys WHERE candidate_id = $1 FOR UPDATE", held)
        async with asyncio.timeout(10):
            assert await filler.fill() == 1
        assert await keys_of(connection, held) is None
        assert await keys_of(connection, free)

    assert await filler.fill() == 1
    assert await keys_of(connection, held)


async def test_what_is_left_out_is_filled_in_the_next_pass(own, connection, monkeypatch):
    monkeypatch.setattr(filling, "BATCH", 1)
    first, second = sorted([await connection.fetchval(ADD, f"{name}@kaspar.example") for name in "ab"])
    filler = filler_of_keys(own)
    async with connection.transaction():
        await connection.execute("SELECT FROM candidate_keys WHERE candidate_id = $1 FOR UPDATE", first)
        assert [await filler.fill(), await filler.fill()] == [0, 1]
    assert await keys_of(connection, second)

    assert not filler.is_at_start
    assert await filler.fill() == 0
    assert filler.is_at_start
    assert await filler.fill() == 1
    assert await keys_of(connection, first)


async def test_keys_are_filled_by_a_slow_database(own_database_url, connection, monkeypatch):
    """As many at a time as it can fill within a statement's time."""
    monkeypatch.setattr(filling, "SECONDS", 0.01)
    await connection.execute(SLOW_KEYS)
    for number in range(40):
        await connection.execute(ADD.replace("RETURNING id", ""), f"{number}@kaspar.example")
    database = opened(own_database_url, pool_size=1, time_limit=0.3)
    task = asyncio.create_task(keep_keys_filled(database))
    async with asyncio.timeout(30):
        while await connection.fetchval("SELECT EXISTS (SELECT FROM candidate_keys WHERE word_keys IS NULL)"):
            await asyncio.sleep(0.05)
    task.cancel()
    await database.close()


async def test_nothing_is_kept_of_an_erased_candidate(own, connection):
    candidate_id = await connection.fetchval(ADD, "a@kaspar.example")
    await filler_of_keys(own).fill()
    assert await keys_of(connection, candidate_id)

    await erase_person(own, "a@kaspar.example")
    assert await keys_of(connection, candidate_id) is None

    await filler_of_keys(own).fill()
    assert await keys_of(connection, candidate_id) == []


async def test_names_are_compared_outside_the_event_loop(own, connection, monkeypatch):
    one, other = [await connection.fetchval(ADD, f"{name}@kaspar.example") for name in "ab"]
    await filler_of_keys(own).fill()
    compare, threads = service._compare, set()

    def watched(*arguments):
        threads.add(threading.get_ident())
        return compare(*arguments)

    monkeypatch.setattr(service, "_compare", watched)
    candidate = Candidate.model_construct(
        candidate_id=one, company_name="Obsthof Kaspar", contact_email="a@kaspar.example", phone=None
    )
    similar = await SimilarService(own).similar_to(candidate)

    assert [each.candidate_id for each in similar] == [other]
    assert len(threads) == 1
    assert threading.get_ident() not in threads


async def test_what_was_erased_while_keys_were_computed_is_not_stored(own, connection, monkeypatch):
    candidate_id = await connection.fetchval(ADD, "a@kaspar.example")
    compute, computed, erased = filling._with_keys, threading.Event(), threading.Event()

    def wait(rows):
        computed.set()
        erased.wait(20)
        return compute(rows)

    monkeypatch.setattr(filling, "_with_keys", wait)
    fill = asyncio.create_task(filler_of_keys(own).fill())
    await asyncio.to_thread(computed.wait, 20)
    await erase_person(own, "a@kaspar.example")
    erased.set()
    await fill

    assert await keys_of(connection, candidate_id) is None


async def test_the_task_goes_on_after_an_error(own, connection, monkeypatch):
    monkeypatch.setattr(filling, "SECONDS", 0.01)
    fill, failed = Filler.fill, []

    async def fail_once(self):
        if not failed:
            failed.append(True)
            raise RuntimeError
        return await fill(self)

    monkeypatch.setattr(Filler, "fill", fail_once)
    candidate_id = UUID(str(await connection.fetchval(ADD, "a@kaspar.example")))
    task = asyncio.create_task(keep_keys_filled(own))
    async with asyncio.timeout(20):
        while not await keys_of(connection, candidate_id):
            await asyncio.sleep(0.02)
    task.cancel()

    assert failed
