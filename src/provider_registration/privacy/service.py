"""Export and erasure of the data held about a person (GDPR articles 15, 17 and 20)."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from provider_registration.audit.models import SERVICE, AuditEvent, AuditType, Subject
from provider_registration.audit.service import record
from provider_registration.auth.directory import end_sessions
from provider_registration.db.database import Database
from provider_registration.email_addresses import fill_candidates_with, fill_users_with
from provider_registration.privacy import queries
from provider_registration.privacy.errors import AddressShared, ApprovalUnfinishedError, PersonNotFound
from provider_registration.web.text import canonical_email


async def export_person(database: Database, email: str) -> dict[str, Any]:
    """The data held about the `candidate` and the `user` with this e-mail address; None for one that does not exist.

    `import_rows`: those of imported files that have the address and are not registered.

    Raises:
        PersonNotFound: there is nothing.
        AddressShared: several candidates or users have it.
    """
    parameters = {"email_canonical": canonical_email(email)}
    async with database.transaction() as session:
        await _fill(session, parameters["email_canonical"])
        candidate = await session.scalar(queries.EXPORT_CANDIDATE, parameters)
        user = await session.scalar(queries.EXPORT_USER, parameters)
        import_rows = await session.scalar(queries.EXPORT_IMPORT_ROWS, parameters)
        for kind, held in (("candidate", candidate), ("user", user)):
            if held is not None:
                subject = Subject(kind, UUID(held["id"]))
                await record(session, AuditEvent(AuditType.DATA_EXPORTED, SERVICE, subject))
    if candidate is None and user is None and not import_rows:
        raise PersonNotFound
    return {"candidate": candidate, "user": user, "import_rows": import_rows}


async def erase_person(database: Database, email: str) -> list[str]:
    """Erase the data of the candidate and the user with this e-mail address; return what was done, in sentences.

    Rows of imported files that have the address are erased too.

    Raises:
        PersonNotFound: there is nothing.
        AddressShared: several candidates or users have it.
        ApprovalUnfinishedError: billing may be creating the candidate's provider.
    """
    done = []
    parameters = {"email_canonical": canonical_email(email)}
    async with database.transaction() as session:
        await _fill(session, parameters["email_canonical"])
        candidate_id = await session.scalar(queries.LOCK_CANDIDATE, parameters)
        if candidate_id is not None:
            if await session.scalar(queries.HAS_UNFINISHED_APPROVAL, {"candidate_id": candidate_id}):
                raise ApprovalUnfinishedError
            status = await session.scalar(queries.ERASE_CANDIDATE, {"candidate_id": candidate_id})
            done.append(f"Candidate {candidate_id} ({status}): personal data erased.")
            if status == "approved":
                done.append(
                    "The company's name stays, because billing has a provider with this name: ask billing to erase it."
                )
        if user_id := await session.scalar(queries.ERASE_USER, parameters):
            await end_sessions(session, user_id, reason="erased")
            done.append(f"User {user_id}: personal data erased, sign-in disabled.")
        erased = await session.execute(queries.ERASE_IMPORT_ROWS, parameters)
        if rows := int(erased.rowcount):  # type: ignore[attr-defined]  # of an UPDATE
            done.append(f"Rows of imported files: {rows} erased.")
    if not done:
        raise PersonNotFound
    return done


async def _fill(session: AsyncSession, canonical: str) -> None:
    """Fill in canonical addresses that an earlier release left empty, so that no row is missed."""
    taken = await fill_candidates_with(session, canonical) + await fill_users_with(session, canonical)
    if taken:
        raise AddressShared(taken)
