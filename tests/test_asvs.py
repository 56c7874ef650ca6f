"""tests/asvs.md lists every requirement of OWASP once, with marked tests or a reason."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

import pytest

from tests.asvs import API_TOP_10, ITEM, REQUIREMENTS, TABLE, markers, with_tests
from tests.documents.markdown import Section, sections

DOCUMENT = Section("asvs.md", TABLE.read_text(encoding="utf-8"))
REASONS = re.compile(r"\b(gateway|operator|not met|does not apply)\b")


def _rows(within: Section = DOCUMENT) -> list[dict[str, str]]:
    return [row for table in within.tables for row in table if "item" in row]


def _requirements(cell: str) -> Iterator[str]:
    """The requirements of a cell, given one by one or by section or chapter."""
    for name in ITEM.findall(cell):
        below = [item for item in REQUIREMENTS if item.startswith(f"{name}.")]
        yield from below or [name]


def test_the_table_names_the_tests_that_are_marked() -> None:
    assert with_tests(DOCUMENT.text) == DOCUMENT.text, "run python -m tests.asvs"


def test_every_marker_names_an_item_of_the_table() -> None:
    assert set(markers()) <= {item for row in _rows() for item in ITEM.findall(row["item"])}


def test_every_requirement_up_to_level_2_is_there_once() -> None:
    covered = Counter(item for row in _rows() for item in _requirements(row["item"]))

    assert {item: count for item, count in covered.items() if count > 1} == {}
    higher = set(re.findall(r"`(V[\d.]+)` \(level 3\)", DOCUMENT.text))
    assert set(covered) == REQUIREMENTS | higher | API_TOP_10


def test_every_item_stands_under_its_chapter() -> None:
    chapters = [one for one in sections(DOCUMENT, 3) if re.match(r"V\d", one.title)]
    assert chapters
    for chapter in chapters:
        assert {item.split(".")[0] for row in _rows(chapter) for item in _requirements(row["item"])} == {
            chapter.title.split()[0]
        }


@pytest.mark.parametrize("row", _rows(), ids=lambda row: row["item"])
def test_every_item_has_tests_or_a_reason(row: dict[str, str]) -> None:
    assert row["test"] or REASONS.search(row["how the service meets it"])
