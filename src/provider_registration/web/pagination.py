"""Three ways to ask for a page: `cursor`, `limit` and `offset`, or `page` and `page_size`."""

from __future__ import annotations

import binascii
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from math import ceil
from typing import Annotated, Self
from urllib.parse import urlencode
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from provider_registration.web.text import OpaqueText

DEFAULT_LIMIT = 20
MAX_LIMIT = 100
MAX_OFFSET = 100_000  # PostgreSQL walks over every row that is skipped
TOO_FAR = f"Rows after the first {MAX_OFFSET} are reached by cursor; pagination.next_cursor and Link lead there"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Position:
    """A place in a list that is ordered by instant and id."""

    at: datetime
    id: UUID

    def to_cursor(self) -> str:
        """The position as an opaque word of 32 characters: microseconds since 1970 in 8 bytes, and the id."""
        microseconds = (self.at - EPOCH) // MICROSECOND
        return urlsafe_b64encode(microseconds.to_bytes(8, signed=True) + self.id.bytes).decode()

    @classmethod
    def from_cursor(cls, cursor: str) -> Self:
        """The position that a cursor stands for.

        Raises:
            PydanticCustomError: it is none that a page gave.
        """
        try:
            value = urlsafe_b64decode(cursor.encode("ascii"))
            position = cls(EPOCH + int.from_bytes(value[:8], signed=True) * MICROSECOND, UUID(bytes=value[8:]))
        except (ValueError, OverflowError, binascii.Error):
            position = None
        if position is None or position.to_cursor() != cursor:
            raise PydanticCustomError("cursor", "Input should be a cursor that a page of this list gave")
        return position


BEGINNING = Position(datetime.max.replace(tzinfo=UTC), UUID(int=2**128 - 1))


@dataclass(frozen=True, slots=True)
class Page:
    """A slice of a list: `limit` rows at most, after a position and after `offset` further rows."""

    limit: int
    offset: int = 0
    after: Position | None = None


def _is_cursor(value: str) -> str:
    Position.from_cursor(value)
    return value


Cursor = Annotated[OpaqueText, AfterValidator(_is_cursor)]


class PageQuery(BaseModel):
    """Query parameters of a list; a list's own filters are added by inheritance."""

    model_config = ConfigDict(extra="forbid")

    limit: int | None = Field(None, ge=1, le=MAX_LIMIT, description=f"Rows at most; {DEFAULT_LIMIT} unless told")
    offset: int | None = Field(None, ge=0, le=MAX_OFFSET, description="Rows to skip")
    page: int | None = Field(
        None, ge=1, le=MAX_OFFSET + 1, description=f"Page number, from 1; at most {MAX_OFFSET} rows are skipped"
    )
    page_size: int | None = Field(None, ge=1, le=MAX_LIMIT, description=f"Rows a page; {DEFAULT_LIMIT} unless told")

    @model_validator(mode="after")
    def _one_way_at_a_time(self) -> Self:
        if (self.limit, self.offset) != (None, None) and (self.page, self.page_size) != (None, None):
            raise PydanticCustomError("two_paginations", "Use limit and offset, or page and page_size, not both")
        if self.to_page().offset > MAX_OFFSET:
            raise PydanticCustomError("too_far", TOO_FAR)
        return self

    def to_page(self) -> Page:
        """The slice that was asked for."""
        limit = self.limit or self.page_size or DEFAULT_LIMIT
        return Page(limit, self.offset or ((self.page or 1) - 1) * limit)


class CursorQuery(PageQuery):
    """Query parameters of a list that can be followed by cursor, at the same cost however far."""

    cursor: Cursor | None = Field(
        None, description="Go on where a page ended: its pagination.next_cursor; with limit or page_size, if anything"
    )

    @model_validator(mode="after")
    def _a_cursor_is_a_place(self) -> Self:
        if self.cursor is not None and (self.offset, self.page) != (None, None):
            raise PydanticCustomError("two_places", "Use cursor, offset or page, not two of them")
        return self

    def to_page(self) -> Page:
        """The slice that was asked for."""
        if self.cursor is None:
            return super().to_page()
        return Page(self.limit or self.page_size or DEFAULT_LIMIT, after=Position.from_cursor(self.cursor))

    def links(self, path: str, next_cursor: str | None) -> str:
        """The Link header (RFC 8288) to the first page of the same list, and to the next."""
        same = self.model_dump(exclude={"cursor", "offset", "page"}, exclude_none=True)
        targets = {"first": same} | ({"next": {**same, "cursor": next_cursor}} if next_cursor else {})
        return ", ".join(
            f'<{path}{"?" if parameters else ""}{urlencode(parameters)}>; rel="{relation}"'
            for relation, parameters in targets.items()
        )


class Pagination(BaseModel):
    """Where a page stands in the whole list."""

    total: int = Field(description="Rows in the whole list", examples=[42])
    limit: int = Field(description="Rows a page holds at most", examples=[20])
    offset: int | None = Field(description="Rows before this page; null with a cursor", examples=[0])
    page: int | None = Field(
        description="Number of the page that holds the first row, from 1; null with a cursor", examples=[1]
    )
    page_size: int = Field(description="The same as limit", examples=[20])
    total_pages: int = Field(description="Pages of this size in the whole list", examples=[3])

    @classmethod
    def of(cls, page: Page, total: int) -> Self:
        """Describe `page` of a list with `total` rows."""
        return cls(
            total=total,
            limit=page.limit,
            offset=None if page.after else page.offset,
            page=None if page.after else page.offset // page.limit + 1,
            page_size=page.limit,
            total_pages=ceil(total / page.limit),
        )


class CursorPagination(Pagination):
    """Where a page stands in a list that can be followed by cursor."""

    next_cursor: str | None = Field(
        None, description="Leads to the next page; null on the last", examples=["AAZFJk3xWZULjzxSlLFMQ58Oah9fLXwR"]
    )
