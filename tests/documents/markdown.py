"""Parses the documents: headings, tables, fenced blocks, and parts that vary between runs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from textwrap import dedent

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted(path.name for path in ROOT.glob("*.md"))

HEADING = re.compile(r"(#{1,6}) (.+)")
FENCE = re.compile(r"```(\w*)")
TABLE_RULE = re.compile(r"[|\s:-]+")
CELL_BORDER = re.compile(r"(?<!\\)\|")

# Each is replaced by its name, in documents and in actual output.
VARYING = {
    '"id": "<number>"': re.compile(r'"id": ?"a?\d+"'),
    '"delivery_id": "<number>"': re.compile(r'"delivery_id": ?"\d+"'),
    "id: <position>": re.compile(r"(?m)^id: \d+$"),
    '"next_cursor": "<cursor>"': re.compile(r'"next_cursor": ?"[\w-]{32}"'),
    "<key>": re.compile(r"prk_\w{43}(?!\w)"),
    "<prefix>": re.compile(r"prk_\w{8}(?!\w)"),
    "<secret of a webhook>": re.compile(r"whsec_[\w+/]{43}="),
    '"duration_ms": 1': re.compile(r'"duration_ms": ?\d+'),
    "<id>": re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"),
    "<time>": re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z"),
    "<token>": re.compile(r"eyJ[\w.…-]+"),
    "<refresh token>": re.compile(r"(?<![\w-])[\w-]{43}(?![\w-])"),
    '"next_after": "<position>"': re.compile(r'"next_after": ?"[0-9]+"'),
}


@dataclass(frozen=True)
class Block:
    """A fenced block."""

    language: str
    text: str


@dataclass(frozen=True)
class Section:
    """The content below a heading, down to the next one of the same or a higher level."""

    title: str
    text: str

    @property
    def blocks(self) -> list[Block]:
        """Its fenced blocks."""
        found: list[Block] = []
        lines = iter(self.text.splitlines())
        for line in lines:
            if fence := FENCE.fullmatch(line.strip()):
                inside = takewhile(lambda text: text.strip() != "```", lines)
                found.append(Block(fence[1], dedent("\n".join(inside))))
        return found

    @property
    def tables(self) -> list[list[dict[str, str]]]:
        """Its tables as lists of rows, with cells by column heading."""
        found: list[list[dict[str, str]]] = []
        columns: list[str] = []
        for line in _outside_fences(self.text):
            if not line.startswith("|"):
                columns = []
                continue
            cells = [cell.strip().replace("\\|", "|") for cell in CELL_BORDER.split(line)[1:-1]]
            if not columns:
                columns = cells
                found.append([])
            elif not TABLE_RULE.fullmatch(line):
                found[-1].append(dict(zip(columns, cells, strict=True)))
        return found


def read(name: str) -> Section:
    """A whole document."""
    return Section(name, (ROOT / name).read_text(encoding="utf-8"))


def sections(document: Section, level: int | None = None) -> list[Section]:
    """The sections of one level, or of all."""
    headings = list(_headings(document.text))
    lines = document.text.splitlines()
    found = []
    for index, (start, its_level, title) in enumerate(headings):
        end = next((line for line, other, _ in headings[index + 1 :] if other <= its_level), len(lines))
        if level in (None, its_level):
            found.append(Section(title, "\n".join(lines[start + 1 : end])))
    return found


def section(document: str, title: str) -> Section:
    """The section with this title."""
    [found] = [one for one in sections(read(document)) if one.title == title]
    return found


def code(cell: str) -> str:
    """The content of a cell's first backticks."""
    match = re.search(r"`([^`]*)`", cell)
    assert match, f"nothing in backticks in {cell!r}"
    return match[1]


def without_varying(text: str) -> str:
    """The text with names instead of IDs, times and tokens."""
    for name, pattern in VARYING.items():
        text = pattern.sub(name, text)
    return text


def _headings(text: str) -> Iterator[tuple[int, int, str]]:
    for number, line in enumerate(_outside_fences(text, keep_numbers=True)):
        if match := HEADING.fullmatch(line):
            yield number, len(match[1]), match[2]


def _outside_fences(text: str, *, keep_numbers: bool = False) -> Iterator[str]:
    """Lines outside fenced blocks; optionally blank lines instead of blocks, to keep line numbers."""
    inside = False
    for line in text.splitlines():
        is_fence = line.strip().startswith("```")
        if not (inside or is_fence):
            yield line
        elif keep_numbers:
            yield ""
        inside ^= is_fence
