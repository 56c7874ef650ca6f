"""Messages for the broker."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC
from typing import Self

from sqlalchemy import RowMapping

from provider_registration.events.models import HOW_APPROVALS_WENT

SUBJECTS = "provider_registration"  # the first token of every subject
SEQUENCE_DIGITS = 10  # CloudEvents: sequences are compared as text


@dataclass(frozen=True, slots=True)
class Message:
    """An event as a CloudEvent 1.0 in JSON, without personal data."""

    position: int
    event_id: str
    subject: str
    body: bytes

    @classmethod
    def from_row(cls, row: RowMapping, *, source: str) -> Self:
        """Make a message from a row of READ_EVENTS; `source` is the URL of this service."""
        data = {name: value for name, value in json.loads(row["data"]).items() if name not in HOW_APPROVALS_WENT}
        event = {
            "specversion": "1.0",
            "id": str(row["id"]),
            "source": source,
            "type": row["type"],
            "time": row["at"].astimezone(UTC).isoformat().replace("+00:00", "Z"),
            "subject": str(row["candidate_id"]),
            "sequence": str(row["sequence"]).zfill(SEQUENCE_DIGITS),
            "datacontenttype": "application/json",
            "data": {
                "candidate_id": str(row["candidate_id"]),
                "version": row["version"],
                "sequence": row["sequence"],
                "data": data,
            },
        }
        return cls(row["position"], event["id"], f"{SUBJECTS}.{row['type']}", json.dumps(event).encode())
