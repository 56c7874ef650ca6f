"""Make small changes to the source and find those that no test detects: `python -m tests.programs.mutation.run --help`.

A sample of all changes is judged, one at a time, by the tests that reach it. Verdicts are stored: a stopped run
continues, and a change that was killed is not judged again.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import resource
import subprocess
import tempfile
import time
import tomllib
from argparse import ArgumentParser
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import asyncpg

from provider_registration.local.postgres import PrivatePostgres
from tests.conftest import SERVER_OPTIONS, SERVER_URL, drop_database
from tests.programs.mutants.models import Mutant
from tests.programs.mutants.run import ROOT, VERDICTS, copy_to, put_in

from . import watch
from .nest import TOOK_TOO_LONG, Nest
from .operators import changes
from .reach import SOURCE, Reach, Uses, bare, line_of, options_for

JUDGED = (
    *("candidates/*.py", "approvals/*.py", "auth/*.py", "billing/*.py", "privacy/*.py"),
    *("db/batching.py", "db/database.py", "db/reading.py"),
)
KEPT = ROOT / ".mutation_cache"
SURVIVORS = Path(__file__).with_name("survivors.toml")
SIZE = 400
SECONDS_OF_TESTS = 15.0  # for a mutant at first, by the duration of its tests without it
SECONDS_TO_START = 45.0
SLOWER = 4  # times, at most, with a mutant
MOST_MEMORY = 8 * 2**30  # bytes, of a process
CONTROL_EVERY = 20  # kills, check that the tests that failed pass without a mutant
KILLED = ("killed", "took too long", "could not run")


@dataclass(frozen=True, slots=True)
class Sampled:
    """A mutant, the lines that its tests must reach, and other lines if no test does, for code that runs at import."""

    mutant: Mutant
    lines: frozenset[str]
    otherwise: Callable[[], Iterable[str]]


def mutants_of(source: Path, patterns: tuple[str, ...] = JUDGED) -> Iterator[Sampled]:
    """All mutants of a source; a name gives place and change, and is stable while its line is."""
    uses = Uses(source)
    for path in sorted(path for pattern in patterns for path in source.glob(pattern)):
        file, text = str(path.relative_to(source)), path.read_text()
        encoded, texts = text.encode(), text.splitlines()
        seen = Counter[str]()
        for change in changes(text):
            before, after = encoded[: change.start].decode(), encoded[change.end :].decode()
            old = encoded[change.start : change.end].decode()
            begin, end = before.rfind("\n") + 1, after.find("\n")
            around = before[begin:] + old + after[:end]
            name = f"{file} {change.owner}: {bare(old)} becomes {bare(change.new) or 'nothing'} in: {bare(around)}"
            seen[name] += 1
            while text.count(before[begin:] + old + after[:end]) > 1:
                begin = before.rfind("\n", 0, begin - 1) + 1
            parts = before[begin:], after[:end]
            mutant = Mutant(
                name if seen[name] == 1 else f"{name} ({seen[name]})", file, old.join(parts), change.new.join(parts), ()
            )
            top = change.owner.partition(".")[0]
            if (file, change.owner) in uses.functions:
                here = {line_of(file, change.owner, texts[number - 1]) for number in change.lines}
            else:
                here = uses.lines_of(top)
            yield Sampled(mutant, frozenset(here), partial(uses.lines_of, top, through_functions=True))


def sample(all_mutants: Iterable[Sampled], seed: int, size: int) -> list[Sampled]:
    """Choose the same mutants for the same seed, even if others are added."""
    return sorted(all_mutants, key=lambda one: hashlib.sha256(f"{seed} {one.mutant.name}".encode()).digest())[:size]


class Judge:
    """Judges mutants by the tests in a copy, and stores each verdict as a line of JSON."""

    def __init__(self, nest: Nest, folder: Path, reach: Reach, kept: Path) -> None:
        self._nest, self._folder, self._reach, self._kept = nest, folder, reach, kept
        self.verdicts: dict[str, str] = {}
        self.killers: dict[str, str] = {}
        self._passed: dict[str, set[str]] = {}  # marks of tests that passed
        self._unreliable: set[str] = set()
        self._unconfirmed: set[str] = set()
        for line in kept.read_text().splitlines() if kept.exists() else ():
            self._learn(json.loads(line))

    def _learn(self, judged: dict[str, object]) -> None:
        if test := judged.get("unreliable"):
            self._unreliable.add(test)
            for name in [name for name, killer in self.killers.items() if killer == test]:
                del self.killers[name], self.verdicts[name]
            return
        name = judged["mutant"]
        self.verdicts[name] = judged["verdict"]
        self._passed.setdefault(name, set()).update(judged["passed"])
        if killer := judged.get("killer"):
            self.killers[name] = killer

    def _keep(self, judged: dict[str, object]) -> None:
        self._learn(judged)
        with self._kept.open("a") as file:
            file.write(json.dumps(judged) + "\n")

    def judge(self, one: Sampled, seconds: float) -> str | None:
        """Judge by tests of `seconds` in total; None if there is nothing new to run."""
        name = one.mutant.name
        tests = self._tests(one, seconds)
        todo = [test for test in tests if self._reach.mark(test) not in self._passed.get(name, ())]
        if self.verdicts.get(name) in KILLED or (not todo and name in self.verdicts):
            return None
        if not todo:
            self._keep({"mutant": name, "verdict": "not reached", "passed": []})
            return "not reached"
        started = time.monotonic()
        with put_in(one.mutant, self._folder):
            verdict, outcomes = self._run(todo)
        passed = [self._reach.mark(test) for test, outcome in outcomes.items() if outcome == "passed"]
        killer = next((test for test, outcome in outcomes.items() if outcome == "failed"), None)
        shown = {"failed": "killed", "passed": "survived"}.get(verdict, verdict)
        took = round(time.monotonic() - started, 1)
        judged = {"mutant": name, "verdict": shown, "seconds": took, "passed": [] if shown in KILLED else passed}
        self._keep(judged | ({"killer": killer} if killer else {}))
        if killer:
            self._unconfirmed.add(killer)
        if killer and len(self._unconfirmed) % CONTROL_EVERY == 0:
            self.control()
        return shown

    def _tests(self, one: Sampled, seconds: float) -> list[str]:
        """First tests that killed others of the file, then those of the package, then the fastest; grouped by file."""
        package = f"tests/{Path(one.mutant.file).parts[0]}/"
        killed = Counter(killer for name, killer in self.killers.items() if name.startswith(one.mutant.file))
        reaching = self._reach.of(one.lines) or self._reach.of(one.otherwise())
        costs = {test: self._reach.seconds[test] for test in reaching - self._unreliable}
        chosen: list[str] = []
        for test in sorted(costs, key=lambda test: (-killed[test], not test.startswith(package), costs[test], test)):
            seconds -= costs[test]
            if seconds < 0 and chosen:
                break
            chosen.append(test)
        files = list(dict.fromkeys(test.partition("::")[0] for test in chosen))
        return sorted(chosen, key=lambda test: files.index(test.partition("::")[0]))

    def _run(self, tests: list[str]) -> tuple[str, dict[str, str]]:
        outcomes = self._folder / "outcomes.json"
        outcomes.unlink(missing_ok=True)
        seconds = SECONDS_TO_START + SLOWER * sum(self._reach.seconds[test] for test in tests)
        status = self._nest.run(("-x", "--tb=no", *options_for(outcomes), *tests), seconds)
        if status == TOOK_TOO_LONG:
            asyncio.run(_drop_databases(os.environ[SERVER_URL]))
            return "took too long", {}
        return VERDICTS.get(status, "could not run"), {test: out for test, (out, _) in watch.read(outcomes).items()}

    def control(self) -> None:
        """Check that the tests that killed pass without a mutant; stop using those that fail."""
        while self._unconfirmed:
            verdict, outcomes = self._run(sorted(self._unconfirmed))
            failed = {test for test, outcome in outcomes.items() if outcome == "failed"}
            if verdict == "took too long":  # the machine is busy: check them with the next ones
                break
            if verdict != "passed" and not failed:
                raise RuntimeError(f"without a mutant, the tests {verdict}")
            for test in failed:
                print(f"UNRELIABLE        {test}", flush=True)  # noqa: T201
                self._keep({"unreliable": test})
            self._unconfirmed = self._unconfirmed - failed if failed else set()


async def _drop_databases(url: str) -> None:
    """Drop the databases of stopped tests."""
    connection = await asyncpg.connect(url)
    left = await connection.fetch(r"SELECT datname FROM pg_database WHERE datname ~ '^(test|template)_'")
    await connection.close()
    for [name] in left:
        await drop_database(url, name)


def _compile(python: Path) -> None:
    """Compile the whole copy; mutated files have another time and are compiled again."""
    command = [python, "-m", "pytest", "--collect-only", "-q", "-p", "pytest_asyncio.plugin", "tests"]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    subprocess.run(command, cwd=python.parents[2], env=environment, check=False, stdout=subprocess.DEVNULL)


@contextmanager
def postgres_in(folder: Path) -> Iterator[None]:
    """Run one PostgreSQL for all tests."""
    postgres = PrivatePostgres(folder / "postgres", options=SERVER_OPTIONS)
    os.environ[SERVER_URL] = postgres.start()
    try:
        yield
    finally:
        postgres.stop()


def report(sampled: list[Sampled], verdicts: dict[str, str]) -> None:
    """Print the verdicts of the sample, and survivors without a reason."""
    known = {one["mutant"]: one for one in tomllib.loads(SURVIVORS.read_text()).get("survivor", ())}
    names = [one.mutant.name for one in sampled]
    counts = Counter(verdicts[name] for name in names if name in verdicts)
    alive = [name for name in names if verdicts.get(name) in ("survived", "not reached")]
    equivalent = sum(known[name]["equivalent"] for name in alive if name in known)
    killed = sum(counts[verdict] for verdict in KILLED)
    print(f"\nof {len(names)}: {', '.join(f'{count} {verdict}' for verdict, count in counts.most_common())}")  # noqa: T201
    print(f"{equivalent} equivalent; killed of the others: {killed / max(1, counts.total() - equivalent):.1%}")  # noqa: T201
    for name in alive:
        if name not in known:
            print(f"  no reason  {name}")  # noqa: T201
    files = {one.mutant.file for one in sampled}
    for name in known.keys() - set(alive):
        if name.partition(" ")[0] in files:
            print(f"  killed or gone, but in {SURVIVORS.name}  {name}")  # noqa: T201


def main() -> None:
    """Judge a sample."""
    parser = ArgumentParser(description=__doc__, usage="run.py [--seed N] [--size N] [--seconds S] [--minutes M]")
    parser.add_argument("--seed", type=int, default=1, help="seed of the sample")
    parser.add_argument("--size", type=int, default=SIZE, help="number of mutants")
    parser.add_argument(
        "--seconds", type=float, default=SECONDS_OF_TESTS, help="of tests a mutant; with more, survivors run again"
    )
    parser.add_argument("--minutes", type=float, default=float("inf"), help="after which no other mutant starts")
    parser.add_argument("--only", default="", metavar="TEXT", help="mutants of the sample whose name contains this")
    parser.add_argument("--files", nargs="+", default=JUDGED, metavar="PATTERN", help="files of the source to change")
    parser.add_argument("--folders", nargs="*", default=(), help="folders of tests/ to collect from; default: all")
    chosen = parser.parse_args()
    ends = time.monotonic() + 60 * chosen.minutes
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (MOST_MEMORY, hard))
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # most plugins are not needed, and take long to import
    KEPT.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="provider-registration-mutation-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # for root, whose PostgreSQL runs as another account
        python = copy_to(folder / "copy")
        _compile(python)
        sampled = sample(mutants_of(folder / "copy" / SOURCE, tuple(chosen.files)), chosen.seed, chosen.size)
        with postgres_in(folder):
            reach = Reach(KEPT / "reach.json")
            reach.gather(python, chosen.folders)
            with Nest(python) as nest:
                judge = Judge(nest, python.parents[2], reach, KEPT / "judged.jsonl")
                for number, one in enumerate(sampled, 1):
                    if chosen.only in one.mutant.name and time.monotonic() < ends:
                        started = time.monotonic()
                        if verdict := judge.judge(one, chosen.seconds):
                            took = time.monotonic() - started
                            print(f"{number:3} {verdict:13} {took:4.0f} s  {one.mutant.name}", flush=True)  # noqa: T201
                judge.control()
        report(sampled, judge.verdicts)


if __name__ == "__main__":
    main()
