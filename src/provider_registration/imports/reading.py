"""Reads a file in a process of its own; `__main__` is what that process runs."""

from __future__ import annotations

import asyncio
import hashlib
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from provider_registration.imports.errors import FileUnreadable
from provider_registration.imports.limits import MAX_ROW_LENGTH, ROWS_IN_PART

PROGRAM = "provider_registration.imports"
BYTES_PER_CHARACTER = 12  # at most, in JSON
MAX_LINE_BYTES = ROWS_IN_PART * (2 * MAX_ROW_LENGTH) * BYTES_PER_CHARACTER
READING_SECONDS = (
    300.0  # of a file that has arrived, until its columns are found, and again until its last row is stored
)
TOO_MUCH = "The file takes too much memory or time to read."


@dataclass(slots=True)
class FileReading:
    """A file while it is read: feed it, then `head` describes it, and `parts` are its rows as JSON."""

    process: asyncio.subprocess.Process
    head: dict[str, Any] = field(default_factory=dict)
    rows: int = 0

    async def feed(self, content: AsyncIterator[bytes]) -> str:
        """Pass on the file as it arrives, without keeping it; return its SHA-256 in hexadecimal.

        Raises:
            FileUnreadable: it cannot be read.
        """
        digest = hashlib.sha256()
        stdin = self.process.stdin
        if stdin is None:
            raise RuntimeError("the process has no standard input")
        with suppress(BrokenPipeError, ConnectionResetError):  # it has ended, and `_line` says why
            async for some in content:
                digest.update(some)
                stdin.write(some)
                await stdin.drain()
            stdin.write_eof()
        try:
            async with asyncio.timeout(READING_SECONDS):
                self.head = json.loads(await self._line())
        except TimeoutError:
            raise FileUnreadable(TOO_MUCH) from None
        return digest.hexdigest()

    async def parts(self) -> AsyncIterator[str]:
        """The rows of the file as JSON arrays, ROWS_IN_PART in each but the last.

        Raises:
            FileUnreadable: it cannot be read further.
        """
        while (line := await self._line()).startswith("["):
            yield line
        self.rows = json.loads(line)["rows"]

    async def _line(self) -> str:
        stdout = self.process.stdout
        try:
            line = (await stdout.readline()).decode() if stdout else ""
        except ValueError:  # longer than MAX_LINE_BYTES
            line = ""
        if not line.endswith("\n"):
            raise FileUnreadable(TOO_MUCH)
        if line.startswith('{"refused"'):
            raise FileUnreadable(json.loads(line)["refused"])
        return line


@asynccontextmanager
async def reading_process() -> AsyncIterator[FileReading]:
    """Start the process that reads a file; it ends with the block."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", PROGRAM),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,  # a traceback could have the file's contents
        limit=MAX_LINE_BYTES,
        start_new_session=True,  # Ctrl-C in the terminal is for the service
    )
    try:
        yield FileReading(process)
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
