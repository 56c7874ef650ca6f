"""Models of imports."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Self
from uuid import UUID

from sqlalchemy import RowMapping

from provider_registration.audit.models import Actor
from provider_registration.imports.limits import ROWS_IN_PART
from provider_registration.jobs.models import JobState

SAMPLE_ROWS = 5


class ImportState(StrEnum):
    """The state of an import. A checked, imported or cancelled one can be started again."""

    READING = "reading"
    READY = "ready"
    CHECKING = "checking"
    CHECKED = "checked"
    IMPORTING = "importing"
    IMPORTED = "imported"
    CANCELLED = "cancelled"

    @property
    def is_running(self) -> bool:
        """Whether a process works on it, or will."""
        return self in (ImportState.READING, ImportState.CHECKING, ImportState.IMPORTING)


class RowOutcome(StrEnum):
    """The outcome of a row; in a dry run, what it would be."""

    VALID = "valid"
    INVALID = "invalid"
    REGISTERED = "registered"
    ALREADY_REGISTERED = "already_registered"
    ERASED = "erased"


@dataclass(frozen=True, slots=True)
class Import:
    """A file, and the outcomes of its rows. `details`: `sheet`, or `encoding` and `separator`.

    `counts`: rows by outcome, in the last run or for good; None in lists and while it is running. `parts_done`: of the
    last job. `sample`: the cells of its first rows.
    """

    import_id: UUID
    state: ImportState
    format: str | None
    details: dict[str, str]
    columns: list[str]
    mapping: dict[str, str]
    rows: int
    is_dry_run: bool | None
    notify: bool
    job_id: UUID | None
    actor: Actor
    created_at: datetime
    counts: dict[RowOutcome, int] | None
    parts_done: int
    sample: list[list[str]]

    @classmethod
    def from_row(cls, row: RowMapping) -> Self:
        """Make one from a row of a statement that selects imports."""
        counts = json.loads(row["counts"]) if row["counts"] else None
        return cls(
            import_id=row["id"],
            state=state_of(row),
            format=row["format"],
            details=json.loads(row["details"]),
            columns=json.loads(row["columns"]),
            mapping=json.loads(row["mapping"]),
            rows=row["row_count"],
            is_dry_run=row["is_dry_run"],
            notify=row["notify"],
            job_id=row["job_id"],
            actor=Actor.from_row(row),
            created_at=row["created_at"],
            counts={outcome: counts.get(outcome, 0) for outcome in RowOutcome} if counts is not None else None,
            parts_done=row["parts_done"] or 0,
            sample=json.loads(row["sample"] or "[]"),
        )

    @property
    def done(self) -> int:
        """How many rows have an outcome; while it is running, about."""
        if self.counts is None:
            return min(self.parts_done * ROWS_IN_PART, self.rows)
        return sum(self.counts.values())


def state_of(row: RowMapping) -> ImportState:
    """The state of an import: it follows from its last job, which may have been deleted after it ended."""
    if not row["is_read"]:
        return ImportState.READING
    if row["job_id"] is None:
        return ImportState.READY
    if row["job_state"] == JobState.CANCELLED:
        return ImportState.CANCELLED
    if row["job_state"] in (JobState.QUEUED, JobState.RUNNING):
        return ImportState.CHECKING if row["is_dry_run"] else ImportState.IMPORTING
    return ImportState.CHECKED if row["is_dry_run"] else ImportState.IMPORTED


@dataclass(frozen=True, slots=True)
class FileRow:
    """A row of a file that is not registered. `number`: in the file, from 1, which is usually that of the headings."""

    position: int
    number: int
    cells: list[str]

    @classmethod
    def from_row(cls, row: RowMapping) -> Self:
        """Make one from a row of a statement that selects rows."""
        return cls(row["position"], row["row_number"], json.loads(row["cells"]))


@dataclass(frozen=True, slots=True)
class RowErrors:
    """A row that was, or would be, refused, with what is wrong: `field`, `column`, `code` and `detail` of each."""

    position: int
    number: int
    outcome: RowOutcome
    errors: list[dict[str, Any]]

    @classmethod
    def from_row(cls, row: RowMapping) -> Self:
        """Make one from a row of LIST_ERRORS."""
        return cls(row["position"], row["row_number"], RowOutcome(row["outcome"]), json.loads(row["errors"]))


@dataclass(frozen=True, slots=True)
class RowResult:
    """The outcome of a row, to be recorded. `errors`: as JSON.

    `email_canonical`: only of a dry run, to find repeated addresses.
    """

    position: int
    outcome: RowOutcome
    errors: str | None = None
    email_canonical: str | None = None
