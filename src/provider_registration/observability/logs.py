"""Logging: one JSON object a line on standard error, with the request id of the request under way.

Records of `logging` and access lines are written here, in one format.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
import traceback
from collections.abc import Callable
from contextvars import ContextVar
from datetime import UTC, datetime
from functools import cache
from uuid import UUID

from provider_registration.observability.standard_error import LogWriter, log_writer

access_logger = logging.getLogger("provider_registration.access")

request_id_var: ContextVar[str | None] = ContextVar("request_id", default=None)

# What every record has; the rest was given as `extra`. uvicorn's color_message is for terminals.
STANDARD_FIELDS = frozenset(vars(logging.makeLogRecord({}))) | {"message", "taskName", "color_message"}
ENCODER = json.JSONEncoder(default=str)

# In place of a record that cannot be formatted.
UNFIT = {
    "levelname": "ERROR",
    "levelno": logging.ERROR,
    "msg": "a log line is missing: its arguments do not fit its message",
}

QUIET_SECONDS = 10.0  # in which a line that repeats is counted and not written


class LineFormatter(logging.Formatter):
    """One record as one line of JSON in ASCII, without anything that a caller sent."""

    def format(self, record: logging.LogRecord) -> str:
        """Level, logger, message and time, then the fields that were given, then what went wrong and for whom."""
        line: dict[str, object] = {
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(),
        }
        line.update((name, value) for name, value in vars(record).items() if name not in STANDARD_FIELDS)
        if record.exc_info and record.exc_info[1] is not None:
            line["exc_info"] = _story(record.exc_info[1])  # texts of exceptions may quote what was sent
        if request_id := request_id_var.get():
            line["request_id"] = request_id
        return ENCODER.encode(line)


def _story(error: BaseException, later: frozenset[int] = frozenset()) -> str:
    """`later` has the ids of what followed, for exceptions can be each other's cause."""
    later |= {id(error)}
    told = "".join(traceback.format_tb(error.__traceback__)) + _kind(error)
    if isinstance(error, BaseExceptionGroup):
        told += "".join(f"\nin the group:\n{_story(member, later)}" for member in error.exceptions)
    before = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if before is None or id(before) in later:
        return told
    return f"{_story(before, later)}\nwhich led to:\n{told}"


def _kind(error: BaseException) -> str:
    name = type(error).__qualname__
    if isinstance(error, OSError) and error.errno is not None:
        return f"{name}: errno {error.errno}"
    sqlstate = getattr(error, "sqlstate", None)  # PostgreSQL's name of what went wrong
    return f"{name}: SQLSTATE {sqlstate}" if sqlstate else name


class Repeats:
    """Counts messages of which only one in QUIET_SECONDS is to be written."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` counts seconds."""
        self._clock = clock
        self._quiet_until: dict[str, float] = {}  # by message: texts of the program, so there are few
        self._suppressed: dict[str, int] = {}

    def left_out(self, message: str) -> int | None:
        """How often the message was left out since it was last written; None where it is to be left out again."""
        now = self._clock()
        if now < self._quiet_until.get(message, now):
            self._suppressed[message] = self._suppressed.get(message, 0) + 1
            return None
        self._quiet_until[message] = now + QUIET_SECONDS
        return self._suppressed.pop(message, 0)


class LogHandler(logging.Handler):
    """Hands each record's line to the writer of standard error, where access lines go as well."""

    def __init__(self, writer: LogWriter) -> None:
        super().__init__()
        self.setFormatter(LineFormatter())
        self._writer = writer

    def emit(self, record: logging.LogRecord) -> None:
        """Write the record; it never waits."""
        try:
            line = self.format(record)
        except (TypeError, ValueError):  # not `handleError`, which writes to standard error itself, or nothing
            line = self.format(logging.makeLogRecord({**UNFIT, "name": record.name}))
        self._writer.write(f"{line}\n")

    def flush(self) -> None:
        """Called by `logging` as Python ends."""
        self._writer.finish()


class AccessLog:
    """Writes one line for each request, where LOG_LEVEL lets lines of level INFO through.

    A record of `logging` would cost a fifth of a request; here the lines of one turn of the loop leave together, too.
    """

    def __init__(self) -> None:
        self._lines: list[str] = []  # of this turn of the loop

    def add(
        self, *, method: str, endpoint: str, status: int, seconds: float, user_id: UUID | None, request_id: str
    ) -> None:
        """Write the line of a request once the loop has run what is ready.

        `method` and `endpoint` are of few values; `request_id` is of letters that JSON leaves as they are.
        """
        if not access_logger.isEnabledFor(logging.INFO):
            return
        if not self._lines:
            asyncio.get_running_loop().call_soon(self._write)
        staff = f'"user_id": "{user_id}", ' if user_id else ""
        self._lines.append(
            f'{_ACCESS_BEGINNING}"time": "{datetime.now(UTC).isoformat()}", {_asked_for(method, endpoint)}'
            f'"status": {status}, "duration_ms": {seconds * 1000:.2f}, {staff}"request_id": "{request_id}"}}\n'
        )

    def _write(self) -> None:
        text = "".join(self._lines)
        self._lines.clear()
        log_writer.write(text)


@cache
def _asked_for(method: str, endpoint: str) -> str:
    return json.dumps({"method": method, "endpoint": endpoint})[1:-1] + ", "


_ACCESS_BEGINNING = json.dumps({"level": "INFO", "logger": access_logger.name, "message": "request"})[:-1] + ", "


class RateLimitedLogger:
    """Logs each message at most once in QUIET_SECONDS, with the number left out."""

    def __init__(self, logger: logging.Logger, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` counts seconds."""
        self._logger = logger
        self._repeats = Repeats(clock)

    def warning(self, message: str, **fields: object) -> None:
        """Log a warning with fields of its own, and with the number of those `suppressed` since the last."""
        self._log(logging.WARNING, message, fields)

    def exception(self, message: str) -> None:
        """Log the exception that is being handled, as `warning` does."""
        self._log(logging.ERROR, message, {}, exc_info=True)

    def _log(self, level: int, message: str, fields: dict[str, object], *, exc_info: bool = False) -> None:
        suppressed = self._repeats.left_out(message)
        if suppressed is not None:
            self._logger.log(level, message, extra={**fields, "suppressed": suppressed}, exc_info=exc_info)


class SeldomWarnings(logging.Filter):
    """Lets each warning of a library through once in QUIET_SECONDS: any stranger can cause uvicorn's."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` counts seconds."""
        super().__init__()
        self._repeats = Repeats(clock)

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is to be written; it then says how many were `suppressed` before it."""
        if record.levelno != logging.WARNING:
            return True
        record.suppressed = suppressed = self._repeats.left_out(str(record.msg))
        return suppressed is not None


SELDOM_WARNINGS = SeldomWarnings()  # one filter, however often logging is configured


def configure_logging(level: str) -> None:
    """Send every logger's records at `level` and above to standard error."""
    # The documented ways to not look for what no line shows: the place that logs, the thread, the process, the task.
    logging._srcfile = None
    for detail in ("logThreads", "logProcesses", "logMultiprocessing", "logAsyncioTasks"):
        setattr(logging, detail, False)
    logging.basicConfig(level=level, handlers=[LogHandler(log_writer)], force=True)
    logging.captureWarnings(True)  # Python would write them itself, and wait
    logging.raiseExceptions = False  # as above
    logging.getLogger("uvicorn.error").addFilter(SELDOM_WARNINGS)
    for chatty in ("httpx", "httpcore", "faker"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
