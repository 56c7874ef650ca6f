"""Which tests reach which lines, from coverage with the test as context, collected once for each test file.

A line is identified by its code and its function: comments and other lines may change.
"""

from __future__ import annotations

import ast
import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path

from coverage import CoverageData

from tests.programs.mutants.run import verdict_of

from . import watch

SOURCE = Path("src", "provider_registration")
# Tests that start processes have no contexts; programs are too slow.
LEFT_OUT = {"benchmarks", "documents", "installation", "migrations", "operations", "production", "programs"}
SECONDS_A_FOLDER = 1800
# Without greenlets, coverage attributes SQLAlchemy's code in them to the wrong test.
COVERAGE = "[run]\nsource_pkgs = provider_registration\nconcurrency = thread,greenlet\n"


def line_of(file: str, owner: str, text: str) -> str:
    """The name of a line."""
    return f"{file}|{owner}|{bare(text)}"


def bare(text: str) -> str:
    """Code without comments and line breaks."""
    return " ".join(" ".join(line.partition("  # ")[0] for line in text.splitlines()).split())


def options_for(outcomes: Path) -> tuple[str, ...]:
    """pytest's options: the plugins, and where to write the outcomes."""
    plugins = ("pytest_asyncio.plugin", "no:randomly", "no:cacheprovider", watch.__name__)
    return (*(part for plugin in plugins for part in ("-p", plugin)), f"{watch.OPTION}={outcomes}")


class Reach:
    """The tests that pass, their seconds, and the lines they reach; stored in a file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        kept = json.loads(path.read_text()) if path.exists() else {"files": {}, "seconds": {}, "lines": {}}
        self._files: dict[str, str] = kept["files"]  # digests of the test files that were collected
        self.seconds: dict[str, float] = kept["seconds"]
        self._lines: dict[str, list[str]] = kept["lines"]

    def gather(self, python: Path, folders: Iterable[str] = ()) -> None:
        """Run a copy's new or changed test files, folder by folder."""
        copy = python.parents[2]
        files = [
            file
            for file in sorted(copy.glob("tests/*/**/test_*.py"))
            if LEFT_OUT.isdisjoint(parts := file.relative_to(copy).parts) and (not folders or parts[1] in folders)
        ]
        for folder, together in groupby(files, lambda file: file.relative_to(copy).parts[1]):
            digests = {str(file.relative_to(copy)): hashlib.sha256(file.read_bytes()).hexdigest() for file in together}
            changed = [name for name, digest in digests.items() if self._files.get(name) != digest]
            if changed:
                print(f"collecting what {len(changed)} files of tests/{folder} reach", flush=True)  # noqa: T201
                self._forget(changed)
                self._run(python, changed)
                self._files |= {name: digests[name] for name in changed}
                kept = {"files": self._files, "seconds": self.seconds, "lines": self._lines}
                self._path.write_text(json.dumps(kept))

    def _forget(self, files: list[str]) -> None:
        begin = tuple(f"{file}::" for file in files)
        self.seconds = {test: seconds for test, seconds in self.seconds.items() if not test.startswith(begin)}
        for line, tests in self._lines.items():
            self._lines[line] = [test for test in tests if not test.startswith(begin)]

    def _run(self, python: Path, files: list[str]) -> None:
        copy = python.parents[2]
        (copy / "gather.ini").write_text(COVERAGE)
        outcomes = copy / "gathered.json"
        options = (
            "-p",
            "pytest_cov.plugin",
            "--cov",
            "--cov-config=gather.ini",
            "--cov-context=test",
            "--cov-report=",
            "--maxfail=0",
        )
        verdict_of(python, files, seconds=SECONDS_A_FOLDER, options=(*options_for(outcomes), *options))
        self.seconds |= {
            test: seconds for test, (outcome, seconds) in watch.read(outcomes).items() if outcome == "passed"
        }
        measured = CoverageData(str(copy / ".coverage"))
        measured.read()
        for path in measured.measured_files():
            file = str(Path(path).relative_to(copy / SOURCE))
            source = Path(path).read_text()
            texts, owners = source.splitlines(), owners_of(source)
            for number, contexts in measured.contexts_by_lineno(path).items():
                tests = {context.rpartition("|")[0] for context in contexts} & self.seconds.keys()
                if not tests:  # of imported code
                    continue
                known = self._lines.setdefault(line_of(file, owners[number], texts[number - 1]), [])
                known.extend(sorted(tests.difference(known)))

    def mark(self, test: str) -> str:
        """The name of a test with a digest of its file."""
        return f"{test} {self._files[test.partition('::')[0]][:8]}"

    def of(self, lines: Iterable[str]) -> set[str]:
        """The tests that reach any of these lines."""
        return {test for line in lines for test in self._lines.get(line, ())}


def owners_of(source: str) -> dict[int, str]:
    """The function or class of each line, by line number, such as "Batcher.do"."""
    owners: dict[int, str] = defaultdict(str)
    for name, node in _named(ast.parse(source), ""):
        owners |= dict.fromkeys(range(node.lineno, (node.end_lineno or 0) + 1), name)
    return owners


def _named(node: ast.AST, within: str) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef]]:
    """Outer ones first."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            name = f"{within}.{child.name}" if within else child.name
            yield name, child
            yield from _named(child, name)
        else:
            yield from _named(child, within)


class Uses:
    """Where the names of modules and classes are used: code that runs at import belongs to no single test."""

    def __init__(self, source: Path) -> None:
        self._lines: dict[str, set[str]] = defaultdict(set)  # of functions, by the names used in them
        self._names: dict[str, set[str]] = defaultdict(set)  # of modules, by the names that they are built from
        self._functions: dict[str, set[str]] = defaultdict(set)  # functions or classes, by the names used in them
        self.functions: set[tuple[str, str]] = set()
        for path in source.glob("**/*.py"):
            self._read(str(path.relative_to(source)), path.read_text())

    def _read(self, file: str, source: str) -> None:
        texts, owners, tree = source.splitlines(), owners_of(source), ast.parse(source)
        functions = {name for name, node in _named(tree, "") if not isinstance(node, ast.ClassDef)}
        self.functions |= {(file, name) for name in functions}
        for statement in tree.body:
            targets = getattr(statement, "targets", None) or [getattr(statement, "target", statement)]
            made = {name for target in targets if (name := getattr(target, "id", getattr(target, "name", None)))}
            for node in ast.walk(statement):
                used = getattr(node, "id", getattr(node, "attr", None))
                if isinstance(used, str) and (owner := owners[node.lineno]) in functions:
                    self._lines[used].add(line_of(file, owner, texts[node.lineno - 1]))
                    self._functions[used].add(owner.partition(".")[0])
                elif isinstance(used, str):
                    self._names[used] |= made
        for name, node in _named(tree, ""):
            if isinstance(node, ast.ClassDef):
                inside = (number for number, owner in owners.items() if owner.startswith(f"{name}."))
                self._lines[name] |= {line_of(file, owners[number], texts[number - 1]) for number in inside}

    def lines_of(self, name: str, *, through_functions: bool = False) -> set[str]:
        """The lines of functions that use a name or anything built from it, or that use those functions."""
        known, new = set[str](), {name}
        while new:
            known |= new
            made = {one for used in new for one in self._names[used]}
            new = (made | {one for used in new for one in self._functions[used] if through_functions}) - known
        return {line for one in known for line in self._lines[one]}
