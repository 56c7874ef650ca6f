"""Keys in their scope, and what is kept for them."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from pydantic import BaseModel

LIFETIME_HOURS = 24  # of a kept answer
LOCK_DIGITS = 16  # of the hash, in hexadecimal: PostgreSQL's advisory locks have 64 bits

Answer = dict[str, Any]
"""What an answer is made again from, as a JSON object without personal data: an ID, or why it was refused."""


@dataclass(slots=True)
class Key:
    """A key in its scope, and the fingerprint of its request; both are SHA-256 hashes in hexadecimal.

    `is_replay` is set once the answer to an earlier request was found.
    """

    hash: str
    fingerprint: str
    is_replay: bool = False

    @classmethod
    def of(cls, *scope: str, fingerprint: str) -> Key:
        """Make a key from the parts of its scope, of which the last is the key as sent."""
        return cls(hashlib.sha256(json.dumps(scope).encode()).hexdigest(), fingerprint)

    @property
    def lock(self) -> int:
        """The number of its advisory lock."""
        return int.from_bytes(bytes.fromhex(self.hash[:LOCK_DIGITS]), signed=True)


def fingerprint_of(content: BaseModel, *others: object) -> str:
    """The fingerprint of a request's validated content, and of other values that JSON can express.

    Not of the bytes: a client may write the same JSON differently when it repeats a request. Defaults are left out, so
    that a field which a later release adds changes no fingerprint.
    """
    text = json.dumps([content.model_dump_json(exclude_defaults=True), *others])
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Kept:
    """What is kept for a key. `answer` is None for an approval: it follows from the candidate's state."""

    answer: Answer | None
    candidate_id: UUID | None
