"""Times in requests."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated

from pydantic import AfterValidator, AwareDatetime, BeforeValidator
from pydantic_core import PydanticCustomError

# The driver stores the ends of Python's range as PostgreSQL's infinities, and reads those without a time zone.
FIRST = datetime.min.replace(tzinfo=UTC) + timedelta(microseconds=1)
LAST = datetime.max.replace(tzinfo=UTC) - timedelta(microseconds=1)
RFC_3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)", re.ASCII)


def _is_rfc_3339(value: object) -> object:
    if not isinstance(value, str) or not RFC_3339.fullmatch(value):  # pydantic would read numbers as Unix times
        raise PydanticCustomError("date_time", "Input should be a time as in RFC 3339, such as 2026-03-14T10:00:00Z")
    return value


def _in_utc(value: datetime) -> datetime:
    try:
        return min(max(value.astimezone(UTC), FIRST), LAST)
    except OverflowError:
        raise PydanticCustomError("out_of_range", "Input should be between the years 1 and 9999 in UTC") from None


Instant = Annotated[AwareDatetime, BeforeValidator(_is_rfc_3339), AfterValidator(_in_utc)]
