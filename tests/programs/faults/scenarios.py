"""Every scenario by name, and how often the full run repeats it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from random import Random

from .billing_faults import lose_answers, meet_foreign_companies
from .clock_steps import step_at
from .crowds import approve_in_a_crowd, race_decisions
from .database_kills import kill_database_at
from .dead_billing import fail_for_some, never_answer, refuse_connections
from .erasures import erase_during_claims
from .event_log import (
    PLACES,
    kill_database_of_dispatchers,
    kill_dispatchers_at,
    leave_transactions_open,
    stop_dispatcher,
)
from .hanging_billing import hang_during_approvals
from .invariants import Findings
from .kills import (
    CONTRACTS,
    DISPATCHING,
    FAILPOINTS,
    IMPORTING,
    KEYS_HONOURED,
    KEYS_IGNORED,
    NOTHING_GUARDED,
    Contract,
    kill_at,
)
from .late_replicas import read_from_late_replicas
from .lost_commits import TRANSACTIONS, lose_commit_of
from .many_decisions import PLACES as JOB_PLACES
from .many_decisions import kill_workers_at
from .many_rows import kill_importers_at
from .mixed_versions import change_versions_at, race_between_versions
from .outgoing import DATABASE_PLACES, SENDING, kill_database_of_senders_at, kill_senders_at
from .overruled import DURING, overrule_at
from .pauses import pause_at
from .recounts import recount_together
from .repeats import PLACES_OF_REPEATS, repeat_after_kill_at
from .replicas import sweep_together
from .state_machine import explore
from .stuck_logs import approve_without_a_log, kill_without_a_log
from .world import World

HOLDING_LOCKS = ("approval.before-release-commit", "sweep.before-claim-commit", "resolve.before-commit")
KILLS = 5  # of a run, where messages may be interrupted


@dataclass(frozen=True)
class Scenario:
    """One scenario. `runs` is its number of runs in the full run; `group` is its row in the table.

    Those that are `alone` measure time or kill shared servers, so nothing else runs at the same time.
    """

    name: str
    group: str
    run: Callable[[World, Random], Awaitable[Findings]]
    runs: int
    alone: bool = False


def _at_every(
    group: str,
    run: Callable[[World, str, Contract, Random], Awaitable[Findings]],
    places: tuple[str, ...],
    runs: int,
    *,
    alone: bool = False,
    contracts: tuple[Contract, ...] = CONTRACTS,
) -> list[Scenario]:
    def at(place: str, contract: Contract) -> Callable[[World, Random], Awaitable[Findings]]:
        return lambda world, random: run(world, place, contract, random)

    return [
        Scenario(f"{group}: {place}, {contract.name}", f"{group}, {contract.name}", at(place, contract), runs, alone)
        for place in places
        for contract in contracts
        if (place, contract) != ("keep waiting", NOTHING_GUARDED)  # which never repeats, so nothing waits for it
    ]


def _at_each_place(
    what: str, run: Callable[..., Awaitable[Findings]], places: tuple[str, ...], *, alone: bool = False
) -> list[Scenario]:
    """Several kills at each of the places where messages may be interrupted."""

    def at(place: str) -> Callable[[World, Random], Awaitable[Findings]]:
        return lambda world, random: run(world, [place] * KILLS, random)

    return [Scenario(f"{what}: {place}", f"{what}: {place}", at(place), 20 // KILLS, alone) for place in places]


async def _kill_dispatchers(world: World, random: Random, *, place: str, pooled: bool = False) -> Findings:
    return await kill_dispatchers_at(world, place, random, pooled=pooled)


SCENARIOS = [
    *_at_every("kill -9", kill_at, FAILPOINTS, 30, contracts=(KEYS_HONOURED, KEYS_IGNORED)),
    *_at_every("kill -9", kill_at, FAILPOINTS, 10, contracts=(NOTHING_GUARDED,)),
    *_at_every("SIGSTOP", pause_at, FAILPOINTS, 4),
    *_at_every(
        "long SIGSTOP",
        partial(pause_at, longer_than_a_transaction=True),
        HOLDING_LOCKS,
        2,
        contracts=(KEYS_HONOURED, KEYS_IGNORED),
    ),
    *_at_every("commit unacknowledged", lose_commit_of, tuple(TRANSACTIONS), 8),
    *_at_every("PostgreSQL killed", kill_database_at, FAILPOINTS, 3, alone=True),
    *_at_every("rejected by hand during the call", overrule_at, DURING, 8),
    *_at_every("kill -9 without a log", kill_without_a_log, FAILPOINTS, 2, contracts=(KEYS_HONOURED, KEYS_IGNORED)),
    *_at_every("two releases", change_versions_at, FAILPOINTS, 3),
    *_at_every("clocks set", step_at, FAILPOINTS, 2, alone=True),
    Scenario("erase", "erase 30 candidates during their approvals", partial(erase_during_claims, rounds=5), 20),
    Scenario("recount", "4 recounts at once during writes", recount_together, 20),
    Scenario("nobody reads the log", "20 approvals and 8,000 lines nobody reads", approve_without_a_log, 5),
    Scenario(
        "race of releases",
        "approve against reject, two releases, 200 times",
        partial(race_between_versions, races=200),
        5,
    ),
    Scenario(
        "late replica",
        "32 decisions, one of two read replicas late",
        partial(read_from_late_replicas, decisions=16),
        5,
        alone=True,
    ),
    Scenario("two replicas sweep", "two replicas sweep 50 intents", sweep_together, 10),
    *(
        # Few enough for the retry budget of one replica.
        Scenario(f"answer lost: {mode}", f"{mode}, 20 approvals", partial(lose_answers, mode=mode, approvals=20), 10)
        for mode in ("commit_then_hang", "commit_then_500", "commit_then_reset")
    ),
    Scenario(
        "foreign company", "another company's name, 100 approvals", partial(meet_foreign_companies, approvals=100), 1
    ),
    *(
        Scenario(f"events, kill -9: {place}", "events, kill -9", partial(_kill_dispatchers, place=place), 20)
        for place in PLACES
    ),
    *(
        Scenario(
            f"events through PgBouncer, kill -9: {place}",
            "events through PgBouncer, kill -9",
            partial(_kill_dispatchers, place=place, pooled=True),
            20,
        )
        for place in DISPATCHING
    ),
    Scenario("events, a dispatcher stopped", "events, a dispatcher stopped in its transaction", stop_dispatcher, 20),
    Scenario("events, PostgreSQL killed", "events, PostgreSQL killed", kill_database_of_dispatchers, 20, alone=True),
    *(
        Scenario(
            f"events, transactions left open{how}",
            f"events, transactions left open for 30 s{how}",
            partial(leave_transactions_open, seconds=30.0, pooled=pooled),
            20,
        )
        for how, pooled in (("", False), (" beside PgBouncer", True))
    ),
    *_at_each_place("messages, kill -9", kill_senders_at, (*SENDING, *PLACES)),
    *_at_each_place("messages, PostgreSQL killed", kill_database_of_senders_at, DATABASE_PLACES, alone=True),
    *(
        Scenario(
            f"repeat after kill -9: {place}", "repeat after kill -9", partial(repeat_after_kill_at, place=place), 20
        )
        for place in PLACES_OF_REPEATS
    ),
    *_at_each_place("jobs, kill -9", kill_workers_at, JOB_PLACES),
    *_at_each_place("imports, kill -9", kill_importers_at, IMPORTING),
    Scenario("crowd", "50 approvals at once, 50 times", partial(approve_in_a_crowd, trials=50), 20),
    Scenario("race", "approve against reject, 500 times", partial(race_decisions, races=500), 20),
    Scenario("histories", "5 random histories", partial(explore, examples=5), 20),
    Scenario("billing hangs", "100 approvals while billing hangs 10 s", hang_during_approvals, 5, alone=True),
    Scenario("billing refuses connections", "billing dead: connection refused", refuse_connections, 3, alone=True),
    Scenario("billing never answers", "billing dead: no answer", never_answer, 3, alone=True),
    Scenario("billing fails for some", "billing fails for every other company", fail_for_some, 2, alone=True),
]
