"""Secrets in the database: only the key opens them, and only in their row."""

from __future__ import annotations

from itertools import pairwise

import pytest

from provider_registration.encryption import SecretBox, SecretUnreadable

OLD, NEW = "old" * 20, "new" * 20


@pytest.mark.asvs("V11.3")
def test_a_secret_is_sealed_for_its_row():
    box = SecretBox(OLD)
    sealed = box.seal(b"a secret", context="row 1")

    assert box.open(sealed, context="row 1") == b"a secret"
    assert b"a secret" not in sealed
    assert box.seal(b"a secret", context="row 1") != sealed
    with pytest.raises(SecretUnreadable):
        box.open(sealed, context="row 2")


def test_every_changed_byte_is_noticed():
    box = SecretBox(OLD)
    sealed = box.seal(b"a secret", context="row")

    for index in range(len(sealed)):
        changed = sealed[:index] + bytes([sealed[index] ^ 1]) + sealed[index + 1 :]
        with pytest.raises(SecretUnreadable):
            box.open(changed, context="row")
    for length in range(len(sealed)):
        with pytest.raises(SecretUnreadable):
            box.open(sealed[:length], context="row")


@pytest.mark.asvs("V11.1.1")
def test_at_every_step_of_a_rotation_processes_read_what_their_neighbours_write():
    steps = [SecretBox(OLD), SecretBox(OLD, NEW), SecretBox(NEW, OLD), SecretBox(NEW)]

    for before, after in pairwise(steps):
        assert after.open(before.seal(b"s", context="row"), context="row") == b"s" or after is steps[-1]
        assert before.open(after.seal(b"s", context="row"), context="row") == b"s"
    with pytest.raises(SecretUnreadable):
        steps[-1].open(steps[0].seal(b"s", context="row"), context="row")


def test_a_secret_shows_whether_it_has_the_current_key():
    box = SecretBox(NEW, OLD)

    assert box.seal(b"s", context="row").startswith(box.key_id)
    assert not SecretBox(OLD).seal(b"s", context="row").startswith(box.key_id)
