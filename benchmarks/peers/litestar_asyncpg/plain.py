"""The typical store: one table, plain writes, no log of events."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

import asyncpg
import httpx
import msgspec
from billing_calls import BillingError, create_provider
from errors import changed, decided, not_found, refused, taken
from models import Registration, Status

COLUMNS = """
    id AS candidate_id, status, company_name, contact_email, phone, products, truck_count, capacity_tons_per_day,
    location, created_at, updated_at, provider_id, version, rejection_reason
"""
INSERT = f"""
    INSERT INTO candidates (company_name, contact_email, phone, products, truck_count, capacity_tons_per_day, location)
    VALUES ($1, $2, $3, $4, $5, $6, $7)
    RETURNING {COLUMNS}
"""
FIND = f"SELECT {COLUMNS} FROM candidates WHERE id = $1"
REJECT = """
    UPDATE candidates
    SET status = 'rejected', rejection_reason = $3, version = version + 1, updated_at = now()
    WHERE id = $1 AND version = $2 AND status = 'pending'
    RETURNING id
"""
APPROVE = """
    UPDATE candidates
    SET status = 'approved', provider_id = $3, version = version + 1, updated_at = now()
    WHERE id = $1 AND version = $2 AND status = 'pending'
    RETURNING id
"""


class Store:
    """The candidates in the table of the peers."""

    def __init__(self, pool: asyncpg.Pool, billing: httpx.AsyncClient) -> None:
        self._pool = pool
        self._billing = billing

    async def stop(self) -> None:
        """Nothing runs in the background."""

    async def find(self, candidate_id: UUID) -> asyncpg.Record:
        """The candidate's row, or 404."""
        row = await self._pool.fetchrow(FIND, candidate_id)
        if row is None:
            raise not_found()
        return row

    async def register(self, company: Registration) -> asyncpg.Record:
        """The row of a new candidate."""
        try:
            return await self._pool.fetchrow(INSERT, *msgspec.structs.astuple(company))
        except asyncpg.UniqueViolationError:
            raise taken() from None

    async def page(
        self, limit: int, offset: int, status: str | None, product: str | None, _cursor: str | None
    ) -> tuple[int, Sequence[asyncpg.Record], str | None]:
        """How many there are, one page, newest first, and no cursor."""
        wanted, values = [], []
        if status:
            values.append(status)
            wanted.append(f"status = ${len(values)}")
        if product:
            values.append([product])
            wanted.append(f"products @> ${len(values)}")
        where = f"WHERE {' AND '.join(wanted)}" if wanted else ""
        async with self._pool.acquire() as connection:
            total = await connection.fetchval(f"SELECT count(*) FROM candidates {where}", *values)
            page = f"ORDER BY created_at DESC, id DESC LIMIT ${len(values) + 1} OFFSET ${len(values) + 2}"
            rows = await connection.fetch(f"SELECT {COLUMNS} FROM candidates {where} {page}", *values, limit, offset)
        return total, rows, None

    async def reject(self, candidate_id: UUID, reason: str | None, _actor: UUID) -> None:
        """Reject a pending candidate."""
        row = await self._find_pending(candidate_id)
        if await self._pool.fetchval(REJECT, candidate_id, row["version"], reason) is None:
            raise changed()

    async def approve(self, candidate_id: UUID, _actor: UUID) -> int:
        """Create the provider and mark the candidate approved."""
        row = await self._find_pending(candidate_id)
        try:
            provider_id = await create_provider(self._billing, row["company_name"])
        except BillingError:
            raise refused(502, "Billing failed") from None
        if await self._pool.fetchval(APPROVE, candidate_id, row["version"], provider_id) is None:
            raise changed()
        return provider_id

    async def _find_pending(self, candidate_id: UUID) -> asyncpg.Record:
        row = await self.find(candidate_id)
        if row["status"] != Status.PENDING:
            raise decided(row["status"])
        return row
