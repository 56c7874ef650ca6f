"""Logging: one JSON object per line on standard error, with the ID of the current request.

Writes log records and access lines in one format.
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

# Fields of every record; the others come from `extra`. uvicorn's color_message is for terminals.
STANDARD_FIELDS = frozenset(vars(logging.makeLogRecord({}))) | {"message", "taskName", "color_message"}
ENCODER = json.JSONEncoder(default=str)

# Replaces a record that cannot be formatted.
UNFORMATTABLE = {
    "levelname": "ERROR",
    "levelno": logging.ERROR,
    "msg": "a log message could not be formatted: its arguments do not match it",
}

QUIET_SECONDS = 10.0  # in which repeated lines are counted but not written


class LineFormatter(logging.Formatter):
    """Formats a record as one line of ASCII JSON, without request data."""

    def format(self, record: logging.LogRecord) -> str:
        """Level, logger, message and time, then extra fields, then the exception and the request ID."""
        line: dict[str, object] = {
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(),
        }
        line.update((name, value) for name, value in vars(record).items() if name not in STANDARD_FIELDS)
        if record.exc_info and record.exc_info[1] is not None:
            line["exc_info"] = _traceback(
                record.exc_info[1]
            )  # not the exception's message, which may quote request data
        if request_id := request_id_var.get():
            line["request_id"] = request_id
        return ENCODER.encode(line)


def _traceback(error: BaseException, seen: frozenset[int] = frozenset()) -> str:
    """The traceback with its causes; `seen` has the IDs of later exceptions, because causes can be cyclic."""
    seen |= {id(error)}
    text = "".join(traceback.format_tb(error.__traceback__)) + _kind(error)
    if isinstance(error, BaseExceptionGroup):
        text += "".join(f"\nin the group:\n{_traceback(member, seen)}" for member in error.exceptions)
    before = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if before is None or id(before) in seen:
        return text
    return f"{_traceback(before, seen)}\nwhich caused:\n{text}"


def _kind(error: BaseException) -> str:
    name = type(error).__qualname__
    if isinstance(error, OSError) and error.errno is not None:
        return f"{name}: errno {error.errno}"
    sqlstate = getattr(error, "sqlstate", None)  # PostgreSQL's error code
    return f"{name}: SQLSTATE {sqlstate}" if sqlstate else name


class Repeats:
    """Limits each message to one in QUIET_SECONDS and counts the rest."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` counts seconds."""
        self._clock = clock
        self._quiet_until: dict[str, float] = {}  # by message; messages are constants, so there are few
        self._suppressed: dict[str, int] = {}

    def count_suppressed(self, message: str) -> int | None:
        """How often the message was suppressed since it was last written; None to suppress it now."""
        now = self._clock()
        if now < self._quiet_until.get(message, now):
            self._suppressed[message] = self._suppressed.get(message, 0) + 1
            return None
        self._quiet_until[message] = now + QUIET_SECONDS
        return self._suppressed.pop(message, 0)


class LogHandler(logging.Handler):
    """Passes each record to the writer of standard error, like the access lines."""

    def __init__(self, writer: LogWriter) -> None:
        super().__init__()
        self.setFormatter(LineFormatter())
        self._writer = writer

    def emit(self, record: logging.LogRecord) -> None:
        """Write the record; it never waits."""
        try:
            line = self.format(record)
        except Exception:  # noqa: BLE001 - also of a value's __str__; `handleError` writes to standard error directly
            line = self.format(logging.makeLogRecord({**UNFORMATTABLE, "name": record.name}))
        self._writer.write(f"{line}\n")

    def flush(self) -> None:
        """Called by `logging` when Python exits."""
        self._writer.finish()


class AccessLog:
    """Writes one line for each request, if LOG_LEVEL includes INFO.

    A `logging` record would take a fifth of a request's time; lines of one loop iteration are written together.
    """

    def __init__(self) -> None:
        self._lines: list[str] = []  # of this iteration of the loop

    def add(
        self,
        *,
        method: str,
        endpoint: str,
        status: int,
        seconds: float,
        user_id: UUID | None,
        request_id: str,
        api_key_id: UUID | None = None,
    ) -> None:
        """Write the line of a request after the loop has run its ready callbacks.

        `method` and `endpoint` have few values; `request_id` needs no JSON escaping.
        """
        if not access_logger.isEnabledFor(logging.INFO):
            return
        if not self._lines:
            asyncio.get_running_loop().call_soon(self._write)
        staff = f'"user_id": "{user_id}", ' if user_id else ""
        if api_key_id:
            staff = f'"api_key_id": "{api_key_id}", '
        self._lines.append(
            f'{_ACCESS_PREFIX}"time": "{datetime.now(UTC).isoformat()}", {_request_fields(method, endpoint)}'
            f'"status": {status}, "duration_ms": {seconds * 1000:.2f}, {staff}"request_id": "{request_id}"}}\n'
        )

    def _write(self) -> None:
        text = "".join(self._lines)
        self._lines.clear()
        log_writer.write(text)


@cache
def _request_fields(method: str, endpoint: str) -> str:
    return json.dumps({"method": method, "endpoint": endpoint})[1:-1] + ", "


_ACCESS_PREFIX = json.dumps({"level": "INFO", "logger": access_logger.name, "message": "request"})[:-1] + ", "


class RateLimitedLogger:
    """Logs each message at most once in QUIET_SECONDS, with the number of those suppressed."""

    def __init__(self, logger: logging.Logger, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` counts seconds."""
        self._logger = logger
        self._repeats = Repeats(clock)

    def warning(self, message: str, **fields: object) -> None:
        """Log a warning with extra fields, and with the number `suppressed` since the last."""
        self._log(logging.WARNING, message, fields)

    def exception(self, message: str) -> None:
        """Log the current exception, limited like `warning`."""
        self._log(logging.ERROR, message, {}, exc_info=True)

    def _log(self, level: int, message: str, fields: dict[str, object], *, exc_info: bool = False) -> None:
        suppressed = self._repeats.count_suppressed(message)
        if suppressed is not None:
            self._logger.log(level, message, extra={**fields, "suppressed": suppressed}, exc_info=exc_info)


class RateLimitedWarnings(logging.Filter):
    """Passes each warning of a library once in QUIET_SECONDS: any client can cause uvicorn's."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` counts seconds."""
        super().__init__()
        self._repeats = Repeats(clock)

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to write the record; it then has the number `suppressed` before it."""
        if record.levelno != logging.WARNING:
            return True
        record.suppressed = suppressed = self._repeats.count_suppressed(str(record.msg))
        return suppressed is not None


RATE_LIMITED_WARNINGS = RateLimitedWarnings()  # one filter, even if logging is configured repeatedly


def configure_logging(level: str) -> None:
    """Write the records of all loggers at `level` and above to standard error."""
    # The documented way to skip details that are not logged: source line, thread, process, task.
    logging._srcfile = None
    for detail in ("logThreads", "logProcesses", "logMultiprocessing", "logAsyncioTasks"):
        setattr(logging, detail, False)
    logging.basicConfig(level=level, handlers=[LogHandler(log_writer)], force=True)
    logging.captureWarnings(True)  # Python would write them itself, and block
    logging.raiseExceptions = False  # as above
    logging.getLogger("uvicorn.error").addFilter(RATE_LIMITED_WARNINGS)
    for library in ("httpx", "httpcore", "faker"):
        logging.getLogger(library).setLevel(logging.WARNING)
