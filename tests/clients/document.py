"""The committed OpenAPI document: `make openapi` writes it, and `make openapi ARGS=--release` also the last release's.

`openapi.json` is what the code makes; `released.json` is that of the last release, without what people read. A test
fails if a change from the second to the first breaks clients.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from provider_registration.app import create_app
from tests.service import make_settings

DOCUMENT = Path(__file__).with_name("openapi.json")
RELEASED = Path(__file__).with_name("released.json")
FOR_PEOPLE = frozenset({"description", "summary", "example", "examples", "title", "links", "tags", "contact"})


def document() -> dict[str, Any]:
    """The document, which does not depend on the settings."""
    return create_app(make_settings("postgresql://nobody@localhost/nothing", "http://localhost")).openapi()


def contract(part: Any) -> Any:
    """A part of the document without what only people read; properties may have the same names."""
    if isinstance(part, list):
        return [contract(one) for one in part]
    if not isinstance(part, dict):
        return part
    return {
        key: {name: contract(one) for name, one in value.items()} if key == "properties" else contract(value)
        for key, value in part.items()
        if key not in FOR_PEOPLE
    }


def as_text(part: Any) -> str:
    """As committed: one line for each value, so that a change is a few lines."""
    return json.dumps(part, indent=1, ensure_ascii=False, sort_keys=True) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description="Write the OpenAPI document.")
    parser.add_argument("--release", action="store_true", help="also write the document of the last release")
    arguments = parser.parse_args()
    now = document()
    DOCUMENT.write_text(as_text(now))
    if arguments.release:
        RELEASED.write_text(as_text(contract(now)))


if __name__ == "__main__":
    main()
