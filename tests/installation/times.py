"""Measure how long an installation takes: `python -m tests.installation.times python3.11 python3.13`.

For each Python, clones this checkout's HEAD and measures three times, in seconds:

- cold: `make run` until the first answered request, with no download kept by pip or uv;
- warm: `make run` once more;
- tests: `make test` from another clone, with the downloads of the first kept, until pytest has collected.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from urllib.error import URLError

import click

from tests.ports import a_port

ROOT = Path(__file__).parents[2]
PATIENCE = 300.0  # seconds


def main(pythons: list[str]) -> None:
    """Print a table with a row for each Python."""
    click.echo("| Python | cold | warm | tests |\n|---|--:|--:|--:|")
    for python in pythons:
        with tempfile.TemporaryDirectory() as folder:
            Path(folder).chmod(0o755)  # for root, whose PostgreSQL runs under another account
            row = _measure(Path(folder), python)
        click.echo(f"| {python} | " + " | ".join(f"{seconds:.1f}" for seconds in row) + " |")


def _measure(folder: Path, python: str) -> tuple[float, float, float]:
    environment = {**os.environ, "UV_CACHE_DIR": str(folder / "uv"), "PIP_CACHE_DIR": str(folder / "pip")}
    for name in ("run", "tests"):
        subprocess.run(["git", "clone", "--quiet", ROOT, folder / name], check=True)  # noqa: S607 - the user's git
    make = ["make", f"PYTHON={python}"]
    started = _seconds_until_answer([*make, "run"], folder / "run", environment)
    again = _seconds_until_answer([*make, "run"], folder / "run", environment)
    start = time.monotonic()
    tests = subprocess.run(
        [*make, "test", "ARGS=--collect-only -q"],
        cwd=folder / "tests",
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    )
    assert re.search(r"\d+ tests collected", tests.stdout)
    return started, again, time.monotonic() - start


def _seconds_until_answer(command: list[str], folder: Path, environment: dict[str, str]) -> float:
    port = a_port()
    start = time.monotonic()
    process = subprocess.Popen(
        command,
        cwd=folder,
        env={**environment, "APP_PORT": str(port)},
        stdout=subprocess.DEVNULL,
        start_new_session=True,  # so that Ctrl-C reaches make and its children, but not this process
    )
    try:
        while not _answers(port):
            if process.poll() is not None or time.monotonic() - start > PATIENCE:
                raise TimeoutError(f"{' '.join(command)} gave no answer")
            time.sleep(0.02)
        return time.monotonic() - start
    finally:
        os.killpg(process.pid, signal.SIGINT)
        process.wait(PATIENCE)


def _answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health/ready", timeout=5) as answer:
            return bool(answer.status == 200)
    except (URLError, OSError):
        return False


if __name__ == "__main__":
    main(sys.argv[1:] or [sys.executable])
