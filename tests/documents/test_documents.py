"""Every document: links lead somewhere, and commands, settings and codes that are named exist."""

from __future__ import annotations

import re

import click
import pytest

from provider_registration import cli
from provider_registration.imports.limits import ROWS_IN_PART

from .markdown import DOCUMENTS, ROOT, read, sections

LINK = re.compile(r"\[[^\]]+\]\(([^)\s]+)\)")
COMMAND = re.compile(r"provider-registration ([a-z-]+)((?: [^\s`|]+)*)")


@pytest.mark.parametrize("name", [*DOCUMENTS, "tests/asvs.md"])
def test_links_lead_somewhere(name: str) -> None:
    for target in LINK.findall(read(name).text):
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        there = (ROOT / name).parent / path if path else ROOT / name
        assert there.exists(), target
        if anchor:
            assert anchor in {_anchor(section.title) for section in sections(read(str(there)))}, target


def _anchor(title: str) -> str:
    return re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")


@pytest.mark.parametrize("name", DOCUMENTS)
def test_commands_exist_with_their_options(name: str) -> None:
    for command, rest in COMMAND.findall(read(name).text):
        assert command in cli.main.commands, command
        found = cli.main.commands[command]
        if isinstance(found, click.Group) and (words := rest.split()):
            assert words[0] in found.commands, f"{command}{rest}"
            found = found.commands[words[0]]
        known = {
            option for parameter in found.params if isinstance(parameter, click.Option) for option in parameter.opts
        }
        assert {word for word in rest.split() if word.startswith("--")} <= known | {"--help"}, f"{command}{rest}"


@pytest.mark.parametrize("name", ["API.md", "OPERATIONS.md", "src/provider_registration/jobs/schemas.py"])
def test_the_rows_in_a_part_of_an_import_are_as_many_as_they_say(name: str) -> None:
    text = (ROOT / name).read_text()

    assert set(re.findall(r"(?:parts of|each|is|imported` \() ?(\d+) rows", text)) == {str(ROWS_IN_PART)}
