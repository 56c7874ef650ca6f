"""Conditional requests (RFC 9110 section 13): entity tags, If-Match, and If-None-Match.

The tag of a record is its version, with a hash of the body after it while the body can change without the version. The
tag of a list is a hash of the body.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from hashlib import sha256
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import Depends, Header, Request, Response

from provider_registration.web.openapi import header

HASH_LENGTH = 16  # hexadecimal digits
VERSION_TAG = re.compile(r'(?:W/)?"(0|[1-9][0-9]{0,9})(?:-[0-9a-f]{16})?"')
# Clients may keep these responses, each for one user, and must ask before they use them again.
REVALIDATED = {"Cache-Control": "private, no-cache", "Vary": "Authorization, Cookie"}
_RAW_REVALIDATED = [(name.lower().encode(), value.encode()) for name, value in REVALIDATED.items()]
REVALIDATED_HEADERS = header("Cache-Control", "Keep it, and ask with `If-None-Match`", REVALIDATED["Cache-Control"]) | (
    header("Vary", "Not for another user", REVALIDATED["Vary"])
)
LIST_HEADERS = REVALIDATED_HEADERS | header("ETag", "A hash of the body, for If-None-Match", '"9f86d081884c7d65"')


def etag(version: int, body: str | None = None) -> str:
    """The strong entity tag of a version or, with a body that can change without it, of both."""
    return f'"{version}"' if body is None else f'"{version}-{_hash(body)}"'


def _hash(body: str) -> str:
    return sha256(body.encode()).hexdigest()[:HASH_LENGTH]  # faster than blake2b


def not_modified(headers: Mapping[str, Any]) -> dict[int | str, dict[str, Any]]:
    """`responses` of a route that answers If-None-Match: the one without a body, with the `headers` of the other."""
    return {304: {"description": "As in `If-None-Match`; without a body", "headers": dict(headers)}}


async def expected_versions(
    request: Request,
    _if_match: Annotated[
        str | None,
        Header(
            alias="If-Match",
            description='The `ETag` of the last read, for example `"1"`; 412 if it is out of date.',
            examples=['"1"'],
        ),
    ] = None,
) -> frozenset[int] | None:
    """The versions that If-Match allows; None if it allows all.

    A weak tag matches too, unlike RFC 9110 section 13.1.1: gateways that compress turn `"1"` into `W/"1"`, and a
    version identifies a state of a candidate in any encoding. Other tags match nothing.
    """
    lines = request.headers.getlist("If-Match")  # client generators do not support a list in the signature
    if not lines:
        return None
    tags = [tag.strip() for line in lines for tag in line.split(",")]
    if tags == ["*"]:
        return None
    return frozenset(int(match[1]) for tag in tags if (match := VERSION_TAG.fullmatch(tag)))


ExpectedVersions = Annotated[frozenset[int] | None, Depends(expected_versions)]


class Revalidation:
    """The entity tags that a client has, and the response to it."""

    def __init__(self, lines: list[str]) -> None:
        self._lines = lines

    def respond(self, content: str, *, tag: str | None = None, headers: Mapping[str, str] | None = None) -> Response:
        """The JSON `content`, or 304 if the client has it; without a `tag`, the tag is a hash of it."""
        tag = tag or f'"{_hash(content)}"'
        if self._lines and self._has(tag):
            response = Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
        else:
            response = Response(content, headers=headers, media_type="application/json")
        response.raw_headers += (*_RAW_REVALIDATED, (b"etag", tag.encode()))  # encoded once
        return response

    def _has(self, tag: str) -> bool:
        """Weak comparison (RFC 9110 section 8.8.3.2); our tags have no commas."""
        tags = [each.strip() for line in self._lines for each in line.split(",")]
        return tags == ["*"] or any(each.removeprefix("W/") == tag for each in tags)


async def revalidation(
    request: Request,
    _if_none_match: Annotated[
        str | None,
        Header(
            alias="If-None-Match",
            description='The `ETag` of a response that you have, for example `"1"`; 304 if it is still the same.',
            examples=['"1"'],
        ),
    ] = None,
) -> Revalidation:
    """What If-None-Match says."""
    return Revalidation(request.headers.getlist("If-None-Match"))


RevalidationDep = Annotated[Revalidation, Depends(revalidation)]
