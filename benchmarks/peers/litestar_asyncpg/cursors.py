"""A place in the list, as the service writes it: microseconds since 1970 in 8 bytes, and the ID."""

from __future__ import annotations

import binascii
from base64 import urlsafe_b64decode, urlsafe_b64encode
from datetime import UTC, datetime, timedelta
from uuid import UUID

from errors import refused

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)


def cursor_of(at: datetime, candidate_id: UUID) -> str:
    """Write a place."""
    return urlsafe_b64encode(((at - EPOCH) // MICROSECOND).to_bytes(8, signed=True) + candidate_id.bytes).decode()


def place_of(cursor: str) -> tuple[datetime, UUID]:
    """Read a place."""
    try:
        value = urlsafe_b64decode(cursor.encode("ascii"))
        return EPOCH + int.from_bytes(value[:8], signed=True) * MICROSECOND, UUID(bytes=value[8:])
    except (ValueError, OverflowError, binascii.Error):
        raise refused(422, "Not a cursor") from None
