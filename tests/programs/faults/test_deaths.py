"""Whatever dies or stops, at any point: each approval ends in exactly one way."""

from __future__ import annotations

import pytest

from .database_kills import kill_database_at
from .kills import CONTRACTS, FAILPOINTS, KEYS_HONOURED, KEYS_IGNORED, NOTHING_GUARDED, kill_at
from .lost_commits import TRANSACTIONS, lose_commit_of
from .overruled import DURING, overrule_at
from .pauses import pause_at
from .stuck_logs import approve_without_a_log, kill_without_a_log


def everywhere(run, places, choose_contract):
    return {
        f"{place}, {contract.name}": lambda world, random, place=place, contract=contract: run(
            world, place, contract, random
        )
        for place in places
        for contract in [choose_contract()]
    }


@pytest.mark.asvs("V2.3.3")
async def test_killed_at_any_failpoint_the_service_finishes_after_a_restart(at_each):
    await at_each(everywhere(kill_at, FAILPOINTS, lambda: KEYS_HONOURED))


async def test_killed_at_half_of_the_failpoints_it_makes_no_second_provider_where_keys_are_ignored(at_each, random):
    points = random.sample(FAILPOINTS, len(FAILPOINTS) // 2)  # the full run tests them all
    await at_each(everywhere(kill_at, points, lambda: random.choice([KEYS_IGNORED, NOTHING_GUARDED])))


async def test_stopped_at_half_of_the_failpoints_another_replica_takes_over_and_both_agree(at_each, random):
    points = random.sample(FAILPOINTS, len(FAILPOINTS) // 2)  # the full run tests them all
    await at_each(everywhere(pause_at, points, lambda: random.choice(CONTRACTS)))


async def test_lost_acknowledgements_of_commits_change_nothing(at_each, random):
    await at_each(everywhere(lose_commit_of, TRANSACTIONS, lambda: random.choice([KEYS_HONOURED, KEYS_IGNORED])))


async def test_rejected_by_hand_during_the_call_an_approval_ends_with_one_orphan(at_each, random):
    points = random.sample(DURING, 2)  # the full run tests them all
    await at_each(everywhere(overrule_at, points, lambda: random.choice(CONTRACTS)))


async def test_killed_with_an_unread_log_the_service_finishes_after_a_restart(at_each, random):
    points = random.sample(FAILPOINTS, 3)  # the full run tests them all
    await at_each(everywhere(kill_without_a_log, points, lambda: random.choice([KEYS_HONOURED, KEYS_IGNORED])))


async def test_approvals_continue_with_an_unread_log(world, random):
    findings = await approve_without_a_log(world, random)

    assert not findings.problems


async def test_postgresql_killed_at_any_failpoint_is_survived(mortal_world, random):
    for failpoint in random.sample(FAILPOINTS, 5):  # the full run tests them all
        contract = random.choice(CONTRACTS)
        findings = await kill_database_at(mortal_world, failpoint, contract, random)
        assert not findings.problems, (failpoint, contract, findings.problems)
        await mortal_world.clear()
