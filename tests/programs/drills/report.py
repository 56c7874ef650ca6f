"""A drill's measurements, and the promises that were kept."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass
class Report:
    """A table, and the broken promises."""

    columns: Sequence[str]
    rows: list[Sequence[object]] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)

    def add(self, *cells: object) -> None:
        """Add a row."""
        self.rows.append(cells)

    def promise(self, kept: bool, otherwise: str) -> None:
        """Record a promise: `otherwise` says what happened instead."""
        if not kept:
            self.broken.append(otherwise)

    def at_most(self, value: float, limit: float, what: str) -> None:
        """Record a promise about a measured number."""
        self.promise(value <= limit, f"{what}: {value:.2f}, at most {limit:g} were promised")

    @contextmanager
    def failures(self, logs: Callable[[], list[str]]) -> Iterator[None]:
        """An error in the block is a broken promise, reported with the ends of the logs."""
        try:
            yield
        except Exception:  # noqa: BLE001 - the table is to be shown all the same
            self.broken.append("\n".join([traceback.format_exc(), *logs()]))

    def show(self, title: str) -> bool:
        """Print everything; return whether every promise was kept."""
        lines = ["", title, "", _line(self.columns), "|---" + "|---:" * (len(self.columns) - 1) + "|"]
        lines += [_line(row) for row in self.rows]
        lines += ["", *(f"BROKEN: {one}" for one in self.broken), "" if self.broken else "Every promise was kept."]
        print(*lines, sep="\n", flush=True)  # noqa: T201 - what the command is for
        return not self.broken


def _line(cells: Sequence[object]) -> str:
    return "| " + " | ".join(f"{cell:.2f}" if isinstance(cell, float) else str(cell) for cell in cells) + " |"
