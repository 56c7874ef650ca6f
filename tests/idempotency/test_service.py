"""Keys are taken and answers kept in the transaction of the effect, on a real PostgreSQL."""

from __future__ import annotations

from datetime import timedelta
from uuid import uuid4

import pytest
from pydantic import BaseModel

from provider_registration.idempotency.dependencies import parse_key
from provider_registration.idempotency.errors import KeyInUse, KeyInvalid, KeyReused
from provider_registration.idempotency.models import Kept, Key, fingerprint_of
from provider_registration.idempotency.service import end_open, keep, take
from provider_registration.idempotency.upkeep import BATCH, prune

KEY = "0f8e6b1c-54d3-4a5e"


@pytest.fixture(autouse=True)
async def no_keys(database):
    await database.execute("DELETE FROM idempotency_keys")


def a_key(content: str = "content") -> Key:
    return Key.of("user:1", "POST", "/jobs", uuid4().hex, fingerprint=content.encode().hex())


def again(key: Key, content: str = "content") -> Key:
    return Key(key.hash, content.encode().hex())


async def test_a_new_key_keeps_its_answer(pool):
    key, repeated = a_key(), None
    async with pool.transaction() as session:
        assert await take(session, key) is None
        await keep(session, key, {"job_id": "7"})
    async with pool.transaction() as session:
        repeated = again(key)
        assert await take(session, repeated) == Kept({"job_id": "7"}, None)
    assert (key.is_replay, repeated.is_replay) == (False, True)


async def test_without_the_effect_nothing_is_kept(pool):
    key = a_key()
    with pytest.raises(ZeroDivisionError):
        async with pool.transaction() as session:
            await take(session, key)
            await keep(session, key, {})
            raise ZeroDivisionError
    async with pool.transaction() as session:
        assert await take(session, key) is None


async def test_a_key_that_is_held_is_in_use_at_once(pool):
    key = a_key()
    async with pool.transaction() as first, pool.transaction() as second:
        await take(first, key)
        await keep(first, key, {})
        with pytest.raises(KeyInUse):
            await take(second, again(key))
        assert await take(second, a_key()) is None


async def test_repeats_at_the_same_time_all_get_the_answer(pool):
    key = a_key()
    async with pool.transaction() as session:
        await take(session, key)
        await keep(session, key, {"job_id": "7"})
    async with pool.transaction() as first, pool.transaction() as second:
        assert await take(first, again(key)) == await take(second, again(key)) == Kept({"job_id": "7"}, None)


async def test_other_content_is_refused(pool):
    key = a_key()
    async with pool.transaction() as session:
        await take(session, key)
        await keep(session, key, {})
    async with pool.transaction() as session:
        with pytest.raises(KeyReused):
            await take(session, again(key, "other"))


async def test_an_expired_key_is_new_and_can_be_kept_again(pool, database):
    key = a_key()
    async with pool.transaction() as session:
        await take(session, key)
        await keep(session, key, {"job_id": "7"})
    await database.execute("UPDATE idempotency_keys SET created_at = now() - interval '24 hours 1 second'")
    async with pool.transaction() as session:
        assert await take(session, again(key, "other")) is None
        await keep(session, again(key, "other"), {"job_id": "8"})
    async with pool.transaction() as session:
        assert await take(session, again(key, "other")) == Kept({"job_id": "8"}, None)


@pytest.mark.parametrize(("answer", "then"), [(None, None), ({"obstacle": "x"}, {"obstacle": "x"})])
async def test_an_open_key_is_released_or_answered(pool, answer, then):
    key, candidate_id = a_key(), uuid4()
    async with pool.transaction() as session:
        await take(session, key)
        await keep(session, key, None, candidate_id=candidate_id)
    async with pool.transaction() as session:
        assert await take(session, again(key)) == Kept(None, candidate_id)
        await end_open(session, candidate_id, answer)
    async with pool.transaction() as session:
        assert await take(session, again(key)) == (Kept(then, candidate_id) if then else None)


async def test_the_answer_to_an_approval_that_took_long_is_kept_from_then_on(pool, database):
    key, candidate_id = a_key(), uuid4()
    async with pool.transaction() as session:
        await take(session, key)
        await keep(session, key, None, candidate_id=candidate_id)
    await database.execute("UPDATE idempotency_keys SET created_at = now() - interval '25 hours'")
    async with pool.transaction() as session:
        await end_open(session, candidate_id, {"obstacle": "x"})
    async with pool.transaction() as session:
        assert await take(session, again(key)) == Kept({"obstacle": "x"}, candidate_id)


async def test_an_open_key_that_is_held_is_in_use(pool):
    key, candidate_id = a_key(), uuid4()
    async with pool.transaction() as session:
        await take(session, key)
        await keep(session, key, None, candidate_id=candidate_id)
    async with pool.transaction() as first, pool.transaction() as second:
        await take(first, again(key))
        with pytest.raises(KeyInUse):
            await take(second, again(key))


INSERT = """
    INSERT INTO idempotency_keys (key_hash, fingerprint, candidate_id, answer, created_at)
    SELECT sha256(convert_to(CAST(n AS text) || $1, 'UTF8')), '', CAST($2 AS uuid), CAST($3 AS jsonb),
           now() - CAST($4 AS interval)
    FROM generate_series(1, $5) AS n
"""


async def test_expired_rows_are_deleted_in_bounded_batches(pool, database):
    await database.execute(INSERT, "old", None, "{}", timedelta(hours=25), BATCH + 10)
    await database.execute(INSERT, "new", None, "{}", timedelta(hours=23), 5)

    assert await prune(pool)
    assert await database.fetchval("SELECT count(*) FROM idempotency_keys") == 15
    assert not await prune(pool)
    assert await database.fetchval("SELECT count(*) FROM idempotency_keys") == 5


class Content(BaseModel):
    name: str
    note: str | None = None


class LaterContent(Content):
    color: str = "red"


def test_the_fingerprint_is_of_the_content_and_not_of_its_spelling():
    first = fingerprint_of(Content.model_validate_json('{"name": "A", "note": null}'))
    assert first == fingerprint_of(Content.model_validate_json('{"name":"\\u0041"}'))
    assert first == fingerprint_of(LaterContent(name="A"))
    assert first != fingerprint_of(Content(name="B"))
    assert first != fingerprint_of(Content(name="A"), [1])


@pytest.mark.parametrize(
    ("lines", "key"),
    [
        ([], None),
        ([KEY], KEY),
        ([f'"{KEY}"'], KEY),
        (["k" * 16], "k" * 16),
        (["~" * 255], "~" * 255),
        ([f'"{"k" * 255}"'], "k" * 255),
        (["it's\"a\\bare,key;"], "it's\"a\\bare,key;"),
        ([r'"escaped\"and\\more0"'], r'escaped"and\more0'),
    ],
)
def test_a_key_may_be_bare_or_quoted(lines, key):
    assert parse_key(lines) == key


@pytest.mark.parametrize(
    "lines",
    [
        [""],
        ["k" * 15],
        ["k" * 256],
        [f'"{"k" * 15}"'],
        [f'"{"k" * 256}"'],
        [f'"{KEY}'],
        [f'"{KEY}";a=1'],
        [f'"{KEY}"{KEY}"'],
        [f'"{KEY}\\"'],
        ["with a space in it"],
        ['"with a space in it"'],
        ["schlüssel-mit-umlaut"],
        ["k" * 16 + "\n"],
        ["k" * 16 + "\t"],
        [KEY, KEY],
        [KEY, ""],
    ],
)
def test_other_keys_are_invalid(lines):
    with pytest.raises(KeyInvalid):
        parse_key(lines)
