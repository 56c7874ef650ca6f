"""Logging: one JSON object a line on standard error, with the request id of the request under way."""

from __future__ import annotations

import logging
import re
from contextvars import ContextVar
from typing import Any

from pythonjsonlogger.json import JsonFormatter

POSTGRESQL_DETAIL = re.compile(r"DETAIL: .*")

request_id_var: ContextVar[str | None] = ContextVar("request_id", default=None)


class _Formatter(JsonFormatter):
    def formatException(self, ei: Any) -> str:  # noqa: ANN401, N802 - logging's own signature
        # PostgreSQL's DETAIL quotes the row that it refused: people's addresses do not belong here.
        return POSTGRESQL_DETAIL.sub("DETAIL: (not logged)", str(super().formatException(ei)))

    def add_fields(self, log_data: dict[str, Any], record: logging.LogRecord, message_dict: dict[str, Any]) -> None:
        super().add_fields(log_data, record, message_dict)
        log_data.pop("color_message", None)  # uvicorn's, for terminals
        if request_id := request_id_var.get():
            log_data["request_id"] = request_id


def configure_logging(level: str) -> None:
    """Send every logger's records at `level` and above to standard error."""
    handler = logging.StreamHandler()
    handler.setFormatter(
        _Formatter(
            "{levelname}{name}{message}",
            style="{",
            timestamp="time",
            rename_fields={"levelname": "level", "name": "logger"},
        )
    )
    logging.basicConfig(level=level, handlers=[handler], force=True)
    for chatty in ("httpx", "httpcore", "faker"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
