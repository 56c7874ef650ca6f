"""If-Match: the versions that a client accepts."""

from __future__ import annotations

import pytest
from fastapi import Request

from provider_registration.web.preconditions import etag, expected_versions


async def versions(*lines):
    """The versions that these header lines accept."""
    headers = [(b"if-match", line.encode("latin-1")) for line in lines]
    return await expected_versions(Request({"type": "http", "headers": headers}))


@pytest.mark.parametrize(
    ("lines", "allowed"),
    [
        ([], None),
        (["*"], None),
        ([" * "], None),
        (['"1"'], {1}),
        (['"1", "2"'], {1, 2}),
        (['"1"', '"2"'], {1, 2}),
        (['"1","1"'], {1}),
        (['W/"1"'], {1}),
        (['W/"1", "2"'], {1, 2}),
        (['w/"1"'], set()),
        (['W/ "1"'], set()),
        (['"one"'], set()),
        (['"1", *'], {1}),
        (["1"], set()),
        ([""], set()),
        ([","], set()),
        (['"٣"'.encode().decode("latin-1")], set()),
        (['"²"'], set()),
        (['"-1"'], set()),
        (['"12345678901"'], set()),
    ],
)
async def test_lines_allow_the_versions_of_their_tags(lines, allowed):
    assert await versions(*lines) == allowed


@pytest.mark.parametrize("version", [1, 2, 2**31 - 1])
async def test_the_tag_of_a_version_allows_it(version):
    assert await versions(etag(version)) == {version}
