"""The work folder, and the programs that must be installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.contenders import SOURCES, WORK, Contender

DEBIAN = {"wrk": "wrk", "node": "nodejs", "npm": "npm"}  # programs and their packages
REQUIREMENTS = SOURCES / "requirements.txt"
NODE_PEER = SOURCES / "fastify_postgresjs"
PYTHON_MARK, NODE_MARK = WORK / "venv/installed", WORK / "node/installed"  # made when all is there
PACKAGE_FILES = ("package.json", "package-lock.json")
NODE_PEERS = frozenset({"fastify_postgresjs", "fastify_equal"})
PYTHON_PEERS = frozenset({"litestar_asyncpg", "litestar_equal", "django_ninja"})


class Missing(Exception):
    """A program is missing and cannot be installed."""


def prepare(contenders: Sequence[Contender]) -> None:
    """Install what these contenders need, each thing once.

    Raises:
        Missing: naming what has to be installed by hand.
    """
    names = {contender.name for contender in contenders}
    WORK.mkdir(parents=True, exist_ok=True)
    needs_node = bool(NODE_PEERS & names)
    _install_programs(["wrk", *(["node", "npm"] if needs_node else [])])
    if PYTHON_PEERS & names:
        _install_python()
    if needs_node:
        _install_node()


def _run(*command: str, folder: Path = WORK) -> None:
    subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)


def _install_programs(programs: Sequence[str]) -> None:
    missing = [DEBIAN[program] for program in programs if not shutil.which(program)]
    if not missing:
        return
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise Missing(f"Install {', '.join(missing)} first (Debian, Ubuntu: apt install {' '.join(missing)}).")
    os.environ["DEBIAN_FRONTEND"] = "noninteractive"
    _run("apt-get", "update", "-qq")
    _run("apt-get", "install", "-qq", "--no-install-recommends", *missing)


def is_installed(contender: Contender) -> bool:
    """Whether all that a contender needs is there and of these versions; the Node peer's files are copied then."""
    if contender.name in NODE_PEERS:
        found = _is_newer(NODE_MARK, *(NODE_PEER / name for name in PACKAGE_FILES))
        if found:
            _copy_node_peer()
        return found
    return contender.name not in PYTHON_PEERS or _is_newer(PYTHON_MARK, REQUIREMENTS)


def _is_newer(mark: Path, *sources: Path) -> bool:
    """Whether `mark` was written after these files were last changed."""
    return mark.exists() and all(mark.stat().st_mtime >= source.stat().st_mtime for source in sources)


def _install_python() -> None:
    venv = WORK / "venv"
    if _is_newer(PYTHON_MARK, REQUIREMENTS):
        return
    _run(sys.executable, "-m", "venv", "--clear", str(venv))
    uv = [str(Path(sys.executable).with_name("uv")), "pip", "install", "--quiet", "--python", str(venv / "bin/python")]
    _run(*uv, "--no-deps", "--require-hashes", "--requirement", str(REQUIREMENTS))
    PYTHON_MARK.touch()


def _install_node() -> None:
    """Among the modules is a newer Node than Debian's, so no version is checked against the one that installs."""
    is_there = _is_newer(NODE_MARK, *(NODE_PEER / name for name in PACKAGE_FILES))
    _copy_node_peer()
    if not is_there:
        command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--silent"]
        _run(*command, folder=NODE_MARK.parent)
        NODE_MARK.touch()


def _copy_node_peer() -> None:
    """Copy its files to its modules, because Node looks beside the importing file."""
    folder = NODE_MARK.parent
    folder.mkdir(exist_ok=True)
    for file in NODE_PEER.iterdir():
        shutil.copy(file, folder)
