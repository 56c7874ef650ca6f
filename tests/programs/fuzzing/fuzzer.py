"""One run of schemathesis against the service, and its result."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .stage import EMAIL, PASSWORD, Stage

HERE = Path(__file__).parent
FAILED = 1  # schemathesis's exit status if checks failed; 0 is success, others mean that it could not run

ROLES = ("nobody", "admin")


@dataclass(frozen=True)
class Verdict:
    """The result of a run. `output` has a command for each failure that repeats its request."""

    report: dict[str, Any]
    output: str

    @property
    def cases(self) -> int:
        """Requests that were generated and checked."""
        return self.report["test_cases"]["generated"]

    @property
    def problems(self) -> Counter[str]:
        """The failures, such as ServerError, and their numbers."""
        failures = {each["type"]: each["count"] for each in self.report["failures"]}
        return Counter(failures) + Counter({each["title"]: each["count"] for each in self.report["errors"]})

    @property
    def is_good(self) -> bool:
        """Whether everything that schemathesis.toml does not leave out was tried and passed."""
        operations = self.report["operations"]
        return self.report["exit_code"] == 0 and operations["tested"] == operations["selected"]


async def fuzz(stage: Stage, role: str, *, examples: int, limits: bool = True, seed: int, folder: Path) -> Verdict:
    """Try some `examples` of each operation, sequences of operations and, if `limits`, the limits of every schema.

    `role` is one of ROLES. Files go to `folder`. The seed repeats the generated data, not the service's state.
    """
    report = folder / f"{role}-{seed}.json"
    phases = ("examples", *(["coverage"] if limits else []), "fuzzing", "stateful")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "schemathesis.cli", "--config-file", HERE / "schemathesis.toml"),
        *("run", f"{stage.url}/openapi.json", "--no-color"),
        *(
            f"--phases={','.join(phases)}",
            f"--seed={seed}",
            f"--max-examples={examples}",
            f"--report-json-path={report}",
        ),
        cwd=folder,
        env={
            **{name: value for name, value in os.environ.items() if name in ("PATH", "LANG", "TMPDIR")},
            "SCHEMATHESIS_HOOKS": str(HERE / "hooks.py"),
            "FUZZ_ROLE": role,
            "FUZZ_URL": stage.url,
            "FUZZ_USERNAME": EMAIL,
            "FUZZ_PASSWORD": PASSWORD,
        },
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    text = output.decode()
    assert process.returncode in (0, FAILED), text
    assert report.exists(), text
    return Verdict(json.loads(report.read_text()), text)
