"""Reads a file in a process of its own; `__main__` is what that process runs."""

from __future__ import annotations

import asyncio
import hashlib
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from provider_registration.imports.errors import FileUnreadable
from provider_registration.imports.limits import MAX_ROW_LENGTH, TEXT_STORED

PROGRAM = "provider_registration.imports"
BYTES_PER_CHARACTER = 12  # at most, in JSON
MAX_LINE_BYTES = 2 * (TEXT_STORED + MAX_ROW_LENGTH) * BYTES_PER_CHARACTER  # cells, and their addresses again
# Of a file that has arrived, until its columns are found, and again until its last row is stored.
READING_SECONDS = 300.0
TOO_MUCH = "The file takes too much memory or time to read."


@dataclass(slots=True)
class FileReading:
    """A file while it is read: feed it, then `head` describes it, and `parts` are its rows as JSON."""

    process: subprocess.Popen[bytes]
    stdin: asyncio.StreamWriter
    stdout: asyncio.StreamReader
    head: dict[str, Any] = field(default_factory=dict)
    rows: int = 0

    async def feed(self, content: AsyncIterator[bytes]) -> str:
        """Pass on the file as it arrives, without keeping it; return its SHA-256 in hexadecimal.

        Raises:
            FileUnreadable: it cannot be read.
        """
        digest = hashlib.sha256()
        with suppress(BrokenPipeError, ConnectionResetError):  # it has ended, and `_line` says why
            async for some in content:
                digest.update(some)
                self.stdin.write(some)
                await self.stdin.drain()
        self.stdin.close()
        try:
            async with asyncio.timeout(READING_SECONDS):
                self.head = json.loads(await self._line())
        except TimeoutError:
            raise FileUnreadable(TOO_MUCH) from None
        return digest.hexdigest()

    async def parts(self) -> AsyncIterator[str]:
        """The rows of the file as JSON arrays, some in each.

        Raises:
            FileUnreadable: it cannot be read further.
        """
        while (line := await self._line()).startswith("["):
            yield line
        self.rows = json.loads(line)["rows"]

    async def _line(self) -> str:
        try:
            line = (await self.stdout.readline()).decode()
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
    process = _start()
    try:
        async with _connected(process) as reading:
            yield reading
    finally:
        process.kill()
        await asyncio.to_thread(process.wait)


def _start() -> subprocess.Popen[bytes]:
    """Start the process. uvloop's own function forks this process, which takes 8 ms and grows with its memory."""
    return subprocess.Popen(  # noqa: S603 - of constants
        (sys.executable, "-P", "-m", PROGRAM),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # a traceback could have the file's contents
        start_new_session=True,  # Ctrl-C in the terminal is for the service
    )


@asynccontextmanager
async def _connected(process: subprocess.Popen[bytes]) -> AsyncIterator[FileReading]:
    """The ends of its pipes."""
    loop = asyncio.get_running_loop()
    stdout = asyncio.StreamReader(limit=MAX_LINE_BYTES)
    output, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(stdout), process.stdout)
    protocol = asyncio.StreamReaderProtocol(asyncio.StreamReader())
    input_, _ = await loop.connect_write_pipe(lambda: protocol, process.stdin)
    try:
        yield FileReading(process, asyncio.StreamWriter(input_, protocol, None, loop), stdout)
    finally:
        input_.close()
        output.close()
