"""What PostgreSQL alone does with the service's statements: pgbench, on our database."""

from __future__ import annotations

import asyncio
import re
import shutil
from pathlib import Path
from statistics import quantiles
from urllib.parse import urlsplit
from uuid import UUID

from benchmarks import statements
from benchmarks.bench import Measurement, Plan, Stage
from benchmarks.database import OURS, Databases, forget_made, server_pid
from benchmarks.processes import usage
from provider_registration.local.accounts import installed_programs

CLIENTS = 16  # no more than the connections that each contender holds
SCENARIOS = ("get_16", "list_16", "register_16")  # those that are one statement
NAME = "pgbench"
MARGIN = 30.0
UUID_ZERO = UUID(int=0)
NEW_COMPANY = """
    json_build_array(json_build_object(
        'id', gen_random_uuid(), 'company_name', 'Huerta del Sol S.L.',
        'contact_email', 'bench-' || gen_random_uuid() || '@example.com', 'phone', '+34 963 555 017',
        'products', ARRAY['oranges', 'grapes'], 'truck_count', 12, 'capacity_tons_per_day', 80,
        'location', 'Valencia, Spain'
    ))
"""
ROW_ID = "CAST(md5(CAST(CAST(:number AS integer) AS text)) AS uuid)"


def _script(kind: str, rows: int) -> str:
    if kind == "get":
        text = statements.literal(*statements.get(UUID_ZERO), raw={"candidate_ids": f"ARRAY[{ROW_ID}]"})
        return f"\\set number random(1, {rows})\n{_one_line(text)};\n"
    if kind == "list":
        return f"{_one_line(statements.literal(*statements.page(), raw={}))};\n"
    return f"{_one_line(statements.literal(*statements.register(''), raw={'registrations': NEW_COMPANY}))};\n"


def _one_line(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip()


async def measure_ceiling(plan: Plan, stage: Stage, databases: Databases, folder: Path) -> None:
    """Run pgbench for those scenarios of a stage that are one statement."""
    for scenario in stage.scenarios:
        if scenario.name in SCENARIOS:
            for number in range(plan.rounds):
                plan.measurements.append(await _measure(plan, stage, scenario.name, number, databases, folder))


async def _measure(
    plan: Plan, stage: Stage, scenario: str, number: int, databases: Databases, folder: Path
) -> Measurement:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    script = folder / "script.sql"
    script.write_text(_script(scenario.partition("_")[0], databases.rows))
    postgres = await server_pid(databases.urls[OURS])
    parts = urlsplit(databases.urls[OURS])
    command = [str(installed_programs() / "pgbench"), "-n", "-M", "prepared", "-j", "1", "-c", str(CLIENTS), "-T"]
    command += [str(max(1, round(plan.seconds))), "-f", str(script), "--log", "--log-prefix", str(folder / "log")]
    before = usage(postgres)
    process = await asyncio.create_subprocess_exec(
        *command,
        env={
            "PATH": "/usr/bin:/bin",
            "PGHOST": str(parts.hostname),
            "PGPORT": str(parts.port),
            "PGUSER": str(parts.username),
            "PGPASSWORD": str(parts.password),
            "PGDATABASE": parts.path.lstrip("/"),
            "PGOPTIONS": "-c jit=off -c timezone=UTC",
        },
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        output, _ = await asyncio.wait_for(process.communicate(), plan.seconds + MARGIN)
    except BaseException:
        process.kill()
        raise
    rate = re.search(r"tps = ([\d.]+)", output.decode())
    if process.returncode or not rate:
        raise RuntimeError(f"pgbench failed: {output.decode()}")
    after = usage(postgres)
    # Its lines: client, transaction, microseconds, …
    times = [int(line.split()[2]) / 1000 for log in folder.glob("log*") for line in log.read_text().splitlines()]
    cuts = quantiles(times, n=100)
    if scenario.startswith("register"):
        await forget_made(databases.urls[OURS])
    plan.tell(f"{stage.name} · {scenario} · round {number + 1} · {NAME}: {float(rate[1]):,.0f}/s")
    return Measurement(
        stage.name,
        scenario,
        NAME,
        number,
        requests_per_second=float(rate[1]),
        p50_ms=cuts[49],
        p95_ms=cuts[94],
        p99_ms=cuts[98],
        cpu_ms=None,
        database_cpu_ms=1000 * (after.cpu_seconds - before.cpu_seconds) / len(times),
        memory_mb=None,
    )
