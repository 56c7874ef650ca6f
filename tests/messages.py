"""Update the translation catalogues from the source: `python -m tests.messages [TAG]`.

With the RFC 5646 tag of a language that has no catalogue, it creates one without translations.
"""

from __future__ import annotations

import sys
from io import BytesIO
from pathlib import Path

from babel.messages.catalog import Catalog
from babel.messages.extract import DEFAULT_KEYWORDS, extract_from_dir
from babel.messages.pofile import read_po, write_po

PACKAGE = Path(__file__).parents[1] / "src/provider_registration"
TRANSLATIONS = PACKAGE / "translations"

METHODS = [("**.py", "python"), ("**.html", "jinja2")]
OPTIONS = {"**.html": {"trimmed": "true", "newstyle_gettext": "true", "silent": "false"}}
KEYWORDS = DEFAULT_KEYWORDS | {"mark": None, "Plural": (1, 2)}  # of pages.translations
HEADER = "# {language} texts of the pages for companies."


def extract() -> Catalog:
    """Every message of the source."""
    found = Catalog()
    for file, _, message, _, context in extract_from_dir(PACKAGE, METHODS, OPTIONS, KEYWORDS):
        found.add(message, locations=[(Path(file).as_posix(), 1)], context=context)
    return found


def update(catalog: Catalog, source: Catalog) -> bytes:
    """A catalogue with exactly the messages of the source, as its file must be."""
    catalog.update(source, no_fuzzy_matching=True, update_creation_date=False)
    written = BytesIO()
    write_po(written, catalog, width=120, sort_by_file=True, include_lineno=False, ignore_obsolete=True)
    return written.getvalue()


def read(path: Path) -> Catalog:
    """The catalogue in a file; an empty one if there is no file."""
    locale = path.stem.replace("-", "_")
    if path.exists():
        return read_po(BytesIO(path.read_bytes()), locale=locale)
    nobody = {"last_translator": "", "language_team": "", "msgid_bugs_address": ""}
    catalog = Catalog(locale=locale, project="provider-registration", version="1", fuzzy=False, **nobody)
    catalog.header_comment = HEADER.format(language=catalog.locale.get_display_name("en"))
    return catalog


if __name__ == "__main__":
    source = extract()
    for path in {*TRANSLATIONS.glob("*.po"), *(TRANSLATIONS / f"{tag}.po" for tag in sys.argv[1:])}:
        path.write_bytes(update(read(path), source))
        missing = sum(not message.string or not all(message.string) for message in read(path) if message.id)
        sys.stdout.write(f"{path.name}: {len(source)} messages, {missing} not translated\n")
