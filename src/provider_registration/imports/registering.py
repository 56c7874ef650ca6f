"""Works on the rows of imports, a part at a time: checks them, or registers them as the API does."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any
from uuid import UUID

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
from provider_registration.jobs.models import ClaimedJob, Item, Kind, Result
from provider_registration.web.text import canonical_email

VALIDATED_AT_ONCE = 5  # rows, between which other tasks get their turn: at most 6 ms, with the longest names
CHECKED, IMPORTED = "checked", "imported"  # statuses of parts


class Registering:
    """What the jobs of imports do with a part of a file. The results of its rows are in the import."""

    def __init__(self, database: Database, candidates: CandidateService) -> None:
        self._database = database
        self._candidates = candidates

    @property
    def kinds(self) -> Mapping[str, Kind]:
        """What works on one item, by the name of its kind."""
        return {CHECK: partial(self._work, is_dry=True), REGISTER: partial(self._work, is_dry=False)}

    async def _work(self, job: ClaimedJob, item: Item, *, is_dry: bool) -> Result:
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
        async with self._database.statement() as session:
            rows = [FileRow.from_row(row) for row in (await session.execute(queries.FIND_ROWS, part)).mappings()]
        valid, invalid = await _validate(mapper, rows)
        async with self._database.transaction() as session:
            left = set(await session.scalars(queries.LOCK_ROWS, part))
            valid = {position: company for position, company in valid.items() if position in left}
            results = [result for result in invalid if result.position in left]
            if is_dry:
                results += await self._check(session, mapper, valid)
            else:
                results += await self._register(session, mapper, valid, job)
            if results:
                await _record(session, part, results, is_dry=is_dry, errors=mapper.taken())
            await reach("import.before-rows-commit")
        await reach("import.after-rows-commit")
        return Result(CHECKED if is_dry else IMPORTED)

    async def _check(
        self, session: AsyncSession, mapper: RowMapper, valid: Mapping[int, CandidateRegistration]
    ) -> list[RowResult]:
        addresses = {position: canonical_email(company.contact_email) for position, company in valid.items()}
        taken = await self._candidates.taken_addresses(session, list(addresses.values()))
        return [
            RowResult(position, RowOutcome.ALREADY_REGISTERED, mapper.taken())
            if address in taken
            else RowResult(position, RowOutcome.VALID, email_canonical=address)
            for position, address in addresses.items()
        ]

    async def _register(
        self,
        session: AsyncSession,
        mapper: RowMapper,
        valid: Mapping[int, CandidateRegistration],
        job: ClaimedJob,
    ) -> list[RowResult]:
        data: dict[str, object] = {"import_id": job.parameters["import_id"], "job_id": str(job.job_id)}
        if not job.parameters["notify"]:
            data["notify"] = False
        registrations = {
            position: Registration.of(company, None, company.language) for position, company in valid.items()
        }
        added = await self._candidates.register_in(session, list(registrations.values()), actor=job.actor, data=data)
        return [
            RowResult(position, RowOutcome.REGISTERED)
            if registration.candidate_id in added
            else RowResult(position, RowOutcome.ALREADY_REGISTERED, mapper.taken())
            for position, registration in registrations.items()
        ]


async def _record(
    session: AsyncSession,
    part: dict[str, Any],
    results: Sequence[RowResult],
    *,
    is_dry: bool,
    errors: list[dict[str, Any]],
) -> None:
    if is_dry:
        await session.execute(queries.LOCK_IMPORT, {"import_id": part["import_id"]})
    recorded = part | {"results": json.dumps([asdict(result) for result in results]), "is_done": not is_dry}
    await session.execute(queries.RECORD_ROWS, recorded)
    addresses = [result.email_canonical for result in results if result.email_canonical]
    if addresses:
        repeated = {"import_id": part["import_id"], "run": part["run"], "addresses": addresses}
        await session.execute(queries.MARK_REPEATED, repeated | {"errors": json.dumps(errors)})


async def _mapper_of(session: AsyncSession, import_id: UUID) -> RowMapper:
    row = (await session.execute(queries.FIND_MAPPING, {"import_id": import_id})).mappings().one_or_none()
    if row is None:
        raise ImportNotFound(import_id)
    return RowMapper(json.loads(row["columns"]), json.loads(row["mapping"]))


async def _validate(
    mapper: RowMapper, rows: Sequence[FileRow]
) -> tuple[dict[int, CandidateRegistration], list[RowResult]]:
    """The valid rows by position, and the results of the others."""
    valid: dict[int, CandidateRegistration] = {}
    invalid = []
    for number, row in enumerate(rows):
        if number % VALIDATED_AT_ONCE == 0:
            await asyncio.sleep(0)
        made = mapper.registration_of(row.cells)
        if isinstance(made, CandidateRegistration):
            valid[row.position] = made
        else:
            invalid.append(RowResult(row.position, RowOutcome.INVALID, made))
    return valid, invalid
