"""Whether requests can be served: the database responds, and its schema fits."""

from __future__ import annotations

import asyncio
import logging
from time import monotonic

from provider_registration.db.database import Database, DatabaseUnavailable
from provider_registration.db.revisions import Schema, SchemaState

logger = logging.getLogger(__name__)

REPEAT_SECONDS = 60.0  # after which the same warning is logged again: probes come every few seconds


class Readiness:
    """Checks the database once for all concurrent probes, and logs what is wrong with its schema."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._logged: Schema | None = None
        self._repeat_at = 0.0
        self._check: asyncio.Task[Schema | None] | None = None

    async def find_schema(self) -> Schema | None:
        """The database's schema; None if it does not respond."""
        # Not a Sharer, whose callers wait for a statement that starts after they came: a probe can use a running one.
        if self._check is None or self._check.done():
            self._check = asyncio.create_task(self._find())
        return await asyncio.shield(self._check)  # a probe that is cancelled does not affect the others

    async def _find(self) -> Schema | None:
        try:
            schema = await self._database.ping()
        except DatabaseUnavailable:
            return None
        self._log(schema)
        return schema

    def _log(self, schema: Schema) -> None:
        if schema.is_usable and schema.state is not SchemaState.UNKNOWN:
            self._logged = None
        elif schema != self._logged or monotonic() >= self._repeat_at:
            logger.warning("%s", schema)
            self._logged, self._repeat_at = schema, monotonic() + REPEAT_SECONDS
