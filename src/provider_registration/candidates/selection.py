"""What a list, an export or a job selects: filters, words and an order; and a position in that order."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from functools import cache
from typing import Any, ClassVar, Self
from uuid import UUID

from pydantic import ConfigDict, TypeAdapter
from pydantic_core import PydanticCustomError

from provider_registration.candidates.company import MAX_INTEGER, Product
from provider_registration.candidates.models import Status
from provider_registration.web.pagination import NEWEST_END, Position

MAX_WORDS_LENGTH = 100  # characters
OLDEST_END = Position(datetime.min.replace(tzinfo=UTC), UUID(int=0))


class Order(StrEnum):
    """A column to sort by, descending after a minus; equal values are in the order of their IDs.

    Relevance: the rows that match the words best, at most MAX_RELEVANT of them.
    """

    OLDEST = "created_at"
    NEWEST = "-created_at"
    FIRST_NAME = "company_name"
    LAST_NAME = "-company_name"
    SMALLEST = "capacity_tons_per_day"
    LARGEST = "-capacity_tons_per_day"
    FEWEST_TRUCKS = "truck_count"
    MOST_TRUCKS = "-truck_count"
    FIRST_CHANGED = "updated_at"
    LAST_CHANGED = "-updated_at"
    RELEVANCE = "relevance"

    @property
    def column(self) -> str:
        """The column, in which relevance has none."""
        return self.removeprefix("-")

    @property
    def start(self) -> Position | None:
        """The position before the first, in lists by registration time."""
        return {Order.OLDEST: OLDEST_END, Order.NEWEST: NEWEST_END}.get(self)


# The SQL condition for each filter of a selection. Times are from `_from` on and before `_to`.
FILTERS = {
    "status": "status = :status",
    "product": "products @> ARRAY[CAST(:product AS text)]",
    "registered_from": "created_at >= CAST(:registered_from AS timestamptz)",
    "registered_to": "created_at < CAST(:registered_to AS timestamptz)",
    "decided_from": "status <> 'pending' AND updated_at >= CAST(:decided_from AS timestamptz)",
    "decided_to": "status <> 'pending' AND updated_at < CAST(:decided_to AS timestamptz)",
    "capacity_min": "capacity_tons_per_day >= :capacity_min",
    "capacity_max": "capacity_tons_per_day <= :capacity_max",
    "trucks_min": "truck_count >= :trucks_min",
    "trucks_max": "truck_count <= :trucks_max",
    # The user or API key that requested the approval, or rejected; known while the event is kept.
    "decided_by": """id IN (
        SELECT candidate_id FROM candidate_events
        WHERE actor_id = :decided_by AND type IN ('candidate.approved', 'candidate.rejected')
    )""",
    "contact_email": "contact_email_canonical = :contact_email",
    "updated_since": "updated_at >= CAST(:updated_since AS timestamptz)",
}
COUNTED = frozenset(["status", "product"])  # filters whose totals are kept in candidate_counts


@dataclass(frozen=True, slots=True)
class Selection:
    """Filters, words and order; `contact_email` is canonical. Each word must be in the search text, or nearly."""

    status: Status | None = None
    product: Product | None = None
    words: str = ""
    registered_from: datetime | None = None
    registered_to: datetime | None = None
    decided_from: datetime | None = None
    decided_to: datetime | None = None
    capacity_min: int | None = None
    capacity_max: int | None = None
    trucks_min: int | None = None
    trucks_max: int | None = None
    decided_by: UUID | None = None
    contact_email: str | None = None
    updated_since: datetime | None = None
    order: Order = Order.OLDEST

    __pydantic_config__: ClassVar = ConfigDict(extra="forbid")  # of another release: a filter must not be lost

    @property
    def filters(self) -> dict[str, object]:
        """The value of each filter that is set."""
        return {name: value for name in FILTERS if (value := getattr(self, name)) is not None}

    @property
    def is_counted(self) -> bool:
        """Whether its total is in candidate_counts."""
        return not self.words and self.filters.keys() <= COUNTED

    def to_json(self) -> dict[str, Any]:
        """As JSON, to store it."""
        made: dict[str, Any] = _adapter().dump_python(self, mode="json", exclude_defaults=True)
        return made

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> Self:
        """Read what `to_json` made.

        Raises:
            ValidationError: it is of another release, or no selection.
        """
        made: Self = _adapter().validate_python(stored)
        return made


@cache
def _adapter() -> TypeAdapter[Any]:
    return TypeAdapter(Selection)


@dataclass(frozen=True, slots=True)
class ListPosition:
    """A position in a selection: the last row's value in the column of the order, and its ID.

    In a list by relevance, the value is the number of rows before it.
    """

    order: Order
    value: datetime | int | str
    id: UUID

    def to_cursor(self) -> str:
        """Encode the position, with its order; of the newest first as earlier releases do, in 32 characters."""
        value = self.value
        if isinstance(value, datetime):
            cursor = Position(value, self.id).to_cursor()
            return cursor if self.order is Order.NEWEST else f"{self.order}.{cursor}"
        encoded = value.to_bytes(4) if isinstance(value, int) else value.encode()
        return f"{self.order}.{urlsafe_b64encode(self.id.bytes + encoded).decode()}"

    @classmethod
    def from_cursor(cls, cursor: str) -> Self:
        """Decode a cursor.

        Raises:
            PydanticCustomError: it is not a valid cursor.
        """
        name, _, encoded = cursor.rpartition(".")
        try:
            position = cls._decoded(Order(name or Order.NEWEST), encoded)
        except ValueError:
            position = None
        if position is None or position.to_cursor() != cursor:
            raise PydanticCustomError("cursor", "Input should be a cursor from a page of this list")
        return position

    @classmethod
    def _decoded(cls, order: Order, encoded: str) -> Self | None:
        if order.column in ("created_at", "updated_at"):
            position = Position.from_cursor(encoded)
            return cls(order, position.at, position.id)
        value = urlsafe_b64decode(encoded.encode("ascii"))
        id_, rest = UUID(bytes=value[:16]), value[16:]
        if order.column != "company_name":
            number = int.from_bytes(rest)
            return cls(order, number, id_) if number <= MAX_INTEGER else None
        name = rest.decode()
        return cls(order, name, id_) if "\0" not in name else None
