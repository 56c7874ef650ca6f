"""The `Prefer` header (RFC 7240): how long a client would wait for the result of a request."""

from __future__ import annotations

import re
from typing import Annotated

from fastapi import Depends, Header, Request

MAX_WAIT = 10  # seconds
MAX_PREFERENCES = 20  # read in one request
_WAIT = re.compile(r'\s*wait\s*=\s*"?([0-9]{1,9})"?\s*(?:;.*)?', re.IGNORECASE)


async def preferred_wait(
    request: Request,
    _prefer: Annotated[
        str | None,
        Header(
            alias="Prefer",
            description=f"`wait={MAX_WAIT}`: respond when it is done, or after so many seconds, at most {MAX_WAIT}.",
            examples=[f"wait={MAX_WAIT}"],
        ),
    ] = None,
) -> int | None:
    """The seconds for which the client would wait, at most MAX_WAIT; None without this preference.

    The first one counts. Other preferences, and malformed ones, are ignored, as RFC 7240 requires.
    """
    preferences = ",".join(request.headers.getlist("Prefer")).split(",", MAX_PREFERENCES)[:MAX_PREFERENCES]
    waits = (match for preference in preferences if (match := _WAIT.fullmatch(preference)))
    return next((min(int(match[1]), MAX_WAIT) for match in waits), None)


PreferredWait = Annotated[int | None, Depends(preferred_wait)]
