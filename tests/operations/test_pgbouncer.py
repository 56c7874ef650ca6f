"""The service behind PgBouncer in transaction mode; `make test ARGS=--pgbouncer` puts all tests through it."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from pathlib import Path

import pytest

from tests.pgbouncer import PORT, PROGRAM

ROOT = Path(__file__).parents[2]
SUBJECTS = ("approval", "rejection", "reading")
AT_LEAST = 50  # tests in these files
SECONDS = 300


@pytest.mark.skipif(PROGRAM is None, reason="there is no pgbouncer")
async def test_what_callers_do_works_through_pgbouncer():
    alone = {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "COV_")) and name != PORT
    }
    running = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "pytest", "-q", "--pgbouncer"),
        *(f"tests/api/test_{subject}.py" for subject in SUBJECTS),
        cwd=ROOT,
        env=alone,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        output, _ = await asyncio.wait_for(running.communicate(), SECONDS)
    finally:
        if running.returncode is None:
            running.kill()

    assert running.returncode == 0, output.decode()[-5000:]
    assert int(re.search(r"(\d+) passed", output.decode())[1]) >= AT_LEAST
