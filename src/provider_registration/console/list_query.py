"""Which candidates the list in the console shows: its query parameters."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from typing import Annotated, Literal
from urllib.parse import urlencode
from uuid import UUID

from pydantic import BaseModel, BeforeValidator, Field

from provider_registration.candidates.company import MAX_INTEGER, Product
from provider_registration.candidates.models import Status
from provider_registration.candidates.schemas import ListCursor
from provider_registration.candidates.selection import MAX_WORDS_LENGTH, ListPosition, Order, Selection
from provider_registration.console.layout import EmptyIsAbsent
from provider_registration.web.text import Text

Day = Annotated[date | None, EmptyIsAbsent]
Number = Annotated[int | None, Field(ge=1, le=MAX_INTEGER), EmptyIsAbsent]
# By column: the order that its head selects first.
FIRST_ORDERS = {
    "company_name": Order.FIRST_NAME,
    "truck_count": Order.MOST_TRUCKS,
    "capacity_tons_per_day": Order.LARGEST,
    "registered": Order.NEWEST,
    "decided": Order.LAST_CHANGED,
}
# Of URLs that were saved before there were more orders.
OLDER_ORDERS = {"oldest": Order.OLDEST, "newest": Order.NEWEST}
SavedOrder = BeforeValidator(lambda value: OLDER_ORDERS.get(value, value) if isinstance(value, str) else value)


class CandidatesQuery(BaseModel):
    """The query parameters of the list; days are in UTC, and both are included.

    Without a status, it shows pending candidates.
    """

    status: Annotated[Status | Literal["all"] | None, EmptyIsAbsent] = None
    product: Annotated[Product | None, EmptyIsAbsent] = None
    registered_from: Day = None
    registered_to: Day = None
    decided_from: Day = None
    decided_to: Day = None
    capacity_min: Number = None
    capacity_max: Number = None
    trucks_min: Number = None
    trucks_max: Number = None
    decided_by: Annotated[UUID | None, EmptyIsAbsent] = None
    order: Annotated[Order | None, SavedOrder, EmptyIsAbsent] = None
    search: Annotated[str, Text(MAX_WORDS_LENGTH)] = ""
    after: ListCursor | None = None

    @property
    def shown_status(self) -> Status | Literal["all"]:
        """The status that is shown; pending by default."""
        return self.status or Status.PENDING

    @property
    def shown_order(self) -> Order:
        """The order: with words by relevance; otherwise pending candidates oldest first, all others newest first."""
        if self.order and (self.search or self.order is not Order.RELEVANCE):
            return self.order
        if self.search:
            return Order.RELEVANCE
        return Order.OLDEST if self.shown_status is Status.PENDING else Order.NEWEST

    @property
    def selection(self) -> Selection:
        """The filters and the order."""
        return Selection(
            status=None if self.shown_status == "all" else Status(self.shown_status),
            product=self.product,
            words=self.search,
            registered_from=_midnight(self.registered_from),
            registered_to=_midnight_after(self.registered_to),
            decided_from=_midnight(self.decided_from),
            decided_to=_midnight_after(self.decided_to),
            capacity_min=self.capacity_min,
            capacity_max=self.capacity_max,
            trucks_min=self.trucks_min,
            trucks_max=self.trucks_max,
            decided_by=self.decided_by,
            order=self.shown_order,
        )

    @property
    def position(self) -> ListPosition | None:
        """Where the previous page ended; None if the cursor is of another order."""
        position = ListPosition.from_cursor(self.after) if self.after else None
        if position and position.order is Order.NEWEST and self.shown_order is Order.OLDEST:
            return replace(position, order=Order.OLDEST)  # a cursor of an earlier release, which has no order
        return position if position and position.order is self.shown_order else None

    @property
    def own_filters(self) -> dict[str, object]:
        """The filters that are set, beside the status, as in the query string."""
        exclude = {"status", "order", "after"}
        return {name: each for name, each in self.model_dump(exclude=exclude, mode="json").items() if each}

    @property
    def are_counts_shown(self) -> bool:
        """Whether the counts of statuses are those of the list: they know no other filter than the product."""
        return self.own_filters.keys() <= {"product"}

    @property
    def without_filters(self) -> str:
        """The query string of the list without its own filters."""
        return urlencode({name: value for name in ("status", "order") if (value := getattr(self, name))})

    def sort_by(self, column: str) -> Sorting | None:
        """How the head of a column sorts the list: the other way round if it is sorted by it; None if it does not."""
        first = FIRST_ORDERS.get(column)
        if first is None or (column == "decided" and self.shown_status is Status.PENDING):
            return None
        now, other = self.shown_order, _reversed(first)
        state = None
        if now in (first, other):
            state = "descending" if now.startswith("-") else "ascending"
        return Sorting(self.query_string(order=other if now is first else first), state)

    def exported(self, kind: str) -> dict[str, object]:
        """What an export's event says: no search words, which may name a person."""
        others = sorted(self.own_filters.keys() - {"product"})
        filters = {"product": self.product, "filters": others}
        return {"format": kind, "status": self.shown_status, **{name: each for name, each in filters.items() if each}}

    def query_string(self, **changes: object) -> str:
        """The query string of the same list with some changes; without `after`, its first page."""
        values = {**self.model_dump(exclude={"after"}, mode="json"), **changes}
        return urlencode({name: value for name, value in values.items() if value})


@dataclass(frozen=True, slots=True)
class Sorting:
    """The query string of the list sorted by a column, and how it is sorted by it now, as in `aria-sort`."""

    address: str
    now: str | None


def _reversed(order: Order) -> Order:
    return Order(order.removeprefix("-") if order.startswith("-") else f"-{order}")


def _midnight(day: date | None) -> datetime | None:
    return datetime.combine(day, time.min, UTC) if day else None


def _midnight_after(day: date | None) -> datetime | None:
    return _midnight(day + timedelta(days=1)) if day and day < date.max else None
