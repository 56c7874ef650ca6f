"""Logging: one JSON object a line on standard error, with the request id of the request under way."""

from __future__ import annotations

import logging
import traceback
from contextvars import ContextVar
from types import TracebackType
from typing import Any

from pythonjsonlogger.json import JsonEncoder, JsonFormatter

request_id_var: ContextVar[str | None] = ContextVar("request_id", default=None)
ENCODER = JsonEncoder()


class LineFormatter(JsonFormatter):
    """One record as one line of JSON, without anything that a caller sent."""

    def formatException(  # noqa: N802 - logging's own name
        self, ei: tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]
    ) -> str:
        """Where an exception came from and of which kinds it is; texts of exceptions may quote what was sent."""
        return _story(ei[1]) if ei[1] is not None else ""

    def add_fields(self, log_data: dict[str, Any], record: logging.LogRecord, message_dict: dict[str, Any]) -> None:
        super().add_fields(log_data, record, message_dict)
        log_data.pop("color_message", None)  # uvicorn's, for terminals
        if request_id := request_id_var.get():
            log_data["request_id"] = request_id


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


def _to_json(data: dict[str, Any], **_options: object) -> str:
    """What the formatter's own way writes, without making an encoder for every line."""
    return ENCODER.encode(data)


def configure_logging(level: str) -> None:
    """Send every logger's records at `level` and above to standard error."""
    logging._srcfile = None  # the documented way to not look for the line that logs
    handler = logging.StreamHandler()
    handler.setFormatter(
        LineFormatter(
            "{levelname}{name}{message}",
            style="{",
            timestamp="time",
            json_serializer=_to_json,
            rename_fields={"levelname": "level", "name": "logger"},
        )
    )
    logging.basicConfig(level=level, handlers=[handler], force=True)
    for chatty in ("httpx", "httpcore", "faker"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
