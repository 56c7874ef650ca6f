"""Corrects the counts behind the totals of lists, for operators."""

from __future__ import annotations

from provider_registration.candidates import queries
from provider_registration.db.database import Database


async def recount(database: Database) -> dict[tuple[str, str], tuple[int, int]]:
    """Correct the counts of candidates and tonnes per day, by product and status, while others go on writing.

    Returns the corrections; product '' stands for all candidates of a status. Empty unless rows were written without
    the trigger. It reads the whole table, so the database needs a long time limit.
    """
    async with database.transaction() as session:
        # Two concurrent recounts would add the same. A separate statement, so that the next one has a new snapshot.
        await session.execute(queries.LOCK_RECOUNT)
        rows = await session.execute(queries.RECOUNT)
        return {(row.product, row.status): (row.missing, row.missing_tons) for row in rows}
