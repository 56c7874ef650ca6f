"""Fills in the canonical form of e-mail addresses written by an earlier release or by hand.

A trigger writes the canonical form of an ASCII address and clears that of others, which need Unicode rules.
"""

from __future__ import annotations

import logging
from uuid import UUID

from sqlalchemy import TextClause, text
from sqlalchemy.ext.asyncio import AsyncSession

from provider_registration.db.database import Database
from provider_registration.db.filling import BEFORE_ALL
from provider_registration.observability.logs import RateLimitedLogger
from provider_registration.periodic import repeat
from provider_registration.web.text import canonical_email

logger = logging.getLogger(__name__)

SECONDS = 60.0  # between checks; the query uses an index, and finds nothing unless releases are mixed
BATCH = 1000  # rows at a time
MAX_NAMED = 1000  # IDs in one line of the log
TIMED_BATCH = 100  # rows at a time where a transaction has the time limit of a request

# The next candidates without a canonical address, except those that another process is filling.
FIND_CANDIDATES = text("""
    SELECT id, contact_email AS address FROM candidates
    WHERE contact_email_canonical IS NULL AND id > :after
    ORDER BY id
    LIMIT :limit
    FOR UPDATE SKIP LOCKED
""")

# The same, page by page, including locked rows.
PAGE_OF_CANDIDATES = text("""
    SELECT id, contact_email AS address FROM candidates
    WHERE contact_email_canonical IS NULL AND (CAST(:after AS uuid) IS NULL OR id > :after)
    ORDER BY id
    LIMIT :limit
""")

# Write a candidate's canonical address, unless another has it.
FILL_CANDIDATE = text("""
    UPDATE candidates SET contact_email_canonical = :canonical
    WHERE id = :id AND NOT EXISTS (SELECT FROM candidates WHERE contact_email_canonical = :canonical AND id <> :id)
    RETURNING id
""")

# The same for users, page by page.
PAGE_OF_USERS = text("""
    SELECT id, email AS address FROM users
    WHERE email_canonical IS NULL AND (CAST(:after AS uuid) IS NULL OR id > :after)
    ORDER BY id
    LIMIT :limit
""")
FILL_USER = text("""
    UPDATE users SET email_canonical = :canonical
    WHERE id = :id AND NOT EXISTS (SELECT FROM users WHERE email_canonical = :canonical AND id <> :id)
    RETURNING id
""")


async def fill_candidates(session: AsyncSession, after: UUID = BEFORE_ALL) -> tuple[list[UUID], UUID]:
    """Fill the next batch.

    Returns the IDs of candidates whose address another candidate has in another spelling, and after which ID the next
    batch begins.
    """
    taken = []
    rows = (await session.execute(FIND_CANDIDATES, {"after": after, "limit": TIMED_BATCH})).all()
    for row in rows:
        parameters = {"id": row.id, "canonical": canonical_email(row.address)}
        if await session.scalar(FILL_CANDIDATE, parameters) is None:
            taken.append(row.id)
    return taken, rows[-1].id if len(rows) == TIMED_BATCH else BEFORE_ALL


async def fill_candidates_with(session: AsyncSession, canonical: str) -> list[UUID]:
    """Fill every empty row whose canonical address is this one, however many are empty; waits for row locks.

    Returns the IDs of candidates that share the address with another one, in another spelling.
    """
    return await _fill_with(session, canonical, PAGE_OF_CANDIDATES, FILL_CANDIDATE)


async def fill_users_with(session: AsyncSession, canonical: str) -> list[UUID]:
    """The same for users. The serving role is not allowed to do this; the user commands run as the owner."""
    return await _fill_with(session, canonical, PAGE_OF_USERS, FILL_USER)


async def _fill_with(session: AsyncSession, canonical: str, find: TextClause, fill: TextClause) -> list[UUID]:
    taken: list[UUID] = []
    after = None
    while rows := (await session.execute(find, {"after": after, "limit": BATCH})).all():
        after = rows[-1].id
        for row in rows:
            if canonical_email(row.address) == canonical:
                filled = await session.scalar(fill, {"id": row.id, "canonical": canonical})
                taken += [] if filled else [row.id]
    return taken


async def keep_canonical(database: Database) -> None:
    """Fill empty rows until cancelled, about once a minute."""
    limited = RateLimitedLogger(logger)
    after = BEFORE_ALL
    all_taken: list[UUID] = []  # the first that were found in this pass

    async def fill() -> bool:
        nonlocal after
        async with database.transaction() as session:
            taken, last = await fill_candidates(session, after)
        all_taken.extend(taken[: MAX_NAMED - len(all_taken)])
        after = last
        if after != BEFORE_ALL:
            return True
        if all_taken:
            limited.warning("candidates share an e-mail address", candidate_ids=[str(each) for each in all_taken])
            all_taken.clear()
        return False

    await repeat(
        fill,
        seconds=SECONDS,
        logger=limited,
        later="the database does not respond; canonicalising e-mail addresses will be retried",
        failed="canonicalising e-mail addresses failed",
    )
