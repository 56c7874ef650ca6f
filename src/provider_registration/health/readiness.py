"""Whether requests can be served: the database answers, and its schema will do."""

from __future__ import annotations

import asyncio
import logging
from time import monotonic

from provider_registration.db.database import Database, DatabaseUnavailable
from provider_registration.db.revisions import Schema, SchemaState

logger = logging.getLogger(__name__)

REPEAT_SECONDS = 60.0  # after which the same complaint is logged again: probes ask every few seconds


class Readiness:
    """Asks the database once for all probes that come meanwhile, and logs what is wrong with its schema."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._complaint: Schema | None = None
        self._repeat_at = 0.0
        self._asking: asyncio.Task[Schema | None] | None = None

    async def find_schema(self) -> Schema | None:
        """What schema the database has; None while it does not answer."""
        # Not a Sharer, whose callers wait for a question asked after they came: a probe takes the answer under way.
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._ask())
        return await asyncio.shield(self._asking)  # a probe that leaves takes nothing from the others

    async def _ask(self) -> Schema | None:
        try:
            schema = await self._database.ping()
        except DatabaseUnavailable:
            return None
        self._log(schema)
        return schema

    def _log(self, schema: Schema) -> None:
        if schema.will_do and schema.state is not SchemaState.UNKNOWN:
            self._complaint = None
        elif schema != self._complaint or monotonic() >= self._repeat_at:
            logger.warning("%s", schema)
            self._complaint, self._repeat_at = schema, monotonic() + REPEAT_SECONDS
