"""A pytest plugin that writes the outcome and the seconds of each test to a file: `--outcomes FILE`."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path

import pytest

OPTION = "--outcomes"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(OPTION, type=Path, help="where to write them")


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(_Watch(config.getoption(OPTION)))


def read(path: Path) -> dict[str, tuple[str, float]]:
    """The outcome and the seconds of each test."""
    return json.loads(path.read_text()) if path.exists() else {}


class _Watch:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._seconds: dict[str, float] = defaultdict(float)
        self._outcomes: dict[str, str] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when != "setup":  # which others may share
            self._seconds[report.nodeid] += report.duration
        if report.outcome != "passed" or report.when == "call":
            self._outcomes[report.nodeid] = report.outcome

    def pytest_sessionfinish(self) -> None:
        outcomes = {test: (outcome, round(self._seconds[test], 3)) for test, outcome in self._outcomes.items()}
        self._path.write_text(json.dumps(outcomes))
