"""Conditional requests (RFC 9110 section 13): entity tags made from versions, and If-Match."""

from __future__ import annotations

import re
from typing import Annotated

from fastapi import Depends, Header, Request

VERSION_TAG = re.compile(r'(?:W/)?"(0|[1-9][0-9]{0,9})"')


def etag(version: int) -> str:
    """The strong entity tag of a version."""
    return f'"{version}"'


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
