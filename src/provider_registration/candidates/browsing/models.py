"""What is looked for, and what is found."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from uuid import UUID

from provider_registration.candidates.models import Candidate, Product, Status
from provider_registration.web.pagination import BEGINNING, Position

EARLIEST = Position(datetime.min.replace(tzinfo=UTC), UUID(int=0))


class Order(StrEnum):
    """By when they registered; other orders would need an index each, which every registration had to keep."""

    OLDEST = "oldest"
    NEWEST = "newest"

    @property
    def start(self) -> Position:
        """The place before the first."""
        return EARLIEST if self is Order.OLDEST else BEGINNING


@dataclass(frozen=True, slots=True)
class Selection:
    """Which candidates, and in what order. Each of `words` is in the search text."""

    status: Status | None = None
    product: Product | None = None
    words: str = ""
    order: Order = Order.OLDEST


@dataclass(frozen=True, slots=True)
class Found:
    """Some candidates of a selection, in its order. `next` leads to more; `is_partial`: too many matched to see all."""

    candidates: list[Candidate]
    next: Position | None
    is_partial: bool = False
