"""IDs of new candidates sort by the time of their registration, and cannot be guessed from it."""

from __future__ import annotations

import time
from datetime import datetime
from uuid import RFC_4122, UUID

from provider_registration.candidates.ids import new_candidate_id

AT_ONCE = 1000
SKEW = 60  # seconds between the clocks of the service and the database, at most


def seconds(candidate_id):
    return (candidate_id.int >> 80) / 1000


def test_they_are_uuids_of_version_7():
    before = time.time()

    made = [new_candidate_id() for _ in range(AT_ONCE)]

    assert {(each.version, each.variant) for each in made} == {(7, RFC_4122)}
    assert all(before - 0.001 <= seconds(each) <= time.time() for each in made)


def test_later_ones_sort_after_earlier_ones():
    earlier = new_candidate_id()
    time.sleep(0.002)

    assert earlier < new_candidate_id()


def test_every_other_bit_is_random():
    made = [new_candidate_id().int for _ in range(AT_ONCE)]

    ever, always = 0, made[0]
    for each in made:
        ever |= each
        always &= each
    varying = (ever & ~always) & ((1 << 80) - 1)
    assert varying == (1 << 80) - 1 - (0b1111 << 76) - (0b11 << 62)


async def test_a_registration_gets_one(register):
    candidate = await register()

    made = UUID(candidate["candidate_id"])
    assert made.version == 7
    assert abs(seconds(made) - datetime.fromisoformat(candidate["created_at"]).timestamp()) < SKEW
