"""Reading a candidate in order to decide about it."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from provider_registration.candidates import queries
from provider_registration.candidates.errors import CandidateNotFound, CandidateNotPending, VersionMismatch
from provider_registration.candidates.models import Candidate, Status


async def lock_pending(session: AsyncSession, candidate_id: UUID, expected: frozenset[int] | None) -> Candidate:
    """The candidate, locked until the transaction ends, if it may be decided.

    Raises:
        CandidateNotPending: it was decided before. Otherwise as `lock_candidate`.
    """
    candidate = await lock_candidate(session, candidate_id, expected)
    if candidate.status is not Status.PENDING:
        raise CandidateNotPending(candidate_id, candidate.status)
    return candidate


async def lock_candidate(session: AsyncSession, candidate_id: UUID, expected: frozenset[int] | None) -> Candidate:
    """The candidate, locked until the transaction ends.

    Raises:
        CandidateNotFound: there is none.
        VersionMismatch: its version is not among the `expected`.
    """
    row = (await session.execute(queries.LOCK_CANDIDATE, {"candidate_id": candidate_id})).mappings().one_or_none()
    if row is None:
        raise CandidateNotFound(candidate_id)
    candidate = Candidate.from_row(row)
    if expected is not None and candidate.version not in expected:
        raise VersionMismatch(candidate_id, candidate.version)
    return candidate
