"""What the list of candidates shows: which of them, in what order, in which columns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal
from urllib.parse import urlencode

from pydantic import BaseModel, BeforeValidator

from provider_registration.candidates.company import Product
from provider_registration.candidates.models import Status
from provider_registration.candidates.search import Order, Selection
from provider_registration.web.pagination import Cursor, Position
from provider_registration.web.text import Text

PAGE_SIZE = 50
MAX_WORDS_LENGTH = 100

# By their names in addresses: the heading of each column, and whether it holds numbers. The company is always there.
COLUMNS = {
    "status": ("Status", False),
    "email": ("E-mail", False),
    "phone": ("Phone", False),
    "location": ("Place", False),
    "products": ("Products", False),
    "trucks": ("Trucks", True),
    "capacity": ("Tons a day", True),
    "registered": ("Registered", False),
    "decided": ("Decided", False),
    "provider": ("Provider", True),
}
FIRST_COLUMNS = ("location", "products", "trucks", "capacity", "registered", "status")


def _empty_is_absent(value: object) -> object:
    return None if value == "" else value


EmptyIsAbsent = BeforeValidator(_empty_is_absent)


class QueueQuery(BaseModel):
    """What the list's address says. Without a status: those who wait."""

    status: Annotated[Status | Literal["all"] | None, EmptyIsAbsent] = None
    product: Annotated[Product | None, EmptyIsAbsent] = None
    order: Annotated[Order | None, EmptyIsAbsent] = None
    search: Annotated[str, Text(MAX_WORDS_LENGTH)] = ""
    after: Cursor | None = None

    @property
    def shown_status(self) -> Status | Literal["all"]:
        """The status that is shown: pending unless told otherwise."""
        return self.status or Status.PENDING

    @property
    def selection(self) -> Selection:
        """Those who wait come oldest first, others newest first, unless told otherwise."""
        status = None if self.shown_status == "all" else Status(self.shown_status)
        usual = Order.OLDEST if status is Status.PENDING else Order.NEWEST
        return Selection(status, self.product, self.search, self.order or usual)

    @property
    def place(self) -> Position | None:
        """Where the page before ended."""
        return Position.from_cursor(self.after) if self.after else None

    def address(self, **changes: object) -> str:
        """The query of the same list with some changes; without `after`, its first page."""
        asked = {**self.model_dump(exclude={"after"}, mode="json"), **changes}
        return urlencode({name: value for name, value in asked.items() if value})


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns that somebody chose, in their usual order."""

    names: tuple[str, ...]

    @classmethod
    def from_text(cls, text: str | None) -> Columns:
        """As a cookie has them; what is not known is left out."""
        return cls.of(text.split("-")) if text is not None else cls.of(FIRST_COLUMNS)

    @classmethod
    def of(cls, names: list[str] | tuple[str, ...]) -> Columns:
        """Those of the names that are columns."""
        return cls(tuple(name for name in COLUMNS if name in names))

    def to_text(self) -> str:
        """For a cookie."""
        return "-".join(self.names)
