"""Password hashing: Argon2id, off the event loop, equally slow for unknown and for known users."""

from __future__ import annotations

import asyncio
import threading
from contextlib import ExitStack

import pytest
from passlib.hash import argon2

from provider_registration.auth import passwords
from provider_registration.auth.errors import LoginsBusy, UnacceptablePassword
from provider_registration.auth.passwords import PasswordHasher

PASSWORD = "correct horse battery staple"


@pytest.fixture(scope="module")
def hasher():
    hasher = PasswordHasher()
    yield hasher
    hasher.close()


@pytest.fixture(scope="module")
async def password_hash(hasher):
    return await hasher.hash(PASSWORD)


async def test_the_password_is_verified_and_no_other(hasher, password_hash):
    assert (await hasher.verify(PASSWORD, password_hash)).is_correct
    for wrong in (PASSWORD + " ", PASSWORD.upper(), ""):
        assert not (await hasher.verify(wrong, password_hash)).is_correct


async def test_what_is_no_hash_is_no_password_either(hasher):
    for stored in ("!", "", "$2b$12$" + "x" * 53):
        assert not (await hasher.verify(PASSWORD, stored)).is_correct


@pytest.mark.asvs("V15.1.3", "V15.2.2")
def test_the_login_queue_is_bounded(hasher):
    with ExitStack() as line:
        for number in range(passwords.MAX_QUEUED):
            line.enter_context(hasher.queue(f"192.0.2.{number}"))
        with pytest.raises(LoginsBusy), hasher.queue("198.51.100.7"):
            pass
    with hasher.queue("198.51.100.7"):
        pass
    assert not hasher._queued  # nothing is kept for clients that have left


async def test_an_abandoned_check_is_skipped(password_hash, monkeypatch):
    checked, go_on = [], threading.Event()
    monkeypatch.setattr(passwords.ARGON2ID, "verify", lambda password, _: go_on.wait(20) and checked.append(password))
    hasher, has_left = PasswordHasher(threads=1), asyncio.Event()

    async def check_client():
        if has_left.is_set():
            raise ConnectionError

    first = asyncio.create_task(hasher.verify("first", password_hash, check_client=check_client))
    await asyncio.sleep(0)
    abandoned = [asyncio.create_task(hasher.verify("late", password_hash, check_client=check_client)) for _ in range(9)]
    last = asyncio.create_task(hasher.verify("last", password_hash))
    await asyncio.sleep(0)
    has_left.set()
    go_on.set()

    results = await asyncio.gather(first, *abandoned, last, return_exceptions=True)
    assert sum(isinstance(result, ConnectionError) for result in results) == len(abandoned)
    assert checked == ["first", "last"]
    hasher.close()


def test_one_client_cannot_fill_the_queue(hasher):
    with ExitStack() as line:
        for _ in range(passwords.MAX_QUEUED_PER_NETWORK):
            line.enter_context(hasher.queue("192.0.2.1"))
        with pytest.raises(LoginsBusy), hasher.queue("192.0.2.1"):
            pass
        with hasher.queue("198.51.100.7"):
            pass


@pytest.mark.asvs("V11.2.1", "V11.4.2")
async def test_a_hash_is_argon2id_with_the_recommended_cost(password_hash):
    assert password_hash.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert PASSWORD not in password_hash


async def test_two_hashes_of_one_password_differ(hasher, password_hash):
    assert await hasher.hash(PASSWORD) != password_hash


@pytest.mark.asvs("V6.2.1")
@pytest.mark.parametrize("password", ["", "1234567", "x" * 129, "x" * 100_000])
async def test_a_password_too_short_or_too_long_is_not_hashed(hasher, password):
    with pytest.raises(UnacceptablePassword, match="8 to 128 characters"):
        await hasher.hash(password)


@pytest.mark.asvs("V6.2.5")
@pytest.mark.parametrize("password", ["x" * 128, "пароль-🔑-密码", "  spaces  ", "می\u200cخواهم123"])
async def test_any_other_is(hasher, password):
    assert (await hasher.verify(password, await hasher.hash(password))).is_correct


@pytest.mark.asvs("V6.2.4")
@pytest.mark.parametrize("password", ["12345678", "password1", "PASSWORD1", "iloveyou", "qwertyuiop"])
async def test_a_common_password_is_refused(hasher, password):
    with pytest.raises(UnacceptablePassword, match="most common"):
        await hasher.hash(password)


async def test_a_hash_of_weaker_parameters_is_to_be_replaced(hasher, password_hash):
    weak = argon2.using(type="ID", memory_cost=8192, rounds=1, parallelism=1).hash(PASSWORD)

    assert (await hasher.verify(PASSWORD, weak)).new_hash.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert (await hasher.verify("wrong password", weak)).new_hash is None
    assert (await hasher.verify(PASSWORD, password_hash)).new_hash is None


