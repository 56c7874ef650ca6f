"""Stores files as rows, starts their imports, and shows their progress."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import suppress
from math import ceil
from uuid import UUID, uuid4

from sqlalchemy import RowMapping
from sqlalchemy.ext.asyncio import AsyncSession

from provider_registration.audit.models import Actor, AuditEvent, AuditType, Subject
from provider_registration.audit.service import record
from provider_registration.candidates.company import REQUIRED
from provider_registration.db.database import Database, DatabaseUnavailable
from provider_registration.failpoints import reach
from provider_registration.idempotency.models import Key
from provider_registration.idempotency.service import keep, take
from provider_registration.imports import queries
from provider_registration.imports.errors import (
    FileUnreadable,
    ImportNotFound,
    ImportRunning,
    ImportsBusy,
    MappingInvalid,
    TooManyImports,
)
from provider_registration.imports.headings import guess_mapping
from provider_registration.imports.limits import ROWS_IN_PART
from provider_registration.imports.models import SAMPLE_ROWS, FileRow, Import, RowErrors
from provider_registration.imports.reading import READING_SECONDS, TOO_MUCH, FileReading, reading_process
from provider_registration.jobs.models import NewItem, NewJob
from provider_registration.jobs.service import JobService
from provider_registration.web.pagination import NEWEST_END, Position

SUBJECT = "import"
CHECK, REGISTER = "imports.check", "imports.register"  # kinds of jobs
READ_AT_ONCE = 2  # files, in each process; each takes up to 60 MB in the reading process
MAX_STORED = 50  # imports; about, because additions do not wait for each other
KEPT_DAYS = 30  # after an import was sent or last started
DELETED_AT_ONCE = 10_000  # rows
FAILED_AT_ONCE = 50  # rows, of up to MAX_ROW_LENGTH: parsing them as JSON takes up to 5 ms


class ImportService:
    """The imports. `registering` works on their rows."""

    def __init__(self, database: Database, jobs: JobService) -> None:
        self._database = database
        self._jobs = jobs
        self._reading = 0

    async def add(
        self, content: AsyncIterator[bytes], *, actor: Actor, key_of: Callable[[str], Key] | None = None
    ) -> tuple[UUID, bool]:
        """Store the rows of a file while it is read; return the ID of the import, and whether it is an earlier one.

        `key_of`: the idempotency key of a file with this SHA-256; if it repeats, the import is the earlier one.

        Raises:
            FileUnreadable: the file cannot be imported.
            ImportsBusy, TooManyImports: not now.
            KeyInUse, KeyReused: the request with this key is under way, or had another file.
        """
        if self._reading >= READ_AT_ONCE:
            raise ImportsBusy
        self._reading += 1
        import_id = uuid4()
        try:
            await self._insert(import_id, actor)
            try:
                stored_id = await self._read(import_id, content, actor, key_of)
            except BaseException:
                await asyncio.shield(self._forget(import_id))
                raise
        finally:
            self._reading -= 1
        is_replay = stored_id != import_id
        if is_replay:
            await self._forget(import_id)
        return stored_id, is_replay

    async def _insert(self, import_id: UUID, actor: Actor) -> None:
        parameters = {
            "import_id": import_id,
            "actor_kind": str(actor.kind),
            "actor_id": actor.id,
            "limit": MAX_STORED,
        }
        async with self._database.statement() as session:
            if await session.scalar(queries.INSERT_IMPORT, parameters) is None:
                raise TooManyImports(MAX_STORED)

    async def _read(
        self, import_id: UUID, content: AsyncIterator[bytes], actor: Actor, key_of: Callable[[str], Key] | None
    ) -> UUID:
        async with reading_process() as reading:
            fingerprint = await reading.feed(content)
            try:
                async with asyncio.timeout(READING_SECONDS):
                    async for rows in reading.parts():
                        async with self._database.statement() as session:
                            await session.execute(queries.INSERT_ROWS, {"import_id": import_id, "rows": rows})
                        await reach("import.after-part-commit")
            except TimeoutError:
                raise FileUnreadable(TOO_MUCH) from None
        key = key_of(fingerprint) if key_of else None
        async with self._database.transaction() as session:
            if key and (kept := await take(session, key)):
                return UUID((kept.answer or {})["import_id"])
            await self._finish(session, import_id, reading, actor)
            if key:
                await keep(session, key, {"import_id": str(import_id)})
        return import_id

    async def _finish(self, session: AsyncSession, import_id: UUID, reading: FileReading, actor: Actor) -> None:
        details = {name: reading.head[name] for name in ("sheet", "encoding", "separator") if name in reading.head}
        columns = reading.head["columns"]
        parameters = {
            "import_id": import_id,
            "format": reading.head["format"],
            "details": json.dumps(details),
            "columns": json.dumps(columns),
            "mapping": json.dumps(guess_mapping(columns)),
            "rows": reading.rows,
        }
        if await session.scalar(queries.FINISH_READING, parameters) is None:  # deleted meanwhile
            raise ImportNotFound(import_id)
        about: dict[str, object] = {"format": reading.head["format"], "rows": reading.rows}
        await record(session, AuditEvent(AuditType.IMPORT_ADDED, actor, Subject(SUBJECT, import_id), about))

    async def _forget(self, import_id: UUID) -> None:
        """Delete an import whose file could not be read; if that fails, it is deleted later."""
        with suppress(DatabaseUnavailable):
            await self._delete(import_id)

    async def start(
        self, import_id: UUID, *, actor: Actor, is_dry: bool, notify: bool, mapping: dict[str, str] | None = None
    ) -> UUID:
        """Have the rows checked or registered by a job, and return its ID; rows that are done are left out.

        `mapping`: the column of each field; None: as before, at first as guessed. `notify`: companies get an e-mail.

        Raises:
            ImportNotFound: there is none.
            ImportRunning: it is being read or worked on.
            MappingInvalid: `mapping` names other columns, or a field that is needed has none.
            TooManyJobs: too many are unfinished.
        """
        job_id = uuid4()
        async with self._database.transaction() as session:
            found = await self._lock(session, import_id)
            chosen = json.loads(found["mapping"]) if mapping is None else mapping
            _check_mapping(chosen, json.loads(found["columns"]))
            parameters = {
                "import_id": import_id,
                "is_dry_run": is_dry,
                "notify": notify,
                "job_id": job_id,
                "mapping": json.dumps(chosen),
            }
            number = await session.scalar(queries.START_IMPORT, parameters)
            new = NewJob(
                job_id=job_id,
                kind=CHECK if is_dry else REGISTER,
                actor=actor,
                items=[NewItem(None)] * ceil(found["row_count"] / ROWS_IN_PART),
                parameters={"import_id": str(import_id), "run": number, "notify": notify},
                about={"import_id": str(import_id), "rows": found["row_count"]},
            )
            await self._jobs.create_in(session, new)
        self._jobs.wake.set()
        return job_id

    async def get(self, import_id: UUID) -> Import:
        """One import.

        Raises:
            ImportNotFound: there is none.
        """
        parameters = {"import_id": import_id, "sample": SAMPLE_ROWS}
        async with self._database.statement() as session:
            row = (await session.execute(queries.FIND_IMPORT, parameters)).mappings().one_or_none()
        if row is None:
            raise ImportNotFound(import_id)
        return Import.from_row(row)

    async def page(self, *, limit: int, after: Position | None = None) -> tuple[list[Import], Position | None]:
        """At most `limit` imports, newest first, and the position after which the next page begins, if any."""
        start = after or NEWEST_END
        parameters = {"limit": limit + 1, "after": start.at, "after_id": start.id}
        async with self._database.statement() as session:
            rows = (await session.execute(queries.LIST_IMPORTS, parameters)).mappings().all()
        found = [Import.from_row(row) for row in rows[:limit]]
        return found, Position(found[-1].created_at, found[-1].import_id) if len(rows) > limit else None

    async def errors(self, import_id: UUID, *, limit: int, after: int = 0) -> tuple[list[RowErrors], int | None]:
        """At most `limit` rows with errors, and the position after which the next page begins, if any.

        Raises:
            ImportNotFound: there is none.
        """
        parameters = {"import_id": import_id, "limit": limit + 1, "after": after}
        async with self._database.statement() as session:
            rows = (await session.execute(queries.LIST_ERRORS, parameters)).mappings().all()
        if not rows:
            await self.get(import_id)
        found = [RowErrors.from_row(row) for row in rows[:limit]]
        return found, found[-1].position if len(rows) > limit else None

    async def failed(self, import_id: UUID) -> AsyncIterator[list[tuple[FileRow, RowErrors]]]:
        """The invalid rows, some at a time; no connection is held between two of them."""
        after = 0
        while True:
            parameters = {"import_id": import_id, "limit": FAILED_AT_ONCE, "after": after}
            async with self._database.statement() as session:
                rows = (await session.execute(queries.LIST_FAILED, parameters)).mappings().all()
            if rows:
                yield [(FileRow.from_row(row), RowErrors.from_row(row)) for row in rows]
                after = rows[-1]["position"]
            if len(rows) < FAILED_AT_ONCE:
                return

    async def delete(self, import_id: UUID, *, actor: Actor) -> None:
        """Delete an import with its rows; companies that it registered stay.

        Raises:
            ImportNotFound: there is none.
            ImportRunning: it is being read or worked on.
        """
        async with self._database.transaction() as session:
            await self._lock(session, import_id)
            await session.execute(queries.CLOSE_IMPORT, {"import_id": import_id})
            await record(session, AuditEvent(AuditType.IMPORT_DELETED, actor, Subject(SUBJECT, import_id)))
        await self._forget(import_id)

    async def _lock(self, session: AsyncSession, import_id: UUID) -> RowMapping:
        """Lock an import that is not running, not even an item of a cancelled job.

        Raises:
            ImportNotFound, ImportRunning: there is none, or it is.
        """
        parameters = {"import_id": import_id}
        if await session.scalar(queries.LOCK_IMPORT, parameters) is None:
            raise ImportNotFound(import_id)
        row = (await session.execute(queries.FIND_LOCKED, parameters)).mappings().one()
        if not row["is_idle"]:
            raise ImportRunning(import_id)
        return row

    async def delete_expired(self) -> bool:
        """Delete an import that was not touched for KEPT_DAYS, or not read to its end; whether there was one."""
        async with self._database.statement() as session:
            import_id: UUID | None = await session.scalar(queries.CLOSE_EXPIRED, {"days": KEPT_DAYS})
        if import_id is None:
            return False
        await self._delete(import_id)
        return True

    async def _delete(self, import_id: UUID) -> None:
        """Delete an import that nobody can start, its rows first and some at a time."""
        parameters = {"import_id": import_id, "limit": DELETED_AT_ONCE}
        while True:
            async with self._database.statement() as session:
                deleted = await session.execute(queries.DELETE_ROWS, parameters)
            if int(deleted.rowcount) < DELETED_AT_ONCE:  # type: ignore[attr-defined]  # of a DELETE
                break
        async with self._database.statement() as session:
            await session.execute(queries.DELETE_IMPORT, {"import_id": import_id})


def _check_mapping(mapping: Mapping[str, str], columns: Sequence[str]) -> None:
    """Check which columns are which fields.

    Raises:
        MappingInvalid: the file has no such column, or a field that every company needs has none.
    """
    missing = {field: "needs a column of the file" for field in REQUIRED if field not in mapping}
    unknown = {field: "the file has no such column" for field, column in mapping.items() if column not in columns}
    if reasons := missing | unknown:
        raise MappingInvalid(reasons)
