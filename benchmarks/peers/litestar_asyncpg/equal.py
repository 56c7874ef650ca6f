"""The store with the guarantees of the service, in the service's own tables."""

from __future__ import annotations

import asyncio
import logging
import unicodedata
from collections.abc import Sequence
from uuid import UUID, uuid4, uuid5

import asyncpg
import equal_sql
import httpx
import idna
import msgspec
from billing_calls import BillingError, create_provider_once
from cursors import cursor_of, place_of
from errors import changed, decided, not_found, refused, taken
from models import Registration, Status
from search_text import search_text

logger = logging.getLogger(__name__)
NAMESPACE = UUID("8f0d3b5e-6c0a-5f0e-9f6e-2b1c4f7d9a10")
LEASE_SECONDS = 45.0
RETRY_SECONDS = 2.5
SWEEP_SECONDS = 5.0
SWEEPS_AT_ONCE = 5


def canonical_email(address: str) -> str:
    """One spelling of an address."""
    if address.isascii():
        return address.lower()
    local_part, _, domain = unicodedata.normalize("NFC", address).casefold().rpartition("@")
    try:
        return f"{local_part}@{idna.encode(domain, uts46=True).decode()}"
    except idna.IDNAError:
        return f"{local_part}@{domain}"


class Store:
    """The candidates in the tables of the service."""

    def __init__(self, pool: asyncpg.Pool, billing: httpx.AsyncClient) -> None:
        self._pool = pool
        self._billing = billing
        self._sweeping = asyncio.create_task(self._sweep())

    async def stop(self) -> None:
        """Stop looking for approvals that a crash has left."""
        self._sweeping.cancel()
        await asyncio.gather(self._sweeping, return_exceptions=True)

    async def find(self, candidate_id: UUID) -> asyncpg.Record:
        """The candidate's row with its unfinished approval, or 404."""
        row = await self._pool.fetchrow(equal_sql.FIND, candidate_id)
        if row is None:
            raise not_found()
        return row

    async def register(self, company: Registration) -> asyncpg.Record:
        """The row of a new candidate."""
        words = search_text(company.company_name, company.contact_email, company.phone, company.location)
        facts = msgspec.structs.astuple(company)
        try:
            return await self._pool.fetchrow(equal_sql.REGISTER, *facts, canonical_email(company.contact_email), words)
        except asyncpg.UniqueViolationError:
            raise taken() from None

    async def page(
        self, limit: int, offset: int, status: str | None, product: str | None, cursor: str | None
    ) -> tuple[int, Sequence[asyncpg.Record], str | None]:
        """How many there are, one page, newest first, and the cursor of the next."""
        wanted, values = ["true"], []
        if status:
            values.append(status)
            wanted.append(f"status = ${len(values)}")
        if product:  # one of five words, written out, so that its partial index is used
            wanted.append(f"products @> ARRAY['{product}'::text]")
        if cursor:
            values += place_of(cursor)
            wanted.append(f"(created_at, id) < (${len(values) - 1}, ${len(values)})")
        values += [limit + 1, offset]  # one more: is there a next page?
        statement = f"""
            SELECT {equal_sql.COLUMNS} FROM candidates WHERE {" AND ".join(wanted)}
            ORDER BY created_at DESC, id DESC LIMIT ${len(values) - 1} OFFSET ${len(values)}
        """
        counted = (equal_sql.COUNT_OF_STATUS, product or "", status) if status else (equal_sql.COUNT, product or "")
        async with self._pool.acquire() as connection:
            total = await connection.fetchval(*counted)
            rows = await connection.fetch(statement, *values)
        page = rows[:limit]
        return total, page, cursor_of(page[-1]["created_at"], page[-1]["candidate_id"]) if len(rows) > limit else None

    async def reject(self, candidate_id: UUID, reason: str | None, actor: UUID) -> None:
        """Reject a pending candidate that has no approval."""
        async with self._pool.acquire() as connection, connection.transaction():
            await connection.execute(equal_sql.LOCK, candidate_id)
            seen = await connection.fetchrow(equal_sql.REJECT, candidate_id, reason, actor)
        if seen and seen["has_approval"] and seen["status"] == Status.PENDING:
            raise refused(409, "An approval is unfinished")
        if not (seen and seen["is_rejected"]):
            raise _refusal_of(seen)

    async def approve(self, candidate_id: UUID, actor: UUID) -> int:
        """Claim the approval, create the provider, and finish."""
        key = uuid5(NAMESPACE, str(candidate_id))
        try:
            seen = await self._pool.fetchrow(equal_sql.CLAIM, candidate_id, key, uuid4(), actor, LEASE_SECONDS)
        except asyncpg.UniqueViolationError:
            raise refused(409, "This name is being approved") from None
        if seen and seen["claim_id"]:
            return await asyncio.shield(self._carry_out(seen))
        if seen and seen["has_approval"]:
            raise refused(409, "An approval is unfinished")
        raise _refusal_of(seen)

    async def _carry_out(self, claim: asyncpg.Record) -> int:
        key, id_ = claim["idempotency_key"], claim["candidate_id"]
        try:
            provider_id = await create_provider_once(
                self._billing, claim["provider_name"], key, maybe_sent=claim["attempts"] > 1
            )
        except BillingError as error:
            logger.warning("%s %s: %s", key, error.outcome, error)
            if error.outcome == "uncertain":
                wait = RETRY_SECONDS * 2 ** claim["attempts"]
                await self._pool.execute(equal_sql.KEEP_WAITING, id_, claim["claim_id"], wait, str(error))
                raise refused(503, "Billing did not answer; the approval will go on") from None
            if error.outcome == "unusable":
                await self._pool.execute(equal_sql.DOUBT, id_, claim["claim_id"], str(error))
                raise refused(502, "An admin has to resolve this approval") from None
            await self._pool.execute(equal_sql.DROP, id_, claim["claim_id"])
            raise refused(502, "Billing created no provider") from None
        if not await self._pool.fetchval(equal_sql.FINISH, id_, claim["version"], key, provider_id):
            raise changed()
        return provider_id

    async def _sweep(self) -> None:
        """Carry out what a crash has left; any process does."""
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            try:
                due = await self._pool.fetch(equal_sql.CLAIM_DUE, uuid4(), LEASE_SECONDS, SWEEPS_AT_ONCE)
                await asyncio.gather(*map(self._carry_out, due), return_exceptions=True)
            except (OSError, asyncpg.PostgresError):
                logger.exception("the sweep failed")


def _refusal_of(seen: asyncpg.Record | None) -> Exception:
    if seen is None:
        return not_found()
    return changed() if seen["status"] == Status.PENDING else decided(seen["status"])
