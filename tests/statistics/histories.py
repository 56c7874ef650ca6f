"""Random histories of candidates, and statistics counted from every candidate and event."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from math import ceil, floor, log2
from random import Random
from typing import Any
from uuid import UUID, uuid4

import asyncpg

from provider_registration.candidates.company import Product
from provider_registration.candidates.models import STANDARD_REASONS
from provider_registration.statistics.models import OUTCOMES, Grouping, Period, Reason, Statistics

PERSONAL = "Call Mr Pérez on 600 123 456"
CODES = {text: code for code, text in STANDARD_REASONS.items()} | {PERSONAL: "other", None: "none", "": "none"}
STEP = timedelta(hours=7, minutes=13, microseconds=77)
REGISTER = """
    WITH added AS (
        INSERT INTO candidates (company_name, contact_email, products, truck_count, capacity_tons_per_day, created_at,
                                updated_at)
        VALUES ($1::text, $1::text || '@example.org', $2, 1, 10, $3, $3) RETURNING id
    ), recorded AS (
        INSERT INTO candidate_events (candidate_id, type, at, actor_kind, version)
        SELECT id, 'candidate.registered', $3, 'applicant', 1 FROM added
    )
    SELECT id FROM added
"""
EVENT = """
    INSERT INTO candidate_events (candidate_id, type, at, actor_kind, actor_id, version, data)
    VALUES ($1, $2, $3, CASE WHEN $4::uuid IS NULL THEN 'service' ELSE 'user' END, $4, 2, $5)
"""
# As the service does, but at another time: without triggers, updated_at can be chosen.
DECIDE = """
    UPDATE candidates SET status = $2, provider_id = $3, rejection_reason = $4, rejected_by = $5 WHERE id = $1
"""
ERASE = """
    UPDATE candidates
    SET contact_email = 'erased-' || id || '@erased.invalid', company_name = 'erased', rejection_reason = NULL,
        status = CASE status WHEN 'pending' THEN 'rejected' ELSE status END
    WHERE id = $1
