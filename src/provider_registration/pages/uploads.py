"""A file that a form sends (multipart/form-data, RFC 7578), passed on as it arrives."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

from fastapi import Request

from provider_registration.web.body import media_type_of
from provider_registration.web.problems import InvalidRequest, UnsupportedMediaType

MULTIPART = "multipart/form-data"
BOUNDARY = re.compile(r"""boundary=(?:"([^"\r\n]{1,70})"|([!-:<-~]{1,70}))\s*(?:;|$)""", re.IGNORECASE)
MAX_HEAD_BYTES = 8 * 1024  # of the first boundary and the headers of the file
END_OF_HEAD = b"\r\n\r\n"


async def content_of_file(request: Request) -> AsyncIterator[bytes]:
    """The content of a form's only field, a file.

    Raises:
        UnsupportedMediaType, InvalidRequest: the body is no such form.
    """
    found = BOUNDARY.search(request.headers.get("content-type", ""))
    if media_type_of(request) != MULTIPART or found is None:
        raise UnsupportedMediaType(MULTIPART)
    boundary = b"--" + (found[1] or found[2]).encode("latin-1")
    end = b"\r\n" + boundary
    left, is_in_head = b"", True
    async for some in request.stream():
        left += some
        if is_in_head:
            head, is_whole, content = left.partition(END_OF_HEAD)
            if not is_whole and len(left) <= MAX_HEAD_BYTES:
                continue
            if not is_whole or not head.startswith(boundary):
                break
            left, is_in_head = content, False
        content, has_ended, _ = left.partition(end)
        if has_ended:
            yield content
            return
        yield left[: -len(end)]
        left = left[-len(end) :]
    raise InvalidRequest.at("body", None, "Input should be a form with one file")
