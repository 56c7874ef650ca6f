"""Lists the tests with the most CPU time, including processes that they wait for: `pytest --processor-time`.

What several tests share counts for the first that uses it.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator

import pytest

PROPERTY = "processor_seconds"
SHOWN = 10


def _used() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


class ProcessorTime:
    """A plugin that measures every test, in any worker, and prints a table at the end."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> Iterator[None]:
        return (yield from self._measured(item))

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Iterator[None]:
        return (yield from self._measured(item))

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> Iterator[None]:
        return (yield from self._measured(item))

    @staticmethod
    def _measured(item: pytest.Item) -> Iterator[None]:
        before = _used()
        try:
            return (yield)
        finally:
            item.user_properties.append((PROPERTY, _used() - before))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Called for every test, also those of other processes."""
        if report.when == "teardown":
            self._seconds[report.nodeid] = sum(value for name, value in report.user_properties if name == PROPERTY)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        folders: dict[str, float] = defaultdict(float)
        for test, seconds in self._seconds.items():
            folders[test.partition("::")[0].rpartition("/")[0]] += seconds
        slowest = sorted(self._seconds.items(), key=lambda item: -item[1])[:SHOWN]
        costliest = sorted(folders.items(), key=lambda item: -item[1])[:SHOWN]
        for what, rows in (("test", slowest), ("folder", costliest)):
            terminalreporter.write_line(f"\n| {what} | CPU seconds |\n|---|--:|")
            for name, seconds in rows:
                terminalreporter.write_line(f"| `{name.removeprefix('tests/')}` | {seconds:.1f} |")
        terminalreporter.write_line(f"\n{len(self._seconds)} tests, {sum(self._seconds.values()):.0f} CPU seconds")
