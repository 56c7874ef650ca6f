"""What a file may have, and the error of one that has more. Imports nothing: the reading process starts faster."""

from __future__ import annotations

MAX_FILE_BYTES = 20 * 1024 * 1024
MAX_ROWS = 200_000
MAX_NUMBER = 1_048_576  # of a row, counting empty ones: what spreadsheets have
MAX_COLUMNS = 100
MAX_CELL_LENGTH = 10_000  # characters; Excel's limit is 32,767
MAX_ROW_LENGTH = 20_000  # characters in all cells of a row
MAX_TEXT_LENGTH = 100_000_000  # characters in all rows: a workbook can repeat a long text with few bytes
MAX_XML_BYTES = 256 * 1024 * 1024  # of a part of a workbook, uncompressed
MAX_TAG_BYTES = 1024 * 1024  # of a tag or comment, which the parser reads again with each further chunk
MAX_ENTRIES = 1000  # of a workbook's archive
MAX_SHARED_STRINGS = 2_000_000
MAX_MEMORY_BYTES = 640 * 1024 * 1024  # address space of the reading process
MAX_PROCESSOR_SECONDS = 120  # of the reading process
ROWS_STORED = 500  # at a time, while the file is read: at most so many rows,
TEXT_STORED = 100_000  # and about so many characters
ROWS_IN_PART = 250  # rows that are checked or registered at a time


class Unreadable(Exception):
    """The file cannot be read; the message says why, without its contents."""
