"""Mending the counts behind every list's total, for those who keep the database."""

from __future__ import annotations

from provider_registration.candidates import queries
from provider_registration.db.database import Database


async def recount(database: Database) -> dict[tuple[str, str], tuple[int, int]]:
    """Add to the counts what they lack while others go on writing: candidates and tons a day, by product and status.

    Product '' stands for all candidates of a status. Empty when all was well, as it is unless rows came past the
    trigger. It reads the whole table, so the database has to be a patient one.
    """
    async with database.transaction() as session:
        # Two at once would both add what is missing. Before the statement that looks, whose snapshot is then a new one.
        await session.execute(queries.TAKE_TURN_TO_RECOUNT)
        rows = await session.execute(queries.RECOUNT)
        return {(row.product, row.status): (row.missing, row.missing_tons) for row in rows}
