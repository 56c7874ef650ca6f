"""Errors of imports."""

from __future__ import annotations

from collections.abc import Mapping
from uuid import UUID

from provider_registration.errors import ConflictError, InvalidInputError, LimitExceededError, NotFoundError


class ImportNotFound(NotFoundError):
    """There is no import with this ID."""

    code = "import-not-found"
    title = "Import not found"

    def __init__(self, import_id: UUID) -> None:
        self.import_id = import_id

    def __str__(self) -> str:
        return f"Import {self.import_id} not found."


class ImportRunning(ConflictError):
    """The import's file is being read, or its rows are being checked or registered."""

    code = "import-running"
    title = "Import running"

    def __init__(self, import_id: UUID) -> None:
        self.import_id = import_id

    def __str__(self) -> str:
        return f"Import {self.import_id} is running. Wait until it ends, or cancel its job."


class FileUnreadable(InvalidInputError):
    """The file is no CSV file or workbook that can be imported."""

    code = "file-unreadable"
    title = "File unreadable"

    def __init__(self, reason: str) -> None:
        self.reason = reason

    def __str__(self) -> str:
        return self.reason


class MappingInvalid(InvalidInputError):
    """Fields have columns that the file does not have, or ones that every company needs have none."""

    code = "mapping-invalid"
    title = "Mapping invalid"

    def __init__(self, reasons: Mapping[str, str]) -> None:
        """`reasons` has what is wrong with each field."""
        self.reasons = reasons

    def __str__(self) -> str:
        return "; ".join(f"{field}: {reason}" for field, reason in self.reasons.items()) + "."


class ImportsBusy(LimitExceededError):
    """This process is reading as many files as it may at once."""

    code = "imports-busy"
    title = "Other files are being read"
    retry_after = 10

    def __str__(self) -> str:
        return "Other files are being read. Send this one again in a moment."


class TooManyImports(LimitExceededError):
    """So many imports are stored that no more are accepted."""

    code = "too-many-imports"
    title = "Too many imports"

    def __init__(self, limit: int) -> None:
        self.limit = limit

    def __str__(self) -> str:
        return f"{self.limit} imports are stored. Delete some first."
