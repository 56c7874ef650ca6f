"""Check the files in requirements/: `python -m tests.installation.locks`, which `make lint` runs.

- They agree: a package that two of them name has one version and one set of hashes.
- Each is complete: whatever a package in it needs is in it too, on Linux and macOS, with every supported Python.
- The largest can be installed without a resolver by the oldest pip that this Python ever came with, even if every
  package has a newer release. This is tested with an index built here, of packages that contain only metadata.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import tomllib
import venv
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib import metadata
from itertools import chain, combinations, product
from pathlib import Path
from zipfile import ZipFile

from packaging.requirements import Requirement
from packaging.utils import NormalizedName, canonicalize_name

ROOT = Path(__file__).parents[2]
OLDEST_PIP = Path(__file__).with_name("oldest-pip.txt")
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
PLATFORMS = ("linux", "darwin")
NEWER = "9999"  # the version of every package's fictitious newer release

# What each file has to install: optional dependencies of the project, and groups of [dependency-groups].
CONTENTS = {
    "dev.txt": ({"local", "graphql", "nats", "tracing"}, {"build", "dev"}),
    "local.txt": ({"local"}, {"build"}),
    "graphql.txt": ({"graphql"}, set()),
    "nats.txt": ({"nats"}, set()),
    "tracing.txt": ({"tracing"}, set()),
    "runtime.txt": (set(), set()),
    "install.txt": (None, {"install"}),  # not the project
}


@dataclass(frozen=True)
class Locked:
    """One line of a lock: `requirement` has the version of a package, and the marker under which it is installed."""

    requirement: Requirement
    hashes: frozenset[str]

    @property
    def version(self) -> str:
        return next(iter(self.requirement.specifier)).version


# A package has several lines where Pythons need different versions of it.
Lock = dict[NormalizedName, list[Locked]]


def read(path: Path) -> Lock:
    """Read a lock that `uv pip compile --generate-hashes` wrote."""
    lines = (line.partition(" #")[0].strip() for line in path.read_text().splitlines())
    text = "\n".join(line for line in lines if line and not line.startswith("#"))
    lock: Lock = {}
    for entry in text.replace("\\\n", " ").splitlines():
        line, *hashes = (part.strip() for part in entry.split("--hash="))
        requirement = Requirement(line)
        lock.setdefault(canonicalize_name(requirement.name), []).append(Locked(requirement, frozenset(hashes)))
    return lock


def unpinned(lock: Lock) -> Iterator[str]:
    """Lines without exactly one version and the hashes of its files."""
    for locked in chain.from_iterable(lock.values()):
        if [each.operator for each in locked.requirement.specifier] != ["=="] or not locked.hashes:
            yield f"{locked.requirement} is not pinned to one version with hashes"


def disagreements(locks: dict[str, Lock]) -> Iterator[str]:
    """Packages that two locks pin differently."""
    for (one, first), (other, second) in combinations(locks.items(), 2):
        for name in first.keys() & second.keys():
            pins = [{(each.version, each.hashes) for each in lock[name]} for lock in (first, second)]
            if pins[0] != pins[1]:
                yield f"{name} differs between {one} and {other}"


def roots(extras: set[str] | None, groups: set[str]) -> list[Requirement]:
    """The requirements in pyproject.toml; without `extras`, only groups."""
    described = tomllib.loads((ROOT / "pyproject.toml").read_text())
    project, group_table = described["project"], described["dependency-groups"]
    wanted = list(project["dependencies"]) if extras is not None else []
    for extra in extras or ():
        wanted += project["optional-dependencies"][extra]
    waiting = list(groups)
    while waiting:
        for each in group_table[waiting.pop()]:
            if isinstance(each, str):
                wanted.append(each)
            else:
                waiting.append(each["include-group"])
    return [Requirement(each) for each in wanted]


def missing(lock: Lock, wanted: Iterable[Requirement]) -> Iterator[str]:
    """What `wanted`, or a package of the lock, needs and the lock does not have."""
    for python, platform in product(PYTHONS, PLATFORMS):
        environment = {
            "python_version": python,
            "python_full_version": f"{python}.0",
            "sys_platform": platform,
            "platform_system": {"linux": "Linux", "darwin": "Darwin"}[platform],
            "implementation_name": "cpython",
            "platform_python_implementation": "CPython",
            "os_name": "posix",
        }
        where = f"Python {python} on {platform}"
        seen: set[tuple[NormalizedName, str]] = set()
        waiting = [each for each in wanted if applies(each, environment)]
        while waiting:
            needed = waiting.pop()
            name = canonicalize_name(needed.name)
            versions = [each.version for each in lock.get(name, ()) if applies(each.requirement, environment)]
            if len(versions) != 1 or not needed.specifier.contains(versions[0], prereleases=True):
                yield f"{needed} is needed for {where}, and locked is {' and '.join(versions) or 'none'}"
            for extra in {"", *needed.extras} - {extra for seen_name, extra in seen if seen_name == name}:
                seen.add((name, extra))
                waiting += [each for each in needs_of(name) if applies(each, environment | {"extra": extra})]


def applies(requirement: Requirement, environment: dict[str, str]) -> bool:
    """Whether it applies in this environment."""
    return requirement.marker is None or requirement.marker.evaluate(environment)


def needs_of(name: NormalizedName) -> list[Requirement]:
    """The requirements of a package, by its metadata; none if this Python does not install it."""
    try:
        return [Requirement(each) for each in metadata.requires(name) or ()]
    except metadata.PackageNotFoundError:
        return []


def failures_of_installing(lock: Lock) -> Iterator[str]:
    """The error of the oldest pip if it installs the lock while newer releases exist."""
    with tempfile.TemporaryDirectory() as folder:
        index, environment, rewritten = Path(folder, "index"), Path(folder, "venv"), Path(folder, "lock.txt")
        index.mkdir()
        with rewritten.open("w") as file:
            for locked in chain.from_iterable(lock.values()):
                name = canonicalize_name(locked.requirement.name)
                _make_wheel(index, name, NEWER)
                digest = hashlib.sha256(_make_wheel(index, name, locked.version).read_bytes()).hexdigest()
                file.write(f"{locked.requirement} --hash=sha256:{digest}\n")
        venv.create(environment, with_pip=False)
        python = environment / "bin" / "python"
        uv = Path(sys.executable).with_name("uv")
        _run(uv, "pip", "install", "--quiet", "--python", python, "--no-deps", "--require-hashes", "-r", OLDEST_PIP)
        offline = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
        pip = (python, "-m", "pip", "--isolated", "--disable-pip-version-check")
        for arguments in (
            ("install", "--quiet", "--no-index", "--find-links", index, "--no-deps", "--require-hashes", "--no-compile")
            + ("--requirement", rewritten),
            ("check",),
        ):
            result = _run(*pip, *arguments, env=offline, check=False)
            if result.returncode:
                yield f"pip {arguments[0]}: {result.stdout.strip()} {result.stderr.strip()}"


def _make_wheel(index: Path, name: str, version: str) -> Path:
    """An empty package with the requirements of the real one."""
    escaped = name.replace("-", "_")
    info = f"{escaped}-{version}.dist-info"
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    lines += [f"Requires-Dist: {each}" for each in needs_of(canonicalize_name(name))]
    path = index / f"{escaped}-{version}-py3-none-any.whl"
    with ZipFile(path, "w") as wheel:
        wheel.writestr(f"{info}/METADATA", "\n".join(lines) + "\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    return path


def _run(*arguments: object, check: bool = True, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(each) for each in arguments], check=check, capture_output=True, text=True, **options)


def main() -> None:
    """Print the problems, and exit with 1 if there are any."""
    locks = {name: read(ROOT / "requirements" / name) for name in CONTENTS}
    problems = list(disagreements(locks))
    for name, lock in locks.items():
        found = [*unpinned(lock), *dict.fromkeys(missing(lock, roots(*CONTENTS[name])))]
        problems += [f"{name}: {each}" for each in found]
    if not problems:
        problems += failures_of_installing(locks["dev.txt"])
    for problem in problems:
        sys.stderr.write(f"{problem}\n")
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