@pytest.mark.asvs("V6.2.9")
async def test_all_128_characters_count(hasher):
    longest = "x" * 127 + "y"

    assert not (await hasher.verify("x" * 128, await hasher.hash(longest))).is_correct


async def test_without_a_hash_every_password_is_wrong(hasher):
    for password in (PASSWORD, "nobody's password"):
        assert not (await hasher.verify(password, None)).is_correct


@pytest.mark.asvs("V6.3.8")
async def test_unknown_and_known_users_cost_the_same(hasher, password_hash, monkeypatch):
    verified = []
    monkeypatch.setattr(
        passwords.ARGON2ID,
        "verify",
        lambda password, hash_: verified.append(hash_[:30]) or argon2.verify(password, hash_),
    )

    await hasher.verify(PASSWORD, password_hash)
    await hasher.verify(PASSWORD, None)

    assert len(verified) == 2
    assert len(set(verified)) == 1


@pytest.mark.asvs("V15.1.3", "V15.2.2")
async def test_hashing_keeps_off_the_event_loop_and_to_two_threads(hasher, password_hash, monkeypatch):
    threads = []

    def verify(password, hash_):
        threads.append(threading.current_thread().name)
        return argon2.verify(password, hash_)

    monkeypatch.setattr(passwords.ARGON2ID, "verify", verify)

    checks = await asyncio.gather(*(hasher.verify(PASSWORD, password_hash) for _ in range(8)))
    assert all(check.is_correct for check in checks)

    assert len(threads) == 8
    assert set(threads) <= {"password_0", "password_1"}


DECOMPOSED, COMPOSED = "u\u0308bermut\u3000tut gut", "übermut tut gut"


@pytest.mark.asvs("V6.2.8")
@pytest.mark.parametrize("typed", [DECOMPOSED, COMPOSED, "übermut\u00a0tut\u2003gut"])
async def test_a_password_is_right_however_its_letters_and_spaces_are_written(hasher, typed):
    for stored in (DECOMPOSED, COMPOSED):
        check = await hasher.verify(typed, await hasher.hash(stored))
        assert (check.is_correct, check.new_hash) == (True, None)


@pytest.mark.asvs("V6.2.8")
@pytest.mark.parametrize("typed", ["Übermut tut gut", "ubermut tut gut", "ｕbermut tut gut", "übermut  tut gut"])
async def test_case_accents_width_and_the_number_of_spaces_count(hasher, typed):
    assert not (await hasher.verify(typed, await hasher.hash(COMPOSED))).is_correct


@pytest.mark.asvs("V6.2.5")
@pytest.mark.parametrize("unfit", ["\x00", "\t", "\n", "\x7f", "\u200b", "\u202e", "\ufeff", "\ud800", "\ue000"])
async def test_a_new_password_has_no_character_that_cannot_be_seen(hasher, unfit):
    with pytest.raises(UnacceptablePassword) as refused:
        await hasher.hash(f"correct horse{unfit}battery")

    assert "horse" not in str(refused.value)


@pytest.mark.parametrize("old", [DECOMPOSED, "correct horse\x00battery", "correct\u200b horse", "hunter\ufe0f2 hunter"])
async def test_a_hash_of_what_was_typed_before_passwords_were_prepared_still_works(hasher, old):
    stored = passwords.ARGON2ID.hash(old)

    assert (await hasher.verify(old, stored)).is_correct
    assert not (await hasher.verify(old + " ", stored)).is_correct


async def test_such_a_hash_is_replaced_by_one_that_every_spelling_fits(hasher):
    better = (await hasher.verify(DECOMPOSED, passwords.ARGON2ID.hash(DECOMPOSED))).new_hash

    for typed in (DECOMPOSED, COMPOSED):
        check = await hasher.verify(typed, better)
        assert (check.is_correct, check.new_hash) == (True, None)


@pytest.mark.parametrize(("typed", "most"), [(PASSWORD, 1), (COMPOSED, 1), (DECOMPOSED, 2), ("e\u0301" * 64, 2)])
async def test_no_password_costs_more_than_two_checks(hasher, password_hash, monkeypatch, typed, most):
    verified = []
    monkeypatch.setattr(passwords.ARGON2ID, "verify", lambda password, _hash: verified.append(password))

    for stored in (password_hash, None):
        await hasher.verify(typed, stored)
        assert len(verified) == most
        verified.clear()


@pytest.mark.parametrize("longest", ["x" * 129, "e\u0301" * 65])
async def test_length_is_looked_at_before_anything_is_normalised(hasher, monkeypatch, longest):
    monkeypatch.delattr(passwords, "prepare_password")

    with pytest.raises(UnacceptablePassword, match="8 to 128 characters"):
        await hasher.hash(longest)
