"""Request parameters and bodies of imports."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema

from provider_registration.imports.limits import MAX_ROWS
from provider_registration.imports.mapping import FIELDS
from provider_registration.imports.models import Import, ImportState, RowErrors, RowOutcome
from provider_registration.jobs.schemas import StaffActor
from provider_registration.web.openapi import EXAMPLE_ID
from provider_registration.web.pagination import DEFAULT_LIMIT, MAX_LIMIT, Cursor, NextPage, Position
from provider_registration.web.text import OpaqueText

FieldName = Literal[FIELDS]  # type: ignore[valid-type]  # of a constant
Mapping = Annotated[dict[FieldName, OpaqueText], Field(max_length=len(FIELDS))]
# The position of a row; `next_cursor` is a string, so this is documented as one.
RowCursor = Annotated[int, Field(ge=0, le=MAX_ROWS), WithJsonSchema({"type": "string", "pattern": "^[0-9]{1,6}$"})]

EXAMPLE_MAPPING = {
    "company_name": "Empresa",
    "contact_email": "Correo",
    "products": "Productos",
    "truck_count": "Camiones",
    "capacity_tons_per_day": "Toneladas por día",
}
EXAMPLE_IMPORT: dict[str, Any] = {
    "import_id": str(EXAMPLE_ID),
    "state": "ready",
    "format": "csv",
    "details": {"encoding": "cp1252", "separator": ";"},
    "columns": [*EXAMPLE_MAPPING.values(), "Notas"],
    "mapping": EXAMPLE_MAPPING,
    "rows": 384,
    "sample": [["Huerta del Sol S.L.", "ventas@huertadelsol.example", "naranjas, uvas", "12", "80"]],
    "dry_run": None,
    "notify": False,
    "job_id": None,
    "done": 0,
    "counts": {"valid": 0, "invalid": 0, "registered": 0, "already_registered": 0, "erased": 0},
    "created_by": {"kind": "user", "id": "5d2c0a0e-7f3b-4a53-9f2f-0a9d7c1b2e3f", "name": "admin@example.com"},
    "created_at": "2026-03-14T10:00:00.123456Z",
}
EXAMPLE_STARTED = {
    **EXAMPLE_IMPORT,
    "state": "importing",
    "dry_run": False,
    "job_id": "7c9e6679-7425-40de-944b-e07fc1f90ae7",
    "counts": None,
}
EXAMPLE_ERRORS: dict[str, Any] = {
    "errors": [
        {
            "row": 17,
            "outcome": "invalid",
            "errors": [
                {
                    "field": "truck_count",
                    "column": "Camiones",
                    "code": "invalid",
                    "detail": "Input should be greater than or equal to 1",
                }
            ],
        },
        {
            "row": 42,
            "outcome": "already_registered",
            "errors": [
                {
                    "field": "contact_email",
                    "column": "Correo",
                    "code": "email-taken",
                    "detail": "This e-mail address is already registered",
                }
            ],
        },
    ],
    "pagination": {"next_cursor": None},
}


class StartRequest(BaseModel):
    """How to work on the rows of an import."""

    model_config = ConfigDict(extra="forbid")

    mapping: Mapping | None = Field(
        None,
        description="The column of each field, by its name in `columns`; by default as before, at first as guessed",
    )
    dry_run: Annotated[bool, Field(strict=True)] = Field(False, description="Only check the rows")
    notify: Annotated[bool, Field(strict=True)] = Field(
        False, description="Whether each company that is registered gets an e-mail, if the service sends e-mails"
    )


class ImportListQuery(BaseModel):
    """Which imports to list."""

    model_config = ConfigDict(extra="forbid")

    limit: int = Field(DEFAULT_LIMIT, ge=1, le=MAX_LIMIT, description="Maximum imports")
    cursor: Cursor | None = Field(None, description="Continue after a page: its `pagination.next_cursor`")


class ErrorQuery(BaseModel):
    """Which rows with errors to list."""

    model_config = ConfigDict(extra="forbid")

    limit: int = Field(DEFAULT_LIMIT, ge=1, le=MAX_LIMIT, description="Maximum rows")
    cursor: RowCursor | None = Field(None, description="Continue after a page: its `pagination.next_cursor`")


class ImportSummary(BaseModel):
    """An import in a list."""

    import_id: UUID
    state: ImportState = Field(
        description="`ready`: to be started; `checking` and `checked`: in a dry run; a `cancelled` one has registered "
        "some rows. All but the running ones can be started again"
    )
    format: Literal["csv", "xlsx"] | None = Field(description="null while it is being read")
    rows: int = Field(description="Rows below the headings that are not empty")
    dry_run: bool | None = Field(description="Whether the last start was a dry run; null before")
    notify: bool = Field(description="Whether companies got an e-mail, at the last start")
    job_id: UUID | None = Field(description="The job of the last start; `POST /jobs/{job_id}/cancel` cancels it")
    created_by: StaffActor
    created_at: datetime = Field(description="UTC")

    @classmethod
    def of(cls, found: Import) -> Self:
        """Show an import."""
        return cls.model_validate(values_of(found))


class ImportResponse(ImportSummary):
    """An import: its columns, and the outcomes of its rows."""

    details: dict[str, str] = Field(
        description="How the file was read: its `encoding` and `separator`, or the `sheet` of a workbook"
    )
    columns: list[str] = Field(description="Its headings; empty and repeated ones got a number")
    mapping: dict[str, str] = Field(description="The column of each field: guessed, or as at the last start")
    sample: list[list[str]] = Field(description="The first rows, of those that are not registered")
    done: int = Field(description="Rows with an outcome: after the last start, or for good; while it is running, about")
    counts: dict[RowOutcome, int] | None = Field(
        description="Rows by outcome; null while it is running. `valid`: would be registered; `erased`: the person's "
        "data was erased first"
    )


def values_of(found: Import) -> dict[str, object]:
    """What responses show of an import."""
    return {
        "import_id": found.import_id,
        "state": found.state,
        "format": found.format,
        "details": found.details,
        "columns": found.columns,
        "mapping": found.mapping,
        "rows": found.rows,
        "sample": found.sample,
        "dry_run": found.is_dry_run,
        "notify": found.notify,
        "job_id": found.job_id,
        "done": found.done,
        "counts": found.counts,
        "created_by": StaffActor.model_validate(found.actor),
        "created_at": found.created_at,
    }


class ImportListResponse(BaseModel):
    """Some imports, newest first."""

    imports: list[ImportSummary]
    pagination: NextPage

    @classmethod
    def of(cls, imports: Sequence[Import], after: Position | None) -> Self:
        """Show a page."""
        cursor = after.to_cursor() if after else None
        return cls(imports=[ImportSummary.of(each) for each in imports], pagination=NextPage(next_cursor=cursor))


class RowError(BaseModel):
    """One error in a row."""

    field: str | None = Field(description="The field; null when it concerns the whole row")
    column: str | None = Field(description="Its column, if it has one")
    code: Literal["missing", "invalid", "email-taken", "too-many-cells"]
    detail: str = Field(description="What is wrong with it")


class RowErrorsResponse(BaseModel):
    """A row with errors."""

    row: int = Field(description="Its number in the file, which counts the headings and empty rows")
    outcome: RowOutcome
    errors: list[RowError]


class ErrorListResponse(BaseModel):
    """Rows with errors, in the order of the file."""

    errors: list[RowErrorsResponse]
    pagination: NextPage

    @classmethod
    def of(cls, rows: Sequence[RowErrors], after: int | None) -> Self:
        """Show a page."""
        shown = [
            RowErrorsResponse(
                row=each.number, outcome=each.outcome, errors=[RowError(**error) for error in each.errors]
            )
            for each in rows
        ]
        cursor = str(after) if after is not None else None
        return cls(errors=shown, pagination=NextPage(next_cursor=cursor))
