"""What a fault is."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Mutant:
    """`old`, which occurs `times` times in a source file, becomes `new`; `tests` must detect it."""

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]
    times: int = 1
