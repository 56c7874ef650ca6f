"""CHANGELOG.md keeps the format of Keep a Changelog 1.1.0."""

from __future__ import annotations

import re

from provider_registration import __version__

from .markdown import read, sections

KINDS = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
RELEASE = re.compile(r"\[(\d+\.\d+\.\d+)\] - \d{4}-\d\d-\d\d")


def test_unreleased_comes_first_and_releases_follow_newest_first() -> None:
    first, *releases = [one.title for one in sections(read("CHANGELOG.md"), 2)]
    versions = [RELEASE.fullmatch(title)[1] for title in releases]  # type: ignore[index]

    assert first == "[Unreleased]"
    numbers = [tuple(map(int, version.split("."))) for version in versions]
    assert numbers == sorted(numbers, reverse=True)


def test_changes_are_of_the_known_kinds() -> None:
    assert {one.title for one in sections(read("CHANGELOG.md"), 3)} <= KINDS


def test_the_version_of_the_package_is_named() -> None:
    assert __version__ in read("CHANGELOG.md").text
