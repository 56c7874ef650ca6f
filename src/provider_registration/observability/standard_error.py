"""Writes to standard error in a thread, so that the service does not block if nothing reads it."""

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

STANDARD_ERROR = 2  # file descriptor; `sys.stderr` has a lock that Python waits for at exit
MAX_BUFFERED = 1024 * 1024  # characters of buffered lines
MAX_AT_ONCE = select.PIPE_BUF  # up to this size, lines of several workers do not mix in one pipe
GATHER_SECONDS = 0.005  # to collect lines: waking the thread for each line costs more than writing it
FLUSH_SECONDS = 1.0  # to write the rest when the process exits


class LogWriter:
    """Writes whole lines in order; drops lines when the buffer is full, and reports their number afterwards."""

    def __init__(self, file_descriptor: int | None) -> None:
        """Without a file descriptor, all lines are dropped."""
        self._file_descriptor = file_descriptor
        self._changed = Condition()
        self._lines: deque[str] = deque()
        self._size = 0  # characters in `_lines`
        self._dropped = 0  # lines, since the last report
        self._is_idle = True  # nothing is buffered or being written
        self._finish_at: float | None = None
        self._thread: Thread | None = None

    def write(self, text: str) -> None:
        """Buffer one or more lines; never blocks, except briefly after `finish`."""
        with self._changed:
            if self._file_descriptor is None or self._size + len(text) > MAX_BUFFERED:
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
        """Wait until everything is written, at most FLUSH_SECONDS in total; call it when the process exits."""
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
            left = self._size
            while left > 0:  # a pause before each write would bound how many lines are written in a second
                text = self._take()
                left -= len(text)
                self._write_out(text, file_descriptor)

    def _take(self) -> str:
        """The next lines that fit into one write, with the report of dropped lines after the last."""
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
        left = memoryview(text.encode(errors="backslashreplace"))
        while left:
            try:
                left = left[os.write(file_descriptor, left) :]
            except BlockingIOError:  # another process made it non-blocking
                select.select([], [file_descriptor], [])
            except OSError:  # closed
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


# Python has no `sys.__stderr__` if standard error was closed at startup; the next opened file then gets its number.
log_writer = LogWriter(STANDARD_ERROR if sys.__stderr__ is not None else None)
