"""Measure all contenders side by side: `python -m benchmarks --help`."""

from __future__ import annotations

import asyncio
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from benchmarks import ceiling, extras, report, workplace
from benchmarks.bench import Plan, Stage, chosen, measure_stage
from benchmarks.contenders import CONTENDERS, OURS, POOL_SIZE, WORK, Contender
from benchmarks.database import SERVER_OPTIONS, Databases, make_databases
from benchmarks.drivers import Wrk
from benchmarks.scenarios import ALL, Scenario
from provider_registration.local.postgres import PrivatePostgres

ROWS, LARGE_ROWS = 100_000, 1_000_000
ROUNDS, SECONDS = 3, 3
QUICK_ROUNDS, QUICK_SECONDS = 2, 2
DECISIONS_PER_SECOND = 5_000  # more than any contender decides on two cores


def options() -> Namespace:
    """The command line."""
    parser = ArgumentParser(prog="python -m benchmarks", description="Compare this service with its peers.")
    parser.add_argument(
        "--quick", action="store_true", help="two short rounds over 16 and 64, few contenders, the small table"
    )
    parser.add_argument("--seconds", type=int, help=f"of each run; default {SECONDS}")
    parser.add_argument("--rounds", type=int, help=f"default {ROUNDS}")
    parser.add_argument("--rows", type=int, default=ROWS, help="of the table for all scenarios")
    parser.add_argument("--large-rows", type=int, help="of the second table, for reads; 0: none")
    parser.add_argument("--connections", type=int, action="append", default=[], help="only scenarios with this number")
    parser.add_argument("--only", action="append", default=[], metavar="CONTENDER", help=" ".join(CONTENDERS))
    parser.add_argument("--scenario", action="append", default=[], help=" ".join(scenario.name for scenario in ALL))
    return parser.parse_args()


def stages(asked: Namespace) -> list[Stage]:
    """The scenarios of each table."""
    scenarios = [
        scenario
        for scenario in ALL
        if (scenario.name in asked.scenario or (not asked.scenario and (scenario.quick or not asked.quick)))
        and (not asked.connections or scenario.connections in asked.connections)
    ]
    large_rows = asked.large_rows if asked.large_rows is not None else (0 if asked.quick else LARGE_ROWS)

    def of(rows: int, wanted: Sequence[Scenario], *, auth: bool = True, everyone: bool = False) -> list[Stage]:
        return [Stage(rows, auth, wanted, everyone)] if rows and wanted else []

    found = of(asked.rows, scenarios, everyone=True)
    if not asked.quick:
        found += of(asked.rows, [scenario for scenario in scenarios if scenario.open], auth=False)
    return found + of(large_rows, [scenario for scenario in scenarios if scenario.large])


@contextmanager
def cluster() -> Iterator[str]:
    """A PostgreSQL of its own; yields its URL."""
    postgres = PrivatePostgres(WORK / "postgres", options=SERVER_OPTIONS)
    try:
        yield postgres.start()
    finally:
        postgres.stop()


async def measure(server_url: str, plan: Plan, contenders: Sequence[Contender], asked: Namespace) -> list[str]:
    """Fill the plan; return the sentences on ours alone."""
    sentences: list[str] = []
    made: dict[int, Databases] = {}
    for stage in stages(asked):
        if stage.rows not in made:
            names = {each.database for each in contenders if each.database and (stage.everyone or each.everywhere)}
            tell(f"making {stage.rows:,} rows, in {', '.join(sorted(names))} …")
            made[stage.rows] = await make_databases(server_url, stage.rows, names)
        databases = made[stage.rows]
        await measure_stage(plan, stage, contenders, databases)
        if stage.auth and not asked.only:
            await ceiling.measure_ceiling(plan, stage, databases, WORK / "pgbench")
    if OURS in contenders and not asked.scenario:
        sentences += await extras.during_logins(plan, made[asked.rows])
    sentences += extras.of_many_callers(plan.measurements, POOL_SIZE)
    return sentences + extras.of_approval(plan.measurements)


def tell(line: str) -> None:
    print(line, flush=True)  # noqa: T201 - what the command is for


def main() -> None:
    """Install, start, measure, report."""
    asked = options()
    contenders = chosen(asked.only, quick=asked.quick)
    workplace.prepare(contenders)
    rounds = asked.rounds or (QUICK_ROUNDS if asked.quick else ROUNDS)
    seconds = asked.seconds or (QUICK_SECONDS if asked.quick else SECONDS)
    plan = Plan(Wrk(WORK), rounds, seconds, DECISIONS_PER_SECOND, tell)
    with cluster() as server_url:
        sentences = ["The run did not finish."]
        try:
            sentences = asyncio.run(measure(server_url, plan, contenders, asked))
        finally:  # what was measured is not lost
            tell("\n" + report.keep(plan.measurements, rounds=rounds, seconds=seconds, extras=sentences))


if __name__ == "__main__":
    main()
