"""The bodies of messages: thin, without personal data, so that permissions and erasure stay those of the API."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from datetime import datetime
from uuid import UUID

TEST_TYPE = "webhook.test"


def event_message(
    *,
    event_type: str,
    at: datetime,
    candidate_id: UUID,
    status: str,
    version: int | None,
    sequence: int,
    provider_id: int | None,
) -> bytes:
    """The body for an event, the same in every attempt: the candidate as it was after the event."""
    data = {
        "candidate_id": str(candidate_id),
        "status": status,
        "version": version,
        "sequence": sequence,
        "provider_id": provider_id,
    }
    return _body(event_type, at, data)


def probe_message(webhook_id: UUID, at: datetime) -> tuple[str, bytes]:
    """The ID and body of a test message."""
    return f"test_{secrets.token_hex(16)}", _body(TEST_TYPE, at, {"webhook_id": str(webhook_id)})


def _body(message_type: str, at: datetime, data: Mapping[str, object]) -> bytes:
    timestamp = at.isoformat(timespec="microseconds").replace("+00:00", "Z")
    return json.dumps({"type": message_type, "timestamp": timestamp, "data": data}).encode()
