"""The benchmarks run: every contender that needs no installation passes every scenario and is in the report."""

from __future__ import annotations

import json
from pathlib import Path
from uuid import uuid4

import pytest

from benchmarks import ceiling, growth, report, writes
from benchmarks.bench import Plan, Stage, measure_stage, takes_part
from benchmarks.contenders import OURS, OURS_LIMITED, STATIC, USUAL_FASTAPI
from benchmarks.database import make_databases
from benchmarks.drivers import Httpx
from benchmarks.scenarios import ALL, MIDDLE

from ..conftest import drop_database  # noqa: TID252 - tests are no package that has a name

ROWS = 400
CONTENDERS = (OURS, OURS_LIMITED, USUAL_FASTAPI, STATIC)
# The others send the same over other numbers of connections.
SCENARIOS = [scenario for scenario in ALL if scenario.connections == MIDDLE]

pytestmark = pytest.mark.skipif(not Path("/proc").is_dir(), reason="what a process used is read from /proc")


@pytest.fixture(scope="module")
async def databases(server_url):
    prefix, names = f"test_{uuid4().hex}", {contender.database for contender in CONTENDERS if contender.database}
    yield await make_databases(server_url, ROWS, names, prefix)
    for name in names:
        await drop_database(server_url, f"{prefix}_{name}_{ROWS}")


@pytest.fixture
async def database_name(server_url):
    name = f"test_{uuid4().hex}"
    yield name
    await drop_database(server_url, name)


def names(measurements):
    return {(found.stage, found.scenario, found.contender) for found in measurements}


async def test_every_response_is_as_expected_and_in_the_report(databases, tmp_path):
    plan = Plan(Httpx(), rounds=1, seconds=0.02, decisions_per_second=200, tell=lambda _: None, settle=0.01)
    stages = [
        Stage(ROWS, auth=True, scenarios=SCENARIOS),
        Stage(ROWS, auth=False, scenarios=[scenario for scenario in SCENARIOS if scenario.open], everyone=False),
    ]

    for stage in stages:
        await measure_stage(plan, stage, CONTENDERS, databases)

    wanted = {
        (stage.name, scenario.name, contender.name)
        for stage in stages
        for scenario in stage.scenarios
        for contender in CONTENDERS
        if takes_part(contender, scenario) and (stage.everyone or contender.everywhere)
    }
    assert names(plan.measurements) == wanted
    text = report.keep(plan.measurements, rounds=1, seconds=0.02, extras=["a sentence"], folder=tmp_path)
    (kept,) = tmp_path.glob("*.json")
    rows = json.loads(kept.read_text())["summary"]
    assert {(row["stage"], row["scenario"], row["contender"]) for row in rows} == wanted
    assert sum(line.count(f"| {OURS.name} |") for line in text.splitlines()) == sum(
        len(stage.scenarios) for stage in stages
    )
    head = next(line for line in text.splitlines() if line.startswith("| request, connections"))
    assert [f"ours ÷ {contender.name} |" in head for contender in CONTENDERS] == [False, True, True, True]
    assert (tmp_path / "latest.md").read_text() == text


async def test_the_ceiling_is_measured_with_the_statements_of_the_service(databases, tmp_path):
    plan = Plan(Httpx(), rounds=1, seconds=1, decisions_per_second=1, tell=lambda _: None)
    stage = Stage(ROWS, auth=True, scenarios=ALL)

    await ceiling.measure_ceiling(plan, stage, databases, tmp_path / "pgbench")

    assert names(plan.measurements) == {(stage.name, name, ceiling.NAME) for name in ceiling.SCENARIOS}
    assert all(found.requests_per_second > 0 for found in plan.measurements)


async def test_growth_counts_the_blocks_of_every_statement_at_every_size(server_url, database_name):
    found = await growth.measure(server_url, [ROWS, 2 * ROWS], database_name, beside=800)

    lines, _ = growth.table(found.blocks)
    assert set(found.blocks) == {ROWS, 2 * ROWS}
    assert all(count > 0 for counts in found.blocks.values() for count in counts.values())
    assert len(lines) == 2 + len(found.blocks[ROWS])
    assert set(found.log) == {ROWS, 2 * ROWS}
    assert all(cost.records > 0 for costs in found.log.values() for cost in costs.values())
    assert len(writes.log_table(found.log)) == 2 + len(found.log[ROWS])
    without, held = found.beside
    assert held.pages[1] > without.pages[1]
    assert held.blocks[1] > without.blocks[1]
    assert held.page[1] < held.page[0]
    assert writes.snapshot_table(without, held)
