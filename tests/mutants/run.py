"""Put each fault into a copy of the source, and see its tests fail: `python tests/mutants/run.py --help`.

The copy has an environment of its own in which nothing leads to the original: services that tests start as processes,
with whatever variables, run the mutated code as well.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
import venv
from argparse import ArgumentParser
from pathlib import Path

from mutants import MUTANTS, Mutant

ROOT = Path(__file__).parents[2]
LEFT_OUT = shutil.ignore_patterns(".git", ".venv*", ".local", "__pycache__", ".*_cache", "*.egg-info", "screenshots")
SECONDS_A_MUTANT = 180
TESTS_FAILED = 1  # pytest's exit status; others mean that it could not run them


def copy_to(folder: Path) -> Path:
    """Copy the project with an environment that has the same packages; the environment's Python."""
    shutil.copytree(ROOT, folder, ignore=LEFT_OUT, dirs_exist_ok=True)
    environment = folder / ".venv"
    venv.create(environment, symlinks=True)
    packages = sysconfig.get_path("purelib", vars={"base": str(environment)})
    # Of a folder that is named here, no .pth file is read: the original's editable install is not found.
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


def put_in(mutant: Mutant, folder: Path) -> None:
    """Mutate the source of a copy.

    Raises:
        LookupError: the source does not say any more what was to be replaced.
    """
    path = folder / "src" / "provider_registration" / mutant.file
    source = path.read_text()
    if (found := source.count(mutant.old)) != mutant.times:
        message = f"{mutant.name}: {mutant.file} has {mutant.old!r} {found} times, not {mutant.times}"
        raise LookupError(message)
    path.write_text(source.replace(mutant.old, mutant.new))


def is_killed(mutant: Mutant) -> bool:
    """Whether the mutant's tests fail on it."""
    with tempfile.TemporaryDirectory(prefix="provider-registration-mutant-") as name:
        folder = Path(name)
        python = copy_to(folder)
        folder.chmod(0o755)  # for root, whose PostgreSQL runs as somebody else
        put_in(mutant, folder)
        options = ("-m", "pytest", "-q", "-x", "--tb=line", "-p", "no:cacheprovider")
        result = subprocess.run(
            [python, *options, *mutant.tests],
            cwd=folder,
            check=False,
            capture_output=True,
            text=True,
            timeout=SECONDS_A_MUTANT,
        )
    if result.returncode not in (0, TESTS_FAILED):
        sys.exit(f"{mutant.name}: the tests could not run\n{result.stdout[-2000:]}{result.stderr[-2000:]}")
    return result.returncode == TESTS_FAILED


def main() -> None:
    """Judge the mutants; the exit status is 1 when one lives."""
    parser = ArgumentParser(description=__doc__, usage="run.py [--only TEXT]")
    parser.add_argument("--only", default="", metavar="TEXT", help="mutants with this in their names")
    only = parser.parse_args().only
    alive = 0
    for mutant in MUTANTS:
        if only in mutant.name:
            started = time.monotonic()
            killed = is_killed(mutant)
            alive += not killed
            print(f"{'killed' if killed else 'ALIVE '} {time.monotonic() - started:4.0f} s  {mutant.name}", flush=True)  # noqa: T201
    sys.exit(f"{alive} alive" if alive else 0)


if __name__ == "__main__":
    main()
