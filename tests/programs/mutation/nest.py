"""Children of one process run the tests: importing dependencies takes most of the tests' startup time.

The process imports nothing of this project, so each child reads the current source.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import pytest

IMPORTED = (
    *("alembic.command", "anyascii", "asyncpg", "email_validator", "faker", "fastapi", "httpx", "hypothesis", "jinja2"),
    *(
        "jose.jwt",
        "limits",
        "openapi_schema_validator",
        "openpyxl",
        "passlib.hash",
        "playwright.async_api",
        "precis_i18n",
    ),
    *("prometheus_client", "pydantic_settings", "sqlalchemy.ext.asyncio", "tenacity", "uvicorn", "zxcvbn"),
)
TOOK_TOO_LONG = -1
POLL_SECONDS = 0.02


class Nest:
    """The parent process, run by a copy's Python during the block."""

    def __init__(self, python: Path) -> None:
        self._python = python

    def __enter__(self) -> Nest:
        environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1"}  # mutated files are compiled for their run only
        command = [self._python, "-m", __name__]
        self._process = subprocess.Popen(
            command,
            cwd=self._python.parents[2],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def run(self, arguments: Iterable[str], seconds: float) -> int:
        """The exit status of pytest, or TOOK_TOO_LONG."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps([list(arguments), seconds]) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())


def _run(arguments: list[str], seconds: float) -> int:
    child = os.fork()
    if child == 0:
        os.setsid()
        nothing = os.open(os.devnull, os.O_RDWR)
        for standard in range(3):
            os.dup2(nothing, standard)
        os._exit(pytest.main(arguments))
    ends = time.monotonic() + seconds
    try:
        while time.monotonic() < ends:
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                return os.waitstatus_to_exitcode(status)
            time.sleep(POLL_SECONDS)
    finally:
        with suppress(ProcessLookupError):  # ends all processes that the tests started
            os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return TOOK_TOO_LONG


def main() -> None:
    """Run tests for each line of standard input: the arguments of pytest, and the time limit in seconds."""
    for name in IMPORTED:
        importlib.import_module(name)
    gc.freeze()  # so that children share memory
    for line in sys.stdin:
        sys.stdout.write(f"{_run(*json.loads(line))}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
