"""Answering a person who asks for their data, or to be forgotten (GDPR articles 15, 17 and 20)."""

from __future__ import annotations

from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from provider_registration.auth.directory import end_sessions
from provider_registration.db.database import Database
from provider_registration.email_addresses import fill_candidates_with, fill_users_with
from provider_registration.privacy import queries
from provider_registration.privacy.errors import AddressShared, ApprovalStands, NothingKnown
from provider_registration.web.text import canonical_email


async def export_person(database: Database, email: str) -> dict[str, Any]:
    """What is held about whoever has this address: as a `candidate`, as a `user`, None where they are neither.

    Raises:
        NothingKnown: they are neither.
        AddressShared: several candidates have it.
    """
    parameters = {"email_canonical": canonical_email(email)}
    async with database.transaction() as session:
        await _fill(session, parameters["email_canonical"])
        candidate = await session.scalar(queries.EXPORT_CANDIDATE, parameters)
        user = await session.scalar(queries.EXPORT_USER, parameters)
    if candidate is None and user is None:
        raise NothingKnown
    return {"candidate": candidate, "user": user}


async def erase_person(database: Database, email: str) -> list[str]:
    """Forget whoever has this address; a sentence about each thing that was done.

    Raises:
        NothingKnown: there is nothing to forget.
        AddressShared: several candidates have it.
        ApprovalStands: billing may be making a provider of theirs just now.
    """
    done = []
    parameters = {"email_canonical": canonical_email(email)}
    async with database.transaction() as session:
        await _fill(session, parameters["email_canonical"])
        candidate_id = await session.scalar(queries.LOCK_CANDIDATE, parameters)
        if candidate_id is not None:
            if await session.scalar(queries.APPROVAL_STANDS, {"candidate_id": candidate_id}):
                raise ApprovalStands
            status = await session.scalar(queries.ERASE_CANDIDATE, {"candidate_id": candidate_id})
            done.append(f"Candidate {candidate_id} ({status}) names nobody any more.")
            if status == "approved":
                done.append("Billing has a provider of the company's name, which stays here too: ask billing to erase.")
        if user_id := await session.scalar(queries.ERASE_USER, parameters):
            await end_sessions(session, user_id)
            done.append(f"User {user_id} names nobody any more, and cannot log in.")
    if not done:
        raise NothingKnown
    return done


async def _fill(session: AsyncSession, canonical: str) -> None:
    """Nobody is overlooked whom an earlier release wrote."""
    taken = await fill_candidates_with(session, canonical) + await fill_users_with(session, canonical)
    if taken:
        raise AddressShared(taken)
