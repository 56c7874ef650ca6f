"""The access line: one JSON object for each request, as `logs` writes its own, without a record of `logging`.

Such a record costs a fifth of a request; here the lines of one turn of the loop leave together, too.
"""

from __future__ import annotations

import asyncio
import json
import logging
from datetime import UTC, datetime
from functools import cache
from uuid import UUID

from provider_registration.standard_error import log_writer

logger = logging.getLogger(__name__)


class AccessLog:
    """Writes to standard error, where LOG_LEVEL lets lines of level INFO through."""

    def __init__(self) -> None:
        self._lines: list[str] = []  # of this turn of the loop

    def add(
        self, *, method: str, endpoint: str, status: int, seconds: float, user_id: UUID | None, request_id: str
    ) -> None:
        """Write the line of a request once the loop has run what is ready.

        `method` and `endpoint` are of few values; `request_id` is of letters that JSON leaves as they are.
        """
        if not logger.isEnabledFor(logging.INFO):
            return
        if not self._lines:
            asyncio.get_running_loop().call_soon(self._write)
        staff = f'"user_id": "{user_id}", ' if user_id else ""
        self._lines.append(
            f'{_BEGINNING}"time": "{datetime.now(UTC).isoformat()}", {_request(method, endpoint)}"status": {status}, '
            f'"duration_ms": {seconds * 1000:.2f}, {staff}"request_id": "{request_id}"}}\n'
        )

    def _write(self) -> None:
        text = "".join(self._lines)
        self._lines.clear()
        log_writer.write(text)


@cache
def _request(method: str, endpoint: str) -> str:
    return json.dumps({"method": method, "endpoint": endpoint})[1:-1] + ", "


_BEGINNING = json.dumps({"level": "INFO", "logger": __name__, "message": "request"})[:-1] + ", "
