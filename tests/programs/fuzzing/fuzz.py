"""Send the service 20,000 requests generated from its OpenAPI document: `-m tests.programs.fuzzing.fuzz`."""

from __future__ import annotations

import asyncio
import logging
import signal
import tempfile
import time
from argparse import ArgumentParser, Namespace
from collections import Counter
from itertools import count
from pathlib import Path

from provider_registration.observability.metrics import REQUESTS

from .fuzzer import ROLES, Verdict, fuzz
from .stage import staged

EXAMPLES = 400  # examples of each operation in a round, by role; a round has about 10,000 cases


async def fuzz_in_rounds(options: Namespace) -> bool:
    """Fuzz with all roles at once until there are enough cases; return whether all passed."""
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, asyncio.current_task().cancel)
    begun = time.monotonic()
    verdicts: dict[str, list[Verdict]] = {role: [] for role in ROLES}
    async with staged() as stage:
        before = _answers()
        with tempfile.TemporaryDirectory(prefix="provider-registration-fuzzing-") as folder:
            for seed in count(options.seed):
                runs = (fuzz(stage, role, examples=options.examples, seed=seed, folder=Path(folder)) for role in ROLES)
                for role, verdict in zip(ROLES, await asyncio.gather(*runs), strict=True):
                    verdicts[role].append(verdict)
                    _tell(f"{role}, seed {seed}: {verdict.cases:,} cases, {dict(verdict.problems) or 'no problem'}")
                    if not verdict.is_good:
                        _tell(verdict.output)
                if sum(_cases(each) for each in verdicts.values()) >= options.cases:
                    break
        answers = _answers() - before
    _tell_summary(verdicts, answers, time.monotonic() - begun)
    return all(verdict.is_good for each in verdicts.values() for verdict in each)


def _answers() -> Counter[str]:
    """The number of responses with each status code."""
    answers: Counter[str] = Counter()
    for family in REQUESTS.collect():
        for sample in family.samples:
            if sample.name.endswith("_total"):
                answers[sample.labels["status_code"]] += int(sample.value)
    return answers


def _cases(verdicts: list[Verdict]) -> int:
    return sum(verdict.cases for verdict in verdicts)


def _tell_summary(verdicts: dict[str, list[Verdict]], answers: Counter[str], seconds: float) -> None:
    _tell("", "| as | cases | server errors | undocumented codes | other problems |", "|---|---:|---:|---:|---:|")
    for role, each in verdicts.items():
        problems = sum((verdict.problems for verdict in each), Counter())
        named = [problems.pop(title, 0) for title in ("ServerError", "UndefinedStatusCode")]
        _tell(f"| {role} | {_cases(each):,} | {named[0]} | {named[1]} | {problems.total()} |")
    _tell("", "answers: " + ", ".join(f"{code}: {times:,}" for code, times in sorted(answers.items())))
    _tell(f"{seconds / 60:.1f} minutes")


def _tell(*lines: str) -> None:
    print(*lines, sep="\n", flush=True)  # noqa: T201 - what the command is for


def main() -> None:
    """Read the command line, fuzz, and end with status 1 on failure."""
    parser = ArgumentParser(description="Send the service requests generated from its OpenAPI document.")
    parser.add_argument("--cases", type=int, default=20_000, help="stop after the round that reaches this number")
    parser.add_argument("--examples", type=int, default=EXAMPLES, help="cases of each operation and role in a round")
    parser.add_argument("--seed", type=int, default=time.time_ns() % 10**6, help="repeats the generated requests")
    options = parser.parse_args()
    logging.basicConfig(level=logging.ERROR)  # only errors of the service; refusals are expected here
    raise SystemExit(0 if asyncio.run(fuzz_in_rounds(options)) else 1)


if __name__ == "__main__":
    main()
