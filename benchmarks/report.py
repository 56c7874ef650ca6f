"""Ratios of measurements, as JSON and as Markdown."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.bench import Measurement
from benchmarks.contenders import CONTENDERS, OURS
from benchmarks.scenarios import ALL

RESULTS = Path(__file__).parent / "results"
REFERENCE = OURS.name
TITLES = {scenario.name: scenario.title for scenario in ALL}
LEAST_MS = 0.01  # less CPU time per request is noise and is not compared

HEADER = (
    "| request | contender | requests/s | ours ÷ this | p50 ms | p95 ms | p99 ms | p99 ÷ p50 "
    "| server CPU ms | this ÷ ours | PostgreSQL CPU ms | this ÷ ours | memory MB |"
)
RULE = "|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|"


def machine() -> dict[str, Any]:
    """The machine and versions of the measurement."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "cpu": names[0] if names else platform.machine(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }


def commit() -> str:
    """The commit that was measured."""
    told = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return told.stdout.strip() or "unknown"


def _of(measurements: Sequence[Measurement], value: Callable[[Measurement], float | None]) -> float | None:
    """The median over the rounds; None without values."""
    found = [number for measurement in measurements if (number := value(measurement)) is not None]
    return median(found) if found else None


def _ratio(
    above: Sequence[Measurement], below: Sequence[Measurement], value: Callable[[Measurement], float | None]
) -> float | None:
    """The median of the rounds' ratios."""
    beside = {measurement.round: value(measurement) for measurement in below}
    ratios = [
        mine / other
        for measurement in above
        if (mine := value(measurement)) is not None
        and (other := beside.get(measurement.round)) is not None
        and other > LEAST_MS
    ]
    return median(ratios) if ratios else None


def summarise(measurements: Sequence[Measurement]) -> list[dict[str, Any]]:
    """A row for each contender of each scenario of each stage."""
    groups: dict[tuple[str, str, str], list[Measurement]] = {}
    for found in measurements:
        groups.setdefault((found.stage, found.scenario, found.contender), []).append(found)
    rows = []
    stages, scenarios = list(dict.fromkeys(m.stage for m in measurements)), list(TITLES)
    in_order = sorted(groups.items(), key=lambda group: (stages.index(group[0][0]), scenarios.index(group[0][1])))
    for (stage, scenario, contender), here in in_order:
        ours = groups.get((stage, scenario, REFERENCE), [])
        rows.append(
            {
                "stage": stage,
                "scenario": scenario,
                "contender": contender,
                "rounds": len(here),
                "requests_per_second": _of(here, lambda m: m.requests_per_second),
                "ours_to_this": _ratio(ours, here, lambda m: m.requests_per_second),
                "p50_ms": _of(here, lambda m: m.p50_ms),
                "p95_ms": _of(here, lambda m: m.p95_ms),
                "p99_ms": _of(here, lambda m: m.p99_ms),
                "p99_to_p50": _of(here, lambda m: m.p99_ms / m.p50_ms if m.p50_ms else None),
                "p95_to_p50": _of(here, lambda m: m.p95_ms / m.p50_ms if m.p50_ms else None),
                "cpu_ms": _of(here, lambda m: m.cpu_ms),
                "cpu_this_to_ours": _ratio(here, ours, lambda m: m.cpu_ms),
                "database_cpu_ms": _of(here, lambda m: m.database_cpu_ms),
                "database_cpu_this_to_ours": _ratio(here, ours, lambda m: m.database_cpu_ms),
                "memory_mb": _of(here, lambda m: m.memory_mb),
            }
        )
    return rows


def side_by_side(rows: Sequence[dict[str, Any]], stage: str) -> list[str]:
    """A table of a stage: a line for each scenario with ours ÷ each contender, in requests/s."""
    here = {(row["scenario"], row["contender"]): row for row in rows if row["stage"] == stage}
    others = [name for name in CONTENDERS if name != REFERENCE and any(name == other for _, other in here)]
    names = [f"ours ÷ {name}" for name in others]
    lines = [
        f"| request, connections | {REFERENCE}, requests/s | {' | '.join([*names, 'ours: p99 ÷ p50'])} |",
        f"|---|--:|{'--:|' * (len(others) + 1)}",
    ]
    for scenario, title in TITLES.items():
        if ours := here.get((scenario, REFERENCE)):
            ratios = [_number(here.get((scenario, name), {}).get("ours_to_this"), 2) for name in others]
            figures = [_number(ours["requests_per_second"], 0), *ratios, _number(ours["p99_to_p50"], 1)]
            lines.append(f"| {title} | {' | '.join(figures)} |")
    return lines


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:,.{digits}f}"


def markdown(rows: Sequence[dict[str, Any]], facts: dict[str, Any], extras: Sequence[str]) -> str:
    """The whole report."""
    on = facts["machine"]
    conditions = (
        f"{on['cores']} cores ({on['cpu']}), {on['system']}, Python {on['python']}; {facts['rounds']} rounds of "
        f"{facts['seconds']:g} s each. Every figure is the median over the rounds; a ratio is the median of the ratios "
        "of the rounds. CPU is per request."
    )
    lines = [f"# Measured on {facts['date']} at {facts['commit']}", "", conditions]
    stage = scenario = None
    for row in rows:
        if row["stage"] != stage:
            stage, scenario = row["stage"], None
            lines += ["", f"## {stage}", "", *side_by_side(rows, stage), "", HEADER, RULE]
        title = TITLES.get(row["scenario"], row["scenario"]) if row["scenario"] != scenario else ""
        scenario = row["scenario"]
        cells = [
            title,
            row["contender"],
            _number(row["requests_per_second"], 0),
            _number(row["ours_to_this"], 2),
            _number(row["p50_ms"], 2),
            _number(row["p95_ms"], 2),
            _number(row["p99_ms"], 2),
            _number(row["p99_to_p50"], 1),
            _number(row["cpu_ms"], 3),
            _number(row["cpu_this_to_ours"], 2),
            _number(row["database_cpu_ms"], 3),
            _number(row["database_cpu_this_to_ours"], 2),
            _number(row["memory_mb"], 0),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    if extras:
        lines += ["", "## Ours alone", "", *(f"- {extra}" for extra in extras)]
    return "\n".join(lines) + "\n"


def keep(
    measurements: Sequence[Measurement], *, rounds: int, seconds: float, extras: Sequence[str], folder: Path = RESULTS
) -> str:
    """Write the JSON and the Markdown; return the latter."""
    now = datetime.now(UTC)
    facts = {
        "date": f"{now:%Y-%m-%d}",
        "commit": commit(),
        "machine": machine(),
        "rounds": rounds,
        "seconds": seconds,
    }
    rows = summarise(measurements)
    folder.mkdir(parents=True, exist_ok=True)
    kept = {**facts, "summary": rows, "extras": list(extras), "measurements": [asdict(m) for m in measurements]}
    (folder / f"{facts['date']}-{facts['commit']}.json").write_text(json.dumps(kept, indent=1) + "\n")
    text = markdown(rows, facts, extras)
    (folder / "latest.md").write_text(text)
    return text