"""
SET_TIME = "UPDATE candidates SET updated_at = $2 WHERE id = $1"
KEY = '{"idempotency_key": "00000000-0000-4000-8000-000000000000"}'
LINKED = KEY[:-1] + ', "linked": true}'


@dataclass
class Lived:
    """What happened to a candidate."""

    id: UUID
    products: list[str]
    registered: datetime
    decided: datetime | None = None
    status: str = "pending"
    decided_by: str | None = None
    reason: str | None = None
    is_erased: bool = False
    is_counted: bool = False  # the decision, with its reason
    outcomes: list[tuple[str, datetime]] = field(default_factory=list)

    def was_pending(self, at: datetime) -> bool:
        return self.registered < at and (self.decided is None or self.decided >= at)


class History:
    """Changes candidates at random, with a clock that is months behind and goes on by hours."""

    def __init__(self, connection: asyncpg.Connection, *, seed: int, users: list[UUID], days: int = 100) -> None:
        self._connection = connection
        self._random = Random(seed)  # noqa: S311 - no secret
        self._users = users
        self.now = datetime.now(UTC) - timedelta(days=days)
        self.lived: list[Lived] = []
        self._providers = self._random.randrange(2**30)  # other histories have others

    async def go_on(self, steps: int) -> None:
        for _ in range(steps):
            self.now = min(self.now + STEP * self._random.random(), datetime.now(UTC))
            pending = [each for each in self.lived if each.status == "pending"]
            act = self._random.choice(("register", "register", "approve", "reject", "fail", "erase"))
            async with self._connection.transaction():
                if act == "register" or not pending:
                    await self._register()
                elif act == "erase":
                    await self.erase(self._random.choice(self.lived))
                else:
                    await getattr(self, f"_{act}")(self._random.choice(pending))

    def note_count(self) -> None:
        """Everything until now was counted."""
        for one in self.lived:
            one.is_counted = one.decided is not None

    async def _register(self) -> None:
        products = self._random.sample(list(Product), self._random.randint(1, 3))
        id_ = await self._connection.fetchval(REGISTER, uuid4().hex, products, self.now)
        self.lived.append(Lived(id_, [str(product) for product in products], self.now))

    async def _happen(self, one: Lived, kind: str, user: UUID | None = None, data: str = "{}") -> None:
        await self._connection.execute(EVENT, one.id, f"candidate.{kind}", self.now, user, data)

    async def _decide(self, one: Lived, status: str, *values: Any) -> None:
        await self._connection.execute(DECIDE, one.id, status, *values)
        await self._set_time(one, self.now)
        one.status, one.decided = status, self.now

    async def _set_time(self, one: Lived, at: datetime) -> None:
        await self._connection.execute("SET LOCAL session_replication_role = replica")
        await self._connection.execute(SET_TIME, one.id, at)
        await self._connection.execute("SET LOCAL session_replication_role = origin")

    async def _approve(self, one: Lived) -> None:
        self._providers += 1
        user = self._random.choice([*self._users, None])
        if self._random.random() < 0.3:
            await self._happen(one, "approval_linked", user, KEY)
            await self._happen(one, "approved", user, LINKED)
            one.outcomes.append(("linked", self.now))
        else:
            await self._happen(one, "approved", user, KEY)
            one.outcomes.append(("approved", self.now))
        await self._decide(one, "approved", self._providers, None, None)
        one.decided_by = str(user or "service")

    async def _reject(self, one: Lived) -> None:
        user, reason = self._random.choice([*self._users, None]), self._random.choice(list(CODES))
        await self._happen(one, "rejected", user)
        await self._decide(one, "rejected", None, reason, user)
        one.decided_by, one.reason = str(user or "service"), CODES[reason]

    async def _fail(self, one: Lived) -> None:
        kind, outcome = self._random.choice(
            [
                ("approval_failed", "failed"),
                ("approval_in_doubt", "in_doubt"),
                ("approval_released", "let_go"),
                ("provider_orphaned", "orphaned"),
            ]
        )
        await self._happen(one, kind, None, KEY)
        one.outcomes.append((outcome, self.now))

    async def erase(self, one: Lived) -> None:
        if one.is_erased:
            return
        was_pending = one.status == "pending"
        await self._connection.execute(ERASE, one.id)
        await self._set_time(one, self.now if was_pending else one.decided)
        await self._happen(one, "erased")
        one.is_erased = True
        if one.reason and not one.is_counted:
            one.reason = "erased"
        if was_pending:
            one.status, one.decided, one.decided_by, one.reason = "rejected", self.now, "service", "erased"


def expected(history: History, period: Period, now: datetime) -> dict[str, Any]:
    """The figures of each group, counted one by one."""
    groups: dict[str | None, list[Lived]]
    match period.by:
        case None:
            groups = {None: history.lived}
        case Grouping.PRODUCT:
            groups = {str(p): [one for one in history.lived if str(p) in one.products] for p in Product}
        case Grouping.DECIDED_BY:
            groups = {}
            for one in history.lived:
                if one.decided and period.first <= one.decided.date() <= period.last:
                    groups.setdefault(one.decided_by, []).append(one)
        case Grouping.REASON:
            groups = {str(r): [one for one in history.lived if one.reason == r] for r in Reason}
    starts = period.interval.starts(period.first, period.last)
    found = {}
    for group, members in groups.items():
        buckets = []
        for number, start in enumerate(starts):
            end = starts[number + 1] - timedelta(days=1) if number + 1 < len(starts) else period.last
            buckets.append(figures_of(members, period, max(start, period.first), end, now))
        found[group] = [figures_of(members, period, period.first, period.last, now), *buckets]
    return found


def figures_of(members: list[Lived], period: Period, first: date, last: date, now: datetime) -> dict[str, Any]:
    def is_in(at: datetime | None) -> bool:
        return at is not None and first <= at.date() <= last

    has_all = period.by in (None, Grouping.PRODUCT)
    decided = [one for one in members if is_in(one.decided)]
    buckets = sorted(bucket_of(one.decided - one.registered) for one in decided)
    outcomes = Counter(outcome for one in members for outcome, at in one.outcomes if is_in(at))
    end = min(datetime.combine(last + timedelta(days=1), datetime.min.time(), UTC), now)
    waiting = [one.registered for one in members if one.was_pending(end)]
    return {
        "registered": sum(is_in(one.registered) for one in members) if has_all else None,
        "approved": sum(one.status == "approved" for one in decided) if period.by is not Grouping.REASON else None,
        "rejected": sum(one.status == "rejected" for one in decided),
        "times": [2 ** ((buckets[ceil(len(buckets) * part) - 1] + 0.5) / 16) for part in (0.5, 0.9, 0.95)]
        if buckets
        else [None] * 3,
        "approvals": {outcome: outcomes[outcome] for outcome in OUTCOMES} if has_all else None,
        "pending": len(waiting) if has_all else None,
        "oldest": (end - min(waiting)).total_seconds() if waiting and period.by is None else None,
    }


def bucket_of(time: timedelta) -> int:
    return floor(16 * log2(max(time.total_seconds(), 1)))


def shown(statistics: Statistics) -> dict[str, Any]:
    """The same figures of the service."""
    return {
        series.group: [
            {
                "registered": figures.registered,
                "approved": figures.approved,
                "rejected": figures.rejected,
                "times": [
                    figures.time_to_decision.p50,
                    figures.time_to_decision.p90,
                    figures.time_to_decision.p95,
                ],
                "approvals": figures.approvals,
                "pending": figures.pending,
                "oldest": figures.oldest_age,
            }
            for figures in (series.totals, *(bucket.figures for bucket in series.buckets))
        ]
        for series in statistics.series
    }
