"""The programs of Node.js that `make` installs into `.venv/node`."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

MODULES = Path(sys.prefix) / "node" / "node_modules"
NODE = shutil.which("node")
needs_node = pytest.mark.skipif(NODE is None, reason="node is not installed (Debian: apt install nodejs npm)")
needs_java = pytest.mark.skipif(
    shutil.which("java") is None, reason="java is not installed (Debian: apt install default-jre-headless)"
)

TYPESCRIPT = {
    "strict": True,
    "target": "es2022",
    "module": "nodenext",
    "lib": ["es2022", "dom", "dom.iterable"],
    "types": [],
    "outDir": "built",
}


def run(command: list[str | Path], folder: Path) -> str:
    """Run a program; its standard output."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, f"{command[0]}:\n{done.stdout}{done.stderr}"
    return done.stdout


def installed(name: str) -> Path:
    """A program that `make` has installed, because there is a node."""
    program = MODULES / ".bin" / name
    assert program.exists(), "the packages of tests/clients/package.json are missing: run `make node`"
    return program
