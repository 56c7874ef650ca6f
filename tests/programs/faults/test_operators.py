"""Actions of operators during approvals: erase, recount, change releases.

Only the runner changes clocks, and reads from late replicas; tests/db/test_read_replica.py does the latter too.
"""

from __future__ import annotations

import pytest

from tests.older import NoHistory

from .erasures import erase_during_claims
from .kills import CONTRACTS, FAILPOINTS
from .mixed_versions import change_versions_at, race_between_versions
from .recounts import recount_together


async def test_an_erasure_and_an_approval_that_wait_for_one_row_come_one_after_the_other(world, random):
    findings = await erase_during_claims(world, random)

    assert not findings.problems


async def test_several_recounts_at_once_add_what_is_missing_once(world, random):
    findings = await recount_together(world, random)

    assert not findings.problems


@pytest.mark.parametrize("run", ["hand over", "race"])
async def test_the_release_before_works_beside_this_one(world, random, run):
    try:
        if run == "race":
            findings = await race_between_versions(world, random)
        else:
            findings = await change_versions_at(world, random.choice(FAILPOINTS), random.choice(CONTRACTS), random)
    except NoHistory as error:
        pytest.skip(str(error))

    assert not findings.problems
