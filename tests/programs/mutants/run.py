"""Put each fault into a copy of the source and run its tests: `python -m tests.programs.mutants.run --help`.

The copy has its own environment without references to the original: services that tests start as processes also run the
mutated code, whatever their variables.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
import venv
from argparse import ArgumentParser
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from .models import Mutant
from .mutants import MUTANTS

ROOT = Path(__file__).parents[3]
LEFT_OUT = shutil.ignore_patterns(".git", ".venv*", ".local", "__pycache__", ".*_cache", "*.egg-info", "screenshots")
SECONDS_A_MUTANT = 180
VERDICTS = {0: "passed", 1: "failed"}  # by pytest's exit status; others mean that the tests could not run


def copy_to(folder: Path) -> Path:
    """Copy the project with an environment that has the same packages; return its Python."""
    shutil.copytree(ROOT, folder, ignore=LEFT_OUT, dirs_exist_ok=True)
    # Bytecode is valid for a file of the same time and size: each process compiles only what is mutated.
    shutil.copytree(ROOT / "src", folder / "src", ignore=shutil.ignore_patterns("*.egg-info"), dirs_exist_ok=True)
    environment = folder / ".venv"
    venv.create(environment, symlinks=True)
    packages = sysconfig.get_path("purelib", vars={"base": str(environment)})
    # Python reads no .pth files of a folder named here, so the original's editable install is not found.
    paths = f"{folder / 'src'}\n{sysconfig.get_path('purelib')}\n"
    Path(packages, "project.pth").write_text(paths)
    for program in Path(sys.executable).parent.iterdir():
        copy = environment / "bin" / program.name
        if not copy.exists() and program.is_file():
            _copy_program(program, copy)
    return environment / "bin" / "python"


def _copy_program(program: Path, copy: Path) -> None:
    content = program.read_bytes()
    if content.startswith(b"#!"):
        copy.write_bytes(content.replace(str(program.parent).encode(), str(copy.parent).encode()))
        copy.chmod(0o755)
    else:
        copy.symlink_to(program)


@contextmanager
def put_in(mutant: Mutant, folder: Path) -> Iterator[None]:
    """Mutate the source of a copy during the block.

    Raises:
        LookupError: the text to replace is no longer in the source.
    """
    path = folder / "src" / "provider_registration" / mutant.file
    source = path.read_text()
    if (found := source.count(mutant.old)) != mutant.times:
        message = f"{mutant.name}: {mutant.file} has {mutant.old!r} {found} times, not {mutant.times}"
        raise LookupError(message)
    before = path.stat()
    path.write_text(source.replace(mutant.old, mutant.new))
    try:
        yield
    finally:
        path.write_text(source)
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))  # its bytecode is valid again


def verdict_of(
    python: Path, tests: Iterable[str], *, seconds: float = SECONDS_A_MUTANT, options: Iterable[str] = ()
) -> str:
    """The verdict of a copy's tests: "passed", "failed", "took too long" or "could not run"."""
    folder = python.parents[2]
    always = ("-m", "pytest", "-q", "-x", "--tb=line", "-p", "no:cacheprovider")
    with subprocess.Popen(
        [python, *always, *options, *tests],
        cwd=folder,
        env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},  # two versions of a file may have the same second and size
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as running:
        try:
            status = running.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(running.pid, signal.SIGKILL)
            return "took too long"
    return VERDICTS.get(status, "could not run")


def main() -> None:
    """Judge the mutants; the exit status is 1 if one survives."""
    parser = ArgumentParser(description=__doc__, usage="run.py [--only TEXT]")
    parser.add_argument("--only", default="", metavar="TEXT", help="mutants whose name contains this")
    only = parser.parse_args().only
    alive = 0
    unchanged: dict[str, str] = {}  # by the name of a test: its verdict without a mutant
    with tempfile.TemporaryDirectory(prefix="provider-registration-mutants-") as name:
        folder = Path(name)
        python = copy_to(folder)
        folder.chmod(0o755)  # for root, whose PostgreSQL runs as another user
        for mutant in MUTANTS:
            if only not in mutant.name:
                continue
            for test in mutant.tests:
                unchanged.setdefault(test, verdict_of(python, [test]))
            before = {unchanged[test] for test in mutant.tests}
            started = time.monotonic()
            with put_in(mutant, folder):
                verdict = verdict_of(python, mutant.tests) if before == {"passed"} else "not judged"
            alive += verdict != "failed"
            shown = {"failed": "killed", "passed": "ALIVE"}.get(verdict, verdict.upper())
            print(f"{shown:13} {time.monotonic() - started:4.0f} s  {mutant.name}", flush=True)  # noqa: T201
    sys.exit(f"{alive} not killed" if alive else 0)


if __name__ == "__main__":
    main()
