"""Standard error, written by a thread: what reads it may stop reading, and the service must not stop with it."""

from __future__ import annotations

import json
import os
import select
import sys
from collections import deque
from datetime import UTC, datetime
from threading import Condition, Thread
from time import monotonic, sleep

from provider_registration.observability.metrics import LOG_LINES_DROPPED

STANDARD_ERROR = 2  # its file descriptor; `sys.stderr` has a buffer and a lock, which the end of Python waits for
MAX_WAITING = 1024 * 1024  # characters of lines that wait to be written
MAX_AT_ONCE = select.PIPE_BUF  # up to here, lines of several workers do not mix in one pipe
GATHER_SECONDS = 0.005  # that lines wait for others: waking a thread for each costs requests more than writing does
FLUSH_SECONDS = 1.0  # that the end of the process waits for what is not written yet


class LogWriter:
    """Writes whole lines in order; drops what does not fit, and says how much once it can write again."""

    def __init__(self, file_descriptor: int | None) -> None:
        """Without a file descriptor, everything is dropped."""
        self._file_descriptor = file_descriptor
        self._changed = Condition()
        self._lines: deque[str] = deque()
        self._size = 0  # characters in `_lines`
        self._dropped = 0  # lines, since the last report
        self._is_idle = True  # nothing waits and nothing is being written
        self._finish_at: float | None = None
        self._thread: Thread | None = None

    def write(self, text: str) -> None:
        """Take a line, or several; never waits, except for a moment after `finish`."""
        with self._changed:
            if self._file_descriptor is None or self._size + len(text) > MAX_WAITING:
                self._drop(text.count("\n"))
                return
            self._lines.append(text)
            self._size += len(text)
            if self._thread is None:
                self._thread = Thread(target=self._run, args=(self._file_descriptor,), name="log-writer", daemon=True)
                self._thread.start()
            if self._is_idle:
                self._is_idle = False
                self._changed.notify_all()
            if self._finish_at is not None:
                self._wait()

    def finish(self) -> None:
        """The process is about to end: wait until everything is written, for FLUSH_SECONDS in all."""
        with self._changed:
            if self._finish_at is None:
                self._finish_at = monotonic() + FLUSH_SECONDS
            self._wait()

    def _wait(self) -> None:
        if self._finish_at is not None:
            self._changed.wait_for(lambda: self._is_idle, max(0.0, self._finish_at - monotonic()))

    def _drop(self, lines: int) -> None:
        self._dropped += lines
        LOG_LINES_DROPPED.inc(lines)

    def _run(self, file_descriptor: int) -> None:
        while True:
            with self._changed:
                if not self._lines:
                    self._is_idle = True
                    self._changed.notify_all()
                    self._changed.wait_for(lambda: self._lines)
            if self._finish_at is None:
                sleep(GATHER_SECONDS)
            self._write_out(self._take(), file_descriptor)

    def _take(self) -> str:
        """The next lines, as many as fit into one write, and what was dropped when all that waited is written."""
        with self._changed:
            taken = [self._lines.popleft()]
            size = len(taken[0])
            while self._lines and size + len(self._lines[0]) <= MAX_AT_ONCE:
                taken.append(self._lines.popleft())
                size += len(taken[-1])
            self._size -= size
            if self._dropped and not self._lines:
                taken.append(_report(self._dropped))
                self._dropped = 0
        return "".join(taken)

    def _write_out(self, text: str, file_descriptor: int) -> None:
        left = memoryview(text.encode())
        while left:
            try:
                left = left[os.write(file_descriptor, left) :]
            except BlockingIOError:  # another process made it non-blocking
                select.select([], [file_descriptor], [])
            except OSError:  # closed, or nobody will read it any more
                with self._changed:
                    self._drop(bytes(left).count(b"\n"))
                return


def _report(dropped: int) -> str:
    line = {
        "level": "WARNING",
        "logger": __name__,
        "message": f"dropped {dropped} log lines: nothing read standard error",
        "time": datetime.now(UTC).isoformat(),
        "dropped": dropped,
    }
    return json.dumps(line) + "\n"


# One process has one standard error. Python has no `sys.stderr` when it was closed at the start: the next file that is
# opened gets its number then.
log_writer = LogWriter(STANDARD_ERROR if sys.__stderr__ is not None else None)
