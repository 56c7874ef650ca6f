"""Pages for imports: send a file, choose its columns, check it, register its rows, see what was wrong."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Request
from starlette.responses import Response, StreamingResponse

from provider_registration.audit.dependencies import AuditLogDep
from provider_registration.audit.models import AuditEvent, AuditType, Subject
from provider_registration.candidates.company import LABELS, REQUIRED
from provider_registration.console.decisions import Outcome
from provider_registration.console.dependencies import DecidingUserDep
from provider_registration.console.layout import IMPORT, IMPORTS, LayoutDep
from provider_registration.imports.dependencies import UPLOAD_SECONDS, ImportServiceDep
from provider_registration.imports.errors import (
    FileUnreadable,
    ImportRunning,
    ImportsBusy,
    MappingInvalid,
    TooManyImports,
)
from provider_registration.imports.failed import failed_as_csv
from provider_registration.imports.limits import MAX_FILE_BYTES, MAX_ROWS
from provider_registration.imports.mapping import FIELDS
from provider_registration.imports.models import ImportState, RowOutcome
from provider_registration.imports.service import KEPT_DAYS, SUBJECT
from provider_registration.jobs.errors import TooManyJobs
from provider_registration.pages.forms import Form, FormDep
from provider_registration.pages.uploads import content_of_file
from provider_registration.web.body import allow_large_body
from provider_registration.web.head_requests import HeadersOnly, no_parts
from provider_registration.web.pagination import Cursor, Position

router = APIRouter(include_in_schema=False)

PAGE_SIZE = 50
NAMES = {**LABELS, "language": "Language"}
STATES = {
    ImportState.READING: "Being read",
    ImportState.READY: "Not started",
    ImportState.CHECKING: "Checking",
    ImportState.CHECKED: "Checked",
    ImportState.IMPORTING: "Importing",
    ImportState.IMPORTED: "Imported",
    ImportState.CANCELLED: "Stopped",
}
BADGES = {
    ImportState.CHECKING: "in_progress",
    ImportState.IMPORTING: "in_progress",
    ImportState.IMPORTED: "approved",
    ImportState.CANCELLED: "rejected",
}
OUTCOMES = {
    RowOutcome.VALID: "Would be registered",
    RowOutcome.REGISTERED: "Registered",
    RowOutcome.INVALID: "Not valid",
    RowOutcome.ALREADY_REGISTERED: "E-mail address already registered",
    RowOutcome.ERASED: "Erased before it was registered",
}
AfterRow = Annotated[int, Query(ge=0, le=MAX_ROWS)]


@router.get(IMPORTS)
async def list_imports(
    _signed_in: DecidingUserDep,
    service: ImportServiceDep,
    layout: LayoutDep,
    after: Annotated[Cursor | None, Query()] = None,
) -> Response:
    """Ask for a file, and list earlier ones."""
    return await _list(layout, service, after)


@router.post(IMPORTS)
async def add(request: Request, signed_in: DecidingUserDep, service: ImportServiceDep, layout: LayoutDep) -> Response:
    """Read the file and show its columns, or say why it cannot be read."""
    allow_large_body(request, MAX_FILE_BYTES, UPLOAD_SECONDS)
    try:
        import_id, _ = await service.add(content_of_file(request), actor=signed_in.user.actor)
    except FileUnreadable as error:
        return await _list(layout, service, error=str(error))
    except (ImportsBusy, TooManyImports) as error:
        return layout.redirect(IMPORTS, Outcome("warning", str(error)))
    return layout.redirect(f"{IMPORTS}/{import_id}")


@router.get(IMPORT)
async def show_import(
    import_id: UUID, _signed_in: DecidingUserDep, service: ImportServiceDep, layout: LayoutDep, after: AfterRow = 0
) -> Response:
    """Show the columns, the progress, and some rows with errors."""
    return await _show(layout, service, import_id, after=after)


@router.post(f"{IMPORT}/start")
async def start(
    import_id: UUID, signed_in: DecidingUserDep, form: FormDep, service: ImportServiceDep, layout: LayoutDep
) -> Response:
    """Check the rows or register them; show the form again if a column is missing."""
    mapping = {field: column for field in FIELDS if (column := form.get(field))}
    try:
        await service.start(
            import_id,
            actor=signed_in.user.actor,
            is_dry=form.get("action") != "register",
            notify=form.get("notify") == "yes",
            mapping=mapping,
        )
    except MappingInvalid as error:
        return await _show(layout, service, import_id, form=form, wrong=error.reasons)
    except (ImportRunning, TooManyJobs) as error:
        return layout.redirect(f"{IMPORTS}/{import_id}", Outcome("warning", str(error)))
    return layout.redirect(f"{IMPORTS}/{import_id}")


@router.get(f"{IMPORT}/failed.csv")
async def export_failed(
    import_id: UUID,
    signed_in: DecidingUserDep,
    service: ImportServiceDep,
    log: AuditLogDep,
    headers_only: HeadersOnly,
) -> Response:
    """The invalid rows as a file. The export is recorded first; HEAD is no export."""
    found = await service.get(import_id)
    headers = {"Content-Disposition": 'attachment; filename="failed.csv"'}
    if headers_only:
        return StreamingResponse(no_parts(), headers=headers, media_type="text/csv")
    await log.record(AuditEvent(AuditType.IMPORT_EXPORTED, signed_in.user.actor, Subject(SUBJECT, import_id)))
    content = failed_as_csv(found.columns, service.failed(import_id))
    return StreamingResponse(content, headers=headers, media_type="text/csv")


@router.post(f"{IMPORT}/delete")
async def delete(import_id: UUID, signed_in: DecidingUserDep, service: ImportServiceDep, layout: LayoutDep) -> Response:
    """Delete the file's rows; companies that were registered stay."""
    try:
        await service.delete(import_id, actor=signed_in.user.actor)
    except ImportRunning as error:
        return layout.redirect(f"{IMPORTS}/{import_id}", Outcome("warning", str(error)))
    return layout.redirect(IMPORTS, Outcome("success", "The import was deleted. Companies that it registered stay."))


async def _list(
    layout: LayoutDep, service: ImportServiceDep, after: str | None = None, error: str | None = None
) -> Response:
    position = Position.from_cursor(after) if after else None
    imports, end = await service.page(limit=PAGE_SIZE, after=position)
    return layout.page(
        "imports.html",
        status=422 if error else 200,
        imports=imports,
        errors=[("file", error)] if error else [],
        after=after,
        next_page=end and end.to_cursor(),
        states=STATES,
        badges=BADGES,
        kept_days=KEPT_DAYS,
    )


async def _show(
    layout: LayoutDep,
    service: ImportServiceDep,
    import_id: UUID,
    *,
    after: int = 0,
    form: Form | None = None,
    wrong: Mapping[str, str] | None = None,
) -> Response:
    found = await service.get(import_id)
    rows, end = await service.errors(import_id, limit=PAGE_SIZE, after=after)
    return layout.page(
        "import.html",
        status=422 if wrong else 200,
        found=found,
        rows=rows,
        after=after,
        next_page=end,
        names=NAMES,
        fields=FIELDS,
        required=REQUIRED,
        chosen=found.mapping if form is None else {field: form.get(field) for field in FIELDS},
        notify=form is not None and form.get("notify") == "yes",
        errors=[(field, f"{NAMES.get(field, field)}: {reason}") for field, reason in (wrong or {}).items()],
        states=STATES,
        badges=BADGES,
        outcomes=OUTCOMES,
    )
