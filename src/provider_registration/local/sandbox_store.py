"""The billing sandbox's memory: providers in one SQLite file.

A provider is with the operating system before its answer leaves, so killing the process loses none. A power cut may
spoil the file: `synchronous=OFF` waits for no disk, which keeps a statement at some 40 µs, short enough to run on the
event loop (on another thread it would take milliseconds, most of them waiting for the interpreter's lock).
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

from provider_registration.local.errors import LocalError

LOCK_TIMEOUT = 2.0  # seconds to wait at the start for a sandbox that is just ending

# This process alone uses the file: quicker, and nobody else's lock can hold the event loop up.
PRAGMAS = ("PRAGMA locking_mode = EXCLUSIVE", "PRAGMA journal_mode = WAL", "PRAGMA synchronous = OFF")

# One row a provider; ids count up from 1, for no row is ever deleted. A key is kept only where it was honoured.
CREATE_TABLE = """
    CREATE TABLE IF NOT EXISTS provider (
        id INTEGER PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        idempotency_key TEXT UNIQUE,
        created_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
    )
"""

# What an earlier request with this key made.
FIND_BY_KEY = "SELECT id, name FROM provider WHERE idempotency_key = :key"

# Make a provider, unless its name is taken.
INSERT_PROVIDER = """
    INSERT INTO provider (name, idempotency_key) VALUES (:name, :key) ON CONFLICT (name) DO NOTHING
"""

# How many providers there are, with this name or at all.
COUNT_PROVIDERS = "SELECT count(*) FROM provider WHERE :name IS NULL OR name = :name"

# One page of them, oldest first.
LIST_PROVIDERS = """
    SELECT id, name, idempotency_key, created_at FROM provider
    WHERE :name IS NULL OR name = :name
    ORDER BY id LIMIT :limit OFFSET :offset
"""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a request; `provider_id` is set when it was created or repeated."""

    kind: Literal["created", "repeated", "name_taken", "key_reused"]
    provider_id: int | None = None


class ProviderStore:
    """Providers by id, name and key. Close it when done."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open the file for this process alone; make it when there is none.

        Raises:
            LocalError: it cannot be opened, is something else, or another sandbox has it.
        """
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            connection = sqlite3.connect(path, timeout=LOCK_TIMEOUT, isolation_level=None)
        except (OSError, sqlite3.Error) as error:
            raise LocalError(f"{path} cannot be the billing sandbox's state file: {error}.") from error
        try:
            for pragma in PRAGMAS:
                connection.execute(pragma)
            connection.execute(CREATE_TABLE)
            connection.execute(FIND_BY_KEY, {"key": None})
        except sqlite3.Error as error:
            connection.close()
            raise LocalError(f"{path} cannot be the billing sandbox's state file: {error}.") from error
        connection.row_factory = sqlite3.Row
        return cls(connection)

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def create(self, name: str, key: str | None) -> Outcome:
        """Create the provider, or say what an earlier request left; with a key, at most once a key."""
        connection = self._connection
        if key is not None and (earlier := connection.execute(FIND_BY_KEY, {"key": key}).fetchone()):
            same = earlier["name"] == name
            return Outcome("repeated", earlier["id"]) if same else Outcome("key_reused")
        inserted = connection.execute(INSERT_PROVIDER, {"name": name, "key": key})  # a transaction by itself
        return Outcome("created", inserted.lastrowid) if inserted.rowcount == 1 else Outcome("name_taken")

    def providers(self, name: str | None, *, limit: int, offset: int) -> tuple[int, list[dict[str, object]]]:
        """How many there are, and one page of them."""
        (total,) = self._connection.execute(COUNT_PROVIDERS, {"name": name}).fetchone()
        page = self._connection.execute(LIST_PROVIDERS, {"name": name, "limit": limit, "offset": offset})
        return total, [dict(row) for row in page]
