"""Conditional requests (RFC 9110 section 13): entity tags made from versions, and If-Match."""

from __future__ import annotations

import re
from typing import Annotated

from fastapi import Depends, Header, Request

VERSION_TAG = re.compile(r'(?:W/)?"(0|[1-9][0-9]{0,9})"')


def etag(version: int) -> str:
    """Strong entity tag of a version."""
    return f'"{version}"'


async def expected_versions(
    request: Request,
    _if_match: Annotated[
        str | None,
        Header(
            alias="If-Match",
            description='The `ETag` last read, such as `"1"`; 412 when it is out of date.',
            examples=['"1"'],
        ),
    ] = None,
) -> frozenset[int] | None:
    """Versions that If-Match allows; None when every version will do.

    A weak tag matches too, against RFC 9110 section 13.1.1: a gateway that compresses makes `W/"1"` of `"1"`, and a
    version names one state of a candidate whatever its encoding. Tags of another kind match nothing.
    """
    lines = request.headers.getlist("If-Match")  # as a list in the signature, no client generator would take it
    if not lines:
        return None
    tags = [tag.strip() for line in lines for tag in line.split(",")]
    if tags == ["*"]:
        return None
    return frozenset(int(match[1]) for tag in tags if (match := VERSION_TAG.fullmatch(tag)))


ExpectedVersions = Annotated[frozenset[int] | None, Depends(expected_versions)]
