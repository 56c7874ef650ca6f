"""The billing sandbox's storage: providers in one SQLite file.

A provider is written to the operating system before the response, so killing the process loses none. A power failure
may corrupt the file: `synchronous=OFF` does not wait for the disk, so a statement takes about 40 µs, short enough for
the event loop (in a thread it would take milliseconds, mostly waiting for the interpreter's lock).
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

from provider_registration.local.errors import LocalError

LOCK_TIMEOUT = 2.0  # seconds to wait at startup for a sandbox that is stopping

# Exclusive use of the file is faster, and no other lock can block the event loop.
PRAGMAS = ("PRAGMA locking_mode = EXCLUSIVE", "PRAGMA journal_mode = WAL", "PRAGMA synchronous = OFF")

# One row per provider; IDs count up from 1, because rows are never deleted. A key is only stored if it was honoured.
CREATE_TABLE = """
    CREATE TABLE IF NOT EXISTS provider (
        id INTEGER PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        idempotency_key TEXT UNIQUE,
        created_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
    )
"""

# The provider of an earlier request with this key.
FIND_BY_KEY = "SELECT id, name FROM provider WHERE idempotency_key = :key"

# Create a provider, unless its name is taken.
INSERT_PROVIDER = """
    INSERT INTO provider (name, idempotency_key) VALUES (:name, :key) ON CONFLICT (name) DO NOTHING
"""

# The number of providers, with this name or in total.
COUNT_PROVIDERS = "SELECT count(*) FROM provider WHERE :name IS NULL OR name = :name"

# One page of providers, oldest first.
LIST_PROVIDERS = """
    SELECT id, name, idempotency_key, created_at FROM provider
    WHERE :name IS NULL OR name = :name
    ORDER BY id LIMIT :limit OFFSET :offset
"""


@dataclass(frozen=True, slots=True)
class CreateOutcome:
    """The outcome of a request; `provider_id` is set if it was created or repeated."""

    kind: Literal["created", "repeated", "name_taken", "key_reused"]
    provider_id: int | None = None


class ProviderStore:
    """Providers by id, name and key. Close it when done."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open the file for exclusive use; create it if it is missing.

        Raises:
            LocalError: it cannot be opened, has another format, or another sandbox uses it.
        """
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            connection = sqlite3.connect(path, timeout=LOCK_TIMEOUT, isolation_level=None)
        except (OSError, sqlite3.Error) as error:
            raise LocalError(f"{path} cannot be used as the billing sandbox's state file: {error}.") from error
        try:
            for pragma in PRAGMAS:
                connection.execute(pragma)
            connection.execute(CREATE_TABLE)
            connection.execute(FIND_BY_KEY, {"key": None})
        except sqlite3.Error as error:
            connection.close()
            raise LocalError(f"{path} cannot be used as the billing sandbox's state file: {error}.") from error
        connection.row_factory = sqlite3.Row
        return cls(connection)

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def create(self, name: str, key: str | None) -> CreateOutcome:
        """Create the provider, or return the outcome of an earlier request; at most once per key."""
        connection = self._connection
        if key is not None and (earlier := connection.execute(FIND_BY_KEY, {"key": key}).fetchone()):
            same = earlier["name"] == name
            return CreateOutcome("repeated", earlier["id"]) if same else CreateOutcome("key_reused")
        inserted = connection.execute(INSERT_PROVIDER, {"name": name, "key": key})  # autocommit
        return CreateOutcome("created", inserted.lastrowid) if inserted.rowcount == 1 else CreateOutcome("name_taken")

    def providers(self, name: str | None, *, limit: int, offset: int) -> tuple[int, list[dict[str, object]]]:
        """The total, and one page."""
        (total,) = self._connection.execute(COUNT_PROVIDERS, {"name": name}).fetchone()
        page = self._connection.execute(LIST_PROVIDERS, {"name": name, "limit": limit, "offset": offset})
        return total, [dict(row) for row in page]
