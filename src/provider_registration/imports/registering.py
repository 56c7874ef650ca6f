"""Works on the rows of imports, a part at a time: checks them, or registers them as the API does."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from time import perf_counter
from typing import Any, TypeVar
from uuid import UUID

from sqlalchemy import RowMapping
from sqlalchemy.ext.asyncio import AsyncSession

from provider_registration.candidates.models import Registration
from provider_registration.candidates.schemas import CandidateRegistration
from provider_registration.candidates.service import CandidateService
from provider_registration.db.database import Database
from provider_registration.failpoints import reach
from provider_registration.imports import queries
from provider_registration.imports.errors import ImportNotFound
from provider_registration.imports.limits import ROWS_IN_PART
from provider_registration.imports.mapping import RowMapper
from provider_registration.imports.models import FileRow, RowOutcome, RowResult
from provider_registration.imports.service import CHECK, REGISTER
from provider_registration.jobs.models import ClaimedJob, Item, Result, WorkOnItem
from provider_registration.web.text import canonical_email

TURN_SECONDS = 0.0005  # of work on rows, after which other tasks get their turn
CHECKED, IMPORTED = "checked", "imported"  # statuses of parts

Made = TypeVar("Made")


class Registering:
    """What the jobs of imports do with a part of a file. The results of its rows are in the import."""

    def __init__(self, database: Database, candidates: CandidateService) -> None:
        self._database = database
        self._candidates = candidates
        self._validating = asyncio.Lock()  # of one part at a time: the turns of several would add up

    @property
    def kinds(self) -> Mapping[str, WorkOnItem]:
        """What works on one item, by the name of its kind."""
        return {
            CHECK: partial(self._work, make=_address_of, store=self._check, is_dry=True),
            REGISTER: partial(self._work, make=_registration_of, store=self._register, is_dry=False),
        }

    async def _work(
        self,
        job: ClaimedJob,
        item: Item,
        *,
        make: Callable[[CandidateRegistration], Made],
        store: Callable[[AsyncSession, Mapping[int, Made], str, ClaimedJob], Awaitable[list[RowResult]]],
        is_dry: bool,
    ) -> Result:
        """Check or register the rows of a part, and record their outcomes in the same transaction.

        Rows that an earlier attempt recorded are left out, so a part can be repeated after a crash.
        """
        import_id, after = UUID(job.parameters["import_id"]), item.number * ROWS_IN_PART
        part = {
            "import_id": import_id,
            "run": job.parameters["run"],
            "after": after,
            "until": after + ROWS_IN_PART,
        }
        async with self._database.statement() as session:
            mapper = await _mapper_of(session, import_id)
            rows = (await session.execute(queries.FIND_ROWS, part)).mappings().all()
        async with self._validating:
            valid, invalid = await _validate(mapper, rows, make)
        taken = json.dumps(mapper.taken())
        async with self._database.transaction() as session:
            left = set(await session.scalars(queries.LOCK_ROWS, part))
            valid = {position: made for position, made in valid.items() if position in left}
            results = [result for result in invalid if result.position in left]
            results += await store(session, valid, taken, job)
            if results:
                await _record(session, part, results, is_dry=is_dry, taken=taken)
            await reach("import.before-rows-commit")
        await reach("import.after-rows-commit")
        return Result(CHECKED if is_dry else IMPORTED)

    async def _check(
        self, session: AsyncSession, addresses: Mapping[int, str], taken: str, _job: ClaimedJob
    ) -> list[RowResult]:
        registered = await self._candidates.taken_addresses(session, list(addresses.values()))
        return [
            RowResult(position, RowOutcome.ALREADY_REGISTERED, taken)
            if address in registered
            else RowResult(position, RowOutcome.VALID, email_canonical=address)
            for position, address in addresses.items()
        ]

    async def _register(
        self, session: AsyncSession, registrations: Mapping[int, Registration], taken: str, job: ClaimedJob
    ) -> list[RowResult]:
        data: dict[str, object] = {"import_id": job.parameters["import_id"], "job_id": str(job.job_id)}
        if not job.parameters["notify"]:
            data["notify"] = False
        added = await self._candidates.register_in(session, list(registrations.values()), actor=job.actor, data=data)
        return [
            RowResult(position, RowOutcome.REGISTERED)
            if registration.candidate_id in added
            else RowResult(position, RowOutcome.ALREADY_REGISTERED, taken)
            for position, registration in registrations.items()
        ]


def _address_of(company: CandidateRegistration) -> str:
    return canonical_email(company.contact_email)


def _registration_of(company: CandidateRegistration) -> Registration:
    return Registration.of(company, None, company.language)


async def _record(
    session: AsyncSession, part: dict[str, Any], results: Sequence[RowResult], *, is_dry: bool, taken: str
) -> None:
    if is_dry:
        await session.execute(queries.LOCK_IMPORT, {"import_id": part["import_id"]})
    recorded = part | {
        "is_done": not is_dry,
        "positions": [result.position for result in results],
        "outcomes": [str(result.outcome) for result in results],
        "errors": [result.errors for result in results],
        "addresses": [result.email_canonical for result in results],
    }
    await session.execute(queries.RECORD_ROWS, recorded)
    addresses = [result.email_canonical for result in results if result.email_canonical]
    if addresses:
        repeated = {"import_id": part["import_id"], "run": part["run"], "addresses": addresses, "errors": taken}
        await session.execute(queries.MARK_REPEATED, repeated)


async def _mapper_of(session: AsyncSession, import_id: UUID) -> RowMapper:
    row = (await session.execute(queries.FIND_MAPPING, {"import_id": import_id})).mappings().one_or_none()
    if row is None:
        raise ImportNotFound(import_id)
    return RowMapper(json.loads(row["columns"]), json.loads(row["mapping"]))


async def _validate(
    mapper: RowMapper, rows: Sequence[RowMapping], make: Callable[[CandidateRegistration], Made]
) -> tuple[dict[int, Made], list[RowResult]]:
    """What is made of each valid row, by position, and the results of the others."""
    valid: dict[int, Made] = {}
    invalid = []
    turn_ends = 0.0
    for stored in rows:
        if perf_counter() > turn_ends:
            await asyncio.sleep(0)
            turn_ends = perf_counter() + TURN_SECONDS
        row = FileRow.from_row(stored)
        company = mapper.registration_of(row.cells)
        if isinstance(company, CandidateRegistration):
            valid[row.position] = make(company)
        else:
            invalid.append(RowResult(row.position, RowOutcome.INVALID, json.dumps(company)))
    return valid, invalid
