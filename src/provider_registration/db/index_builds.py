"""Builds of indexes in migrations, while the service uses the table."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

from alembic import op

LOCK_TIMEOUT = "SET lock_timeout = '50ms'"


@contextmanager
def building_indexes() -> Iterator[None]:
    """In an autocommit block: CREATE and DROP INDEX CONCURRENTLY wait for running transactions, and block nothing."""
    op.execute("SET lock_timeout = 0")
    yield
    op.execute(LOCK_TIMEOUT)


def replace_indexes(table: str, old: Iterable[str], new: Mapping[str, str]) -> None:
    """Create `new`, a mapping of names to definitions, then drop `old`, by name; all concurrently."""
    with op.get_context().autocommit_block(), building_indexes():
        for name, definition in new.items():
            op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")  # an interrupted run may have left an invalid one
            op.execute(f"CREATE INDEX CONCURRENTLY IF NOT EXISTS {name} ON {table} {definition}")
        for name in old:
            op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
