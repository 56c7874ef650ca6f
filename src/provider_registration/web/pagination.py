"""Pagination by `cursor`, by `limit` and `offset`, or by `page` and `page_size`."""

from __future__ import annotations

import binascii
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from math import ceil
from typing import Annotated, ClassVar, Self
from urllib.parse import urlencode
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from provider_registration.web.text import OpaqueText

DEFAULT_LIMIT = 20
MAX_LIMIT = 100
MAX_OFFSET = 100_000  # PostgreSQL reads every skipped row
TOO_FAR = f"At most {MAX_OFFSET:,} rows can be skipped"
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


@dataclass(frozen=True, slots=True)
class Page:
    """A slice of a list: at most `limit` rows, after a position and after `offset` further rows."""

    limit: int
    offset: int = 0
    after: Position | None = None


def _is_cursor(value: str) -> str:
    Position.from_cursor(value)
    return value


Cursor = Annotated[OpaqueText, AfterValidator(_is_cursor)]


class PageQuery(BaseModel):
    """Query parameters of a list; subclasses add filters."""

    model_config = ConfigDict(extra="forbid")
    way_on: ClassVar[str] = "use a filter"  # past MAX_OFFSET

    limit: int | None = Field(None, ge=1, le=MAX_LIMIT, description=f"Maximum rows; default {DEFAULT_LIMIT}")
    offset: int | None = Field(None, ge=0, le=MAX_OFFSET, description="Rows to skip")
    page: int | None = Field(
        None, ge=1, le=MAX_OFFSET + 1, description=f"Page number, from 1; at most {MAX_OFFSET:,} rows can be skipped"
    )
    page_size: int | None = Field(None, ge=1, le=MAX_LIMIT, description=f"Rows per page; default {DEFAULT_LIMIT}")

    @model_validator(mode="after")
    def _use_one_pagination(self) -> Self:
        if (self.limit, self.offset) != (None, None) and (self.page, self.page_size) != (None, None):
            raise PydanticCustomError("two_paginations", "Use limit and offset, or page and page_size, not both")
        if self.to_page().offset > MAX_OFFSET:
            raise PydanticCustomError("too_far", f"{TOO_FAR}; {self.way_on}")
        return self

    def to_page(self) -> Page:
        """The requested slice."""
        limit = self.limit or self.page_size or DEFAULT_LIMIT
        return Page(limit, self.offset or ((self.page or 1) - 1) * limit)


class CursorQuery(PageQuery):
    """Query parameters of a list with a cursor, at the same cost for every page."""

    way_on: ClassVar[str] = "use a cursor, from pagination.next_cursor or the Link header"

    cursor: Cursor | None = Field(
        None,
        description="Continue after a page: its `pagination.next_cursor`. Combine only with `limit` or `page_size`, "
        "and the same filters",
    )

    @model_validator(mode="after")
    def _use_one_position(self) -> Self:
        if self.cursor is not None and (self.offset, self.page) != (None, None):
            raise PydanticCustomError("two_places", "Use cursor, offset or page, not two of them")
        return self

    def to_page(self) -> Page:
        """The requested slice."""
        if self.cursor is None:
            return super().to_page()
        return Page(self.limit or self.page_size or DEFAULT_LIMIT, after=Position.from_cursor(self.cursor))

    def links(self, path: str, next_cursor: str | None) -> str:
        """The Link header (RFC 8288) with the first and the next page of the same list."""
        same = self.model_dump(exclude={"cursor", "offset", "page"}, exclude_none=True)
        targets = {"first": same} | ({"next": {**same, "cursor": next_cursor}} if next_cursor else {})
        return ", ".join(
            f'<{path}{"?" if parameters else ""}{urlencode(parameters)}>; rel="{relation}"'
            for relation, parameters in targets.items()
        )


class Pagination(BaseModel):
    """The position of a page in the whole list."""

    total: int = Field(description="Rows in the whole list", examples=[42])
    limit: int = Field(description="Maximum rows per page", examples=[20])
    offset: int | None = Field(description="Rows before this page; null with a cursor", examples=[0])
    page: int | None = Field(description="Page number of the first row, from 1; null with a cursor", examples=[1])
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
    """The position of a page in a list with a cursor."""

    next_cursor: str | None = Field(
        None,
        description="Cursor of the next page; null on the last",
        examples=["AAZFJk3xWZULjzxSlLFMQ58Oah9fLXwR"],
    )
