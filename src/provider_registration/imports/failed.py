"""The invalid rows of an import as CSV, to be corrected and sent again."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from provider_registration.imports.models import FileRow, RowErrors
from provider_registration.web.csv_files import BYTE_ORDER_MARK, csv_lines, csv_text

ROW, ERRORS = "Row in the file", "Errors"  # columns that are added, also to a file that has them from last time


async def failed_as_csv(
    columns: Sequence[str], parts: AsyncIterator[list[tuple[FileRow, RowErrors]]]
) -> AsyncIterator[str]:
    """The columns of the file, then the number of each row and what is wrong with it."""
    kept = [index for index, column in enumerate(columns) if column not in (ROW, ERRORS)]
    yield BYTE_ORDER_MARK + csv_lines([[*(columns[index] for index in kept), ROW, ERRORS]])
    async for some in parts:
        yield await csv_text([[*_cells(row, kept), row.number, _sentence(errors)] for row, errors in some])


def _cells(row: FileRow, kept: Sequence[int]) -> list[str]:
    return [row.cells[index] if index < len(row.cells) else "" for index in kept]


def _sentence(errors: RowErrors) -> str:
    return "; ".join(
        f"{each['column'] or each['field']}: {each['detail']}" if each["column"] or each["field"] else each["detail"]
        for each in errors.errors
    )
