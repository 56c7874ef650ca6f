"""Traffic for an hour: neither memory nor file handles of the service grow. `python -m tests.programs.drills.soak`."""

from __future__ import annotations

import asyncio
import time
from argparse import ArgumentParser, Namespace
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from random import Random
from statistics import median

from tests.documents.markdown import ROOT
from tests.programs.faults.world import EMAIL, PASSWORD

from .acknowledged import compare
from .fleet import Fleet, Release
from .programs import beside, run_drill, tell, temporary_folder
from .report import Report
from .stage import METRICS_TOKEN, prepared
from .traffic import Traffic

SAMPLE_SECONDS = 5.0
WARM_SHARE = 0.25  # of the time, until caches are full and connections are open
MORE_MEMORY = 1.05  # times, from the first to the last part after it
MORE_MEMORY_MIB = 4.0  # plus this much
MORE_FILES = 3
COLUMNS = ("process", "memory, MiB: first", "last", "file handles: first", "last", "threads: first", "last")


@dataclass(frozen=True)
class Sample:
    """The resources of a process."""

    memory_mib: float
    files: int
    threads: int

    @classmethod
    def of(cls, pid: int) -> Sample:
        """Read it from the kernel."""
        status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        files = sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
        return cls(int(status["VmRSS"].split()[0]) / 1024, files, int(status["Threads"]))

    @classmethod
    def middle(cls, samples: list[Sample]) -> Sample:
        """The median of each."""
        return cls(
            median(sample.memory_mib for sample in samples),
            int(median(sample.files for sample in samples)),
            int(median(sample.threads for sample in samples)),
        )


async def drill(options: Namespace) -> bool:
    """Observe two processes behind nginx; return whether neither grew."""
    report = Report(COLUMNS)
    random = Random(options.seed)  # noqa: S311 - to be repeated, not to be secret
    samples: dict[int, list[Sample]] = defaultdict(list)
    seconds = options.minutes * 60
    with temporary_folder("soak") as folder:
        async with prepared(folder) as world:
            async with Fleet.started(folder, world, world.database_url, Release("service", ROOT)) as fleet:
                traffic = Traffic([fleet.url], EMAIL, PASSWORD, metrics_token=METRICS_TOKEN, random=random, pace=2.0)
                with report.failures(fleet.logs):
                    async with beside(traffic.run()):
                        ends = time.monotonic() + seconds
                        while time.monotonic() < ends:
                            await asyncio.sleep(SAMPLE_SECONDS)
                            for port, process in fleet.processes.items():
                                samples[port].append(Sample.of(process.pid))
                    for problem in await compare(world, traffic):
                        report.promise(kept=False, otherwise=problem)
    for failure in traffic.failures[:5]:
        tell(f"failed: {failure}")
    report.promise(not traffic.failures, f"{len(traffic.failures)} requests failed")
    for number, held in enumerate(samples.values(), 1):
        judge(report, f"replica {number}", held)
    return report.show(f"{options.minutes:g} minutes, {traffic.requests.total()} requests, seed {options.seed}")


def judge(report: Report, name: str, held: list[Sample]) -> None:
    """Compare the start of the time after the warm-up with its end."""
    warm = held[int(len(held) * WARM_SHARE) :]
    part = max(1, len(warm) // 4)
    first, last = Sample.middle(warm[:part]), Sample.middle(warm[-part:])
    report.add(name, first.memory_mib, last.memory_mib, first.files, last.files, first.threads, last.threads)
    report.at_most(last.memory_mib, first.memory_mib * MORE_MEMORY + MORE_MEMORY_MIB, f"MiB of {name}")
    report.at_most(last.files, first.files + MORE_FILES, f"file handles of {name}")
    report.at_most(last.threads, first.threads + 1, f"threads of {name}")


def main() -> None:
    """Read the command line and run."""
    parser = ArgumentParser(description="Measure memory and file handles of the service under traffic.")
    parser.add_argument("--minutes", type=float, default=60, help="duration")
    run_drill(drill, parser, "nginx")


if __name__ == "__main__":
    main()
