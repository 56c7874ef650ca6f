"""Two ways to ask for a page: `limit` and `offset`, or `page` and `page_size`."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

DEFAULT_LIMIT = 20
MAX_LIMIT = 100
MAX_OFFSET = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Page:
    """A slice of a list: `limit` rows at most, after `offset` rows."""

    limit: int
    offset: int


class PageQuery(BaseModel):
    """Query parameters of a list; a list's own filters are added by inheritance."""

    model_config = ConfigDict(extra="forbid")

    limit: int | None = Field(None, ge=1, le=MAX_LIMIT, description=f"Rows at most; {DEFAULT_LIMIT} unless told")
    offset: int | None = Field(None, ge=0, le=MAX_OFFSET, description="Rows to skip")
    page: int | None = Field(None, ge=1, le=MAX_OFFSET // MAX_LIMIT, description="Page number, from 1")
    page_size: int | None = Field(None, ge=1, le=MAX_LIMIT, description=f"Rows a page; {DEFAULT_LIMIT} unless told")

    @model_validator(mode="after")
    def _one_way_at_a_time(self) -> Self:
        if (self.limit, self.offset) != (None, None) and (self.page, self.page_size) != (None, None):
            raise PydanticCustomError("two_paginations", "Use limit and offset, or page and page_size, not both")
        return self

    def to_page(self) -> Page:
        """The slice that was asked for."""
        limit = self.limit or self.page_size or DEFAULT_LIMIT
        return Page(limit, self.offset or ((self.page or 1) - 1) * limit)


class Pagination(BaseModel):
    """Where a page stands in the whole list."""

    total: int = Field(description="Rows in the whole list", examples=[42])
    limit: int = Field(description="Rows a page holds at most", examples=[20])
    offset: int = Field(description="Rows before this page", examples=[0])
    page: int = Field(description="Number of the page that holds the first row, from 1", examples=[1])
    page_size: int = Field(description="The same as limit", examples=[20])
    total_pages: int = Field(description="Pages of this size in the whole list", examples=[3])

    @classmethod
    def of(cls, page: Page, total: int) -> Self:
        """Describe `page` of a list with `total` rows."""
        return cls(
            total=total,
            limit=page.limit,
            offset=page.offset,
            page=page.offset // page.limit + 1,
            page_size=page.limit,
            total_pages=ceil(total / page.limit),
        )
