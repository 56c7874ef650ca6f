"""Finds companies that may be the same one."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import RowMapping

from provider_registration.candidates.models import Candidate, Status
from provider_registration.db.database import Database
from provider_registration.similar import queries
from provider_registration.similar.contacts import company_domain, is_same_phone
from provider_registration.similar.keys import Facts, searched_keys
from provider_registration.similar.models import Reason, SimilarCandidate
from provider_registration.similar.names import core_words, name_score

MAX_ROWS = 50  # candidates that one key finds
MAX_SIMILAR = 20  # that are returned


class SimilarService:
    """Finds candidates with nearly the same name, the same e-mail domain or the same phone number."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def similar_to(self, candidate: Candidate) -> list[SimilarCandidate]:
        """At most MAX_SIMILAR others, the likeliest first. Erased candidates have none and are not found."""
        facts = Facts(candidate.company_name, candidate.contact_email, candidate.phone)
        [similar] = await self.similar_to_each([(candidate.candidate_id, facts)])
        return similar

    async def similar_to_each(self, companies: Sequence[tuple[UUID, Facts]]) -> list[list[SimilarCandidate]]:
        """The same for each of some candidates, with one statement."""
        keys = [(candidate_id, key) for candidate_id, facts in companies for key in searched_keys(facts)]
        parameters = {
            "candidate_ids": [candidate_id for candidate_id, _ in keys],
            "keys": [key for _, key in keys],
            "max_rows": MAX_ROWS,
        }
        async with self._database.statement() as session:
            rows = (await session.execute(queries.FIND_WITH_KEYS, parameters)).mappings().all()
        # 500 long names take up to 0.2 s.
        return await asyncio.to_thread(_likeliest_of_each, companies, rows)


def _likeliest_of_each(
    companies: Sequence[tuple[UUID, Facts]], rows: Sequence[RowMapping]
) -> list[list[SimilarCandidate]]:
    found: dict[UUID, list[RowMapping]] = {candidate_id: [] for candidate_id, _ in companies}
    for row in rows:
        found[row["like_id"]].append(row)
    return [_likeliest(facts, found[candidate_id]) for candidate_id, facts in companies]


def _likeliest(facts: Facts, rows: Sequence[RowMapping]) -> list[SimilarCandidate]:
    words = core_words(facts.company_name)
    found = [similar for row in rows if (similar := _compare(facts, words, row))]
    found.sort(key=lambda one: (-len(one.reasons), -one.name_score, one.updated_at, one.candidate_id))
    return found[:MAX_SIMILAR]


def _compare(facts: Facts, words: list[str], row: RowMapping) -> SimilarCandidate | None:
    score = name_score(words, core_words(row["company_name"]))
    domain = company_domain(facts.contact_email)
    reasons = {
        Reason.NAME: score > 0,
        Reason.EMAIL_DOMAIN: domain is not None and domain == company_domain(row["contact_email"]),
        Reason.PHONE: is_same_phone(facts.phone, row["phone"]),
    }
    if not any(reasons.values()):
        return None
    return SimilarCandidate(
        candidate_id=row["id"],
        company_name=row["company_name"],
        status=Status(row["status"]),
        rejection_reason=row["rejection_reason"],
        updated_at=row["updated_at"],
        reasons=tuple(reason for reason, applies in reasons.items() if applies),
        name_score=score,
    )
