"""Pagination by `cursor`, by `limit` and `offset`, or by `page` and `page_size`."""

from __future__ import annotations

import binascii
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from math import ceil
from typing import Annotated, Any, Generic, Literal, Self, TypeVar
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, WithJsonSchema, model_validator
from pydantic.json_schema import SkipJsonSchema
from pydantic_core import PydanticCustomError

from provider_registration.web.text import OpaqueText

DEFAULT_LIMIT = 20
MAX_LIMIT = 100
MAX_ID = 2**63 - 1  # PostgreSQL's largest bigint
MAX_OFFSET = 100_000  # PostgreSQL reads every skipped row
TOO_FAR = f"At most {MAX_OFFSET:,} rows can be skipped"
WAY_ON = "use a cursor, from pagination.next_cursor or the Link header"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Position:
    """A position in a list ordered by time and ID."""

    at: datetime
    id: UUID

    def to_cursor(self) -> str:
        """Encode the position in 32 characters: microseconds since 1970 in 8 bytes, and the ID."""
        microseconds = (self.at - EPOCH) // MICROSECOND
        return urlsafe_b64encode(microseconds.to_bytes(8, signed=True) + self.id.bytes).decode()

    @classmethod
    def from_cursor(cls, cursor: str) -> Self:
        """Decode a cursor.

        Raises:
            PydanticCustomError: it is not a valid cursor.
        """
        try:
            value = urlsafe_b64decode(cursor.encode("ascii"))
            position = cls(EPOCH + int.from_bytes(value[:8], signed=True) * MICROSECOND, UUID(bytes=value[8:]))
        except (ValueError, OverflowError, binascii.Error):
            position = None
        if position is None or position.to_cursor() != cursor:
            raise PydanticCustomError("cursor", "Input should be a cursor from a page of this list")
        return position


NEWEST_END = Position(datetime.max.replace(tzinfo=UTC), UUID(int=2**128 - 1))


PositionT = TypeVar("PositionT")


@dataclass(frozen=True, slots=True)
class Page(Generic[PositionT]):
    """A slice of a list: at most `limit` rows, after a position in it and after `offset` further rows."""

    limit: int
    offset: int = 0
    after: PositionT | None = None


def _is_cursor(value: str) -> str:
    Position.from_cursor(value)
    return value


Cursor = Annotated[OpaqueText, AfterValidator(_is_cursor)]
CURSOR_DESCRIPTION = (
    "Continue after a page: its `pagination.next_cursor`. Combine only with `limit` or `page_size`, and the same "
    "filters and order"
)
LongCursor = Annotated[str, Field(max_length=1500)]  # with a name; subclasses decode it
Size = Annotated[
    int,
    Field(ge=1, le=MAX_LIMIT),
    WithJsonSchema({"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": DEFAULT_LIMIT}),
]
# A cursor that is an ID; `next_cursor` is a string, so this is documented as one.
IdCursor = Annotated[int, Field(ge=1, le=MAX_ID), WithJsonSchema({"type": "string", "pattern": "^[1-9][0-9]{0,17}$"})]


class PageQuery(BaseModel):
    """Query parameters of a list; subclasses add filters."""

    model_config = ConfigDict(extra="forbid")

    limit: Size | None = Field(None, description="Maximum rows")
    offset: int | None = Field(None, ge=0, le=MAX_OFFSET, description="Rows to skip")
    page: int | None = Field(
        None, ge=1, le=MAX_OFFSET + 1, description=f"Page number, from 1; at most {MAX_OFFSET:,} rows can be skipped"
    )
    page_size: Size | None = Field(None, description="Rows per page")

    @model_validator(mode="after")
    def _use_one_pagination(self) -> Self:
        # The default counts as omitted: generated clients send it.
        limit, page_size = (None if size == DEFAULT_LIMIT else size for size in (self.limit, self.page_size))
        if (limit, self.offset) != (None, None) and (self.page, page_size) != (None, None):
            raise PydanticCustomError("two_paginations", "Use limit and offset, or page and page_size, not both")
        if self.to_page().offset > MAX_OFFSET:
            raise PydanticCustomError("too_far", f"{TOO_FAR}; {WAY_ON}")
        return self

    def _size(self) -> int:
        sizes = [size for size in (self.limit, self.page_size) if size not in (None, DEFAULT_LIMIT)]
        return sizes[0] if sizes else DEFAULT_LIMIT

    def to_page(self) -> Page[Any]:
        """The requested slice."""
        limit = self._size()
        return Page(limit, self.offset or ((self.page or 1) - 1) * limit)


class CursorQuery(PageQuery):
    """Query parameters of a list with a cursor, at the same cost for every page; subclasses decode it."""

    cursor: LongCursor | None = Field(None, description=CURSOR_DESCRIPTION)

    @model_validator(mode="after")
    def _use_one_position(self) -> Self:
        if self.cursor is not None and (self.offset, self.page) != (None, None):
            raise PydanticCustomError("two_places", "Use cursor, offset or page, not two of them")
        return self


class PositionQuery(CursorQuery):
    """Query parameters of a list ordered by time and ID."""

    cursor: Cursor | None = Field(None, description=CURSOR_DESCRIPTION)

    def to_page(self) -> Page[Position]:
        """The requested slice."""
        page: Page[Position] = super().to_page()
        return page if self.cursor is None else replace(page, after=Position.from_cursor(self.cursor))


class Pagination(BaseModel):
    """The position of a page in the whole list."""

    total: int = Field(description="Rows in the whole list", examples=[42])
    limit: int = Field(description="Maximum rows per page", examples=[20])
    offset: int | None = Field(description="Rows before this page; null with a cursor", examples=[0])
    page: int | None = Field(description="Page number of the first row, from 1; null with a cursor", examples=[1])
    page_size: int = Field(description="The same as limit", examples=[20])
    total_pages: int = Field(description="Pages of this size in the whole list", examples=[3])
    next_cursor: str | None = Field(
        description="Cursor of the next page; null on the last", examples=["AAZFJk3xWZULjzxSlLFMQ58Oah9fLXwR"]
    )

    @classmethod
    def of(cls, page: Page[Any], total: int, next_cursor: str | None) -> Self:
        """Describe `page` of a list with `total` rows."""
        return cls(**_described(page), total=total, total_pages=ceil(total / page.limit), next_cursor=next_cursor)


class CursorPagination(Pagination):
    """The position of a page in a list whose total may not be exact."""

    total_pages: int | None = Field(  # type: ignore[assignment]
        description="Pages of this size in the whole list; null if the total is not exact", examples=[3]
    )
    total_is_exact: Literal[False] | SkipJsonSchema[None] = Field(
        None, description="Only if there are more rows than `total`", exclude_if=lambda value: value is None
    )

    @classmethod
    def at(cls, page: Page[Any], total: int, next_cursor: str | None, *, is_exact: bool, shown: int) -> Self:
        """Describe `page` of a list of which at most `shown` rows are on its pages; `total` may not be exact."""
        return cls(
            **_described(page),
            total=total,
            total_pages=ceil(min(total, shown) / page.limit) if is_exact else None,
            next_cursor=next_cursor,
            total_is_exact=None if is_exact else False,
        )


def _described(page: Page[Any]) -> dict[str, Any]:
    return {
        "limit": page.limit,
        "offset": None if page.after else page.offset,
        "page": None if page.after else page.offset // page.limit + 1,
        "page_size": page.limit,
    }


class NextPage(BaseModel):
    """The next page of a list without totals."""

    next_cursor: str | None = Field(description="Cursor of the next page; null on the last")
