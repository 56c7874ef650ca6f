"""Deciding about several candidates with one form, one after another within a bounded time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from uuid import UUID

from provider_registration.candidates.browsing import BrowsingService
from provider_registration.candidates.models import Candidate
from provider_registration.console.decisions import Outcome, seen_version
from provider_registration.pages.forms import Form

MOST = 50  # candidates in one form
SECONDS = 20.0  # after which no further decision is begun
MARK = "mark"

NOT_BEGUN = "There was no time left for it. Nothing was changed: mark it again."


@dataclass(frozen=True, slots=True)
class Marked:
    """A candidate that was marked, and the version that was seen."""

    candidate: Candidate
    version: int


@dataclass(frozen=True, slots=True)
class Result:
    """What came of the decision about one candidate."""

    candidate: Candidate
    outcome: Outcome


Decide = Callable[[Marked], Awaitable[Outcome]]


async def read_marks(form: Form, browsing: BrowsingService) -> list[Marked]:
    """The marked candidates that there are, MOST at most, in the order of the list."""
    versions: dict[UUID, int] = {}
    for mark in form.all(MARK)[:MOST]:
        candidate_id, _, version = mark.partition(":")
        try:
            versions[UUID(candidate_id)] = seen_version(version)
        except ValueError:
            continue
    found = await browsing.candidates(list(versions))
    return [Marked(candidate, versions[candidate.candidate_id]) for candidate in found]


async def decide_all(marked: list[Marked], decide: Decide) -> list[Result]:
    """Decide about each in turn; what has not begun after SECONDS stays as it is."""
    ends = asyncio.get_running_loop().time() + SECONDS
    results = []
    for one in marked:
        in_time = asyncio.get_running_loop().time() < ends
        outcome = await decide(one) if in_time else Outcome("warning", f"{one.candidate.company_name}: {NOT_BEGUN}")
        results.append(Result(one.candidate, outcome))
    return results
