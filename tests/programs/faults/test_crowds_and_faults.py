"""Concurrency, replicas and a failing billing service: one provider for each approved candidate, none for others."""

from __future__ import annotations

import pytest

from .billing_faults import lose_answers, meet_foreign_companies
from .crowds import approve_in_a_crowd, race_decisions
from .dead_billing import HURRIED, never_answer, refuse_connections
from .hanging_billing import hang_during_approvals
from .replicas import sweep_together
from .state_machine import explore


async def test_two_replicas_sweep_each_approval_once(world, random):
    findings = await sweep_together(world, random, intents=20)

    assert not findings.problems


@pytest.mark.parametrize("mode", ["commit_then_hang", "commit_then_500", "commit_then_reset"])
async def test_a_provider_whose_response_was_lost_is_adopted(world, random, mode):
    findings = await lose_answers(world, random, mode=mode)

    assert not findings.problems


async def test_another_companys_provider_is_never_adopted(world, random):
    findings = await meet_foreign_companies(world, random)

    assert not findings.problems


async def test_of_fifty_approvals_at_once_one_counts(world, random):
    findings = await approve_in_a_crowd(world, random, trials=1)

    assert not findings.problems


async def test_of_approval_and_rejection_one_counts(world, random):
    findings = await race_decisions(world, random, races=24)

    assert not findings.problems


async def test_a_hanging_billing_service_holds_no_database_connection(world, random):
    # Other tests run concurrently: only the full run measures the speed of reads.
    findings = await hang_during_approvals(world, random, approvals=30, seconds=3, longest_read=3)

    assert not findings.problems


async def test_billing_that_refuses_connections_gets_few_requests_and_is_used_again(world, random):
    findings = await refuse_connections(world, random, approvals=30, settings=HURRIED)

    assert not findings.problems


async def test_billing_that_never_responds_gets_few_requests_and_is_used_again(world, random):
    findings = await never_answer(world, random, approvals=20, settings=HURRIED)

    assert not findings.problems


async def test_random_histories_end_well(world, random):
    findings = await explore(world, random, examples=1, steps=8)

    assert not findings.problems
