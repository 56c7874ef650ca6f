"""Pages in several languages: a catalogue for each, and the choice of a language for a request.

The source is in English. Every other language is one file, named after its RFC 5646 tag, such as `pt-BR.po`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from gettext import GNUTranslations, NullTranslations
from io import BytesIO
from math import ceil
from pathlib import Path
from typing import NamedTuple, Self

from babel import Locale, UnknownLocaleError
from babel.dates import format_date, format_time, format_timedelta
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from babel.numbers import format_decimal
from fastapi import Request

from provider_registration.pages.errors import UnusableTranslation
from provider_registration.web.text import LANGUAGE_TAG, MAX_TAG_LENGTH

ENGLISH = "en"
MINUTE, HOUR = 60, 3600  # seconds
PARAMETER = "language"  # query parameter with the visitor's choice

MAX_RANGES = 20
_RANGE = re.compile(r"([a-z]{1,8}(?:-[a-z0-9]{1,8})*|\*)(?:[ \t]*;[ \t]*q=([01](?:\.[0-9]{0,3})?))?", re.IGNORECASE)


class Plural(NamedTuple):
    """A sentence in singular and plural. A catalogue has as many forms as its language."""

    one: str
    other: str


def mark(text: str) -> str:
    """Mark a text for `make messages`; it is translated where it is shown."""
    return text


@dataclass(frozen=True, eq=False, slots=True)
class Language:
    """A language of the pages: its texts and its formats for numbers and times. `name` is in the language itself."""

    tag: str
    name: str
    is_right_to_left: bool
    locale: Locale
    messages: NullTranslations

    @classmethod
    def of(cls, tag: str, messages: NullTranslations) -> Self:
        """The language with this tag."""
        locale = Locale.parse(tag, sep="-")
        name = locale.get_display_name() or tag
        return cls(tag, name[0].upper() + name[1:], locale.character_order == "right-to-left", locale, messages)

    def say(self, text: str, **values: object) -> str:
        """Translate a text and insert its values."""
        translated = self.messages.gettext(text)
        return (
            translated % self._written(values) if values else translated
        )  # without values, it may contain a percent sign

    def count(self, text: Plural, number: int, **values: object) -> str:
        """Translate a text with a number and insert its values."""
        return self.messages.ngettext(*text, number) % self._written(values)

    def _written(self, values: dict[str, object]) -> dict[str, object]:
        return {name: self.number(value) if isinstance(value, int) else value for name, value in values.items()}

    # English is formatted without Babel, in 1 µs instead of 20 or 60: a page of the console has hundreds of values.

    def number(self, value: float) -> str:
        """A number: 1,200."""
        return f"{value:,}" if self.tag == ENGLISH else format_decimal(value, locale=self.locale)

    def instant(self, value: datetime) -> str:
        """A point in time: 14 Mar 2026, 09:26 UTC."""
        at = value.astimezone(UTC)
        if self.tag == ENGLISH:
            return f"{at:%-d %b %Y, %H:%M} UTC"
        date, time = format_date(at, locale=self.locale), format_time(at, "short", locale=self.locale)
        return str(self.locale.datetime_formats["medium"]).replace("'", "").format(time, date) + " UTC"

    def wait(self, seconds: float) -> str:
        """A waiting time, rounded up: in 5 minutes."""
        unit = HOUR if seconds >= 2 * HOUR else MINUTE if seconds >= 2 * MINUTE else 1
        seconds = max(1, ceil(seconds / unit) * unit)
        return format_timedelta(timedelta(seconds=seconds), threshold=2, add_direction=True, locale=self.locale)


class Languages:
    """English, and every language with a catalogue in a folder."""

    def __init__(self, folder: Path | None = None) -> None:
        """Read the folder.

        Raises:
            UnusableTranslation: a file in it is not named after another language, or is damaged.
        """
        self.english = Language.of(ENGLISH, NullTranslations())
        self._languages = {ENGLISH: self.english}
        for path in sorted(folder.glob("*.po")) if folder else ():
            tag = path.stem.replace("_", "-")  # translators' tools write pt_BR.po
            if not re.fullmatch(LANGUAGE_TAG, tag) or tag.lower() in self._languages:
                raise UnusableTranslation(path, "its name must be the tag of another language, such as pt-BR")
            try:
                self._languages[tag.lower()] = Language.of(tag, _read(path))
            except (UnknownLocaleError, ValueError) as error:
                raise UnusableTranslation(path, str(error)) from None

    def __iter__(self) -> Iterator[Language]:
        return iter(self._languages.values())

    def of(self, request: Request, kept: str | None = None) -> Language:
        """The visitor's choice, else the language `kept` with the content, else the browser's."""
        return (
            self.chosen(request)
            or self.find(kept)
            or self._accepted(",".join(request.headers.getlist("accept-language")))
            or self.english
        )

    def chosen(self, request: Request) -> Language | None:
        """The language that the visitor chose, in the URL."""
        return self.find(request.query_params.get(PARAMETER))

    def keep_choice(self, request: Request, path: str) -> str:
        """The URL of a page, with the language that the visitor chose, if any."""
        chosen = self.chosen(request)
        return f"{path}?{PARAMETER}={chosen.tag}" if chosen else path

    def find(self, tag: str | None) -> Language | None:
        """The language of a tag, or of a shorter one: es-MX is Spanish (RFC 4647 section 3.4)."""
        known = (tag or "")[:MAX_TAG_LENGTH].lower()
        while known not in self._languages and "-" in known:
            known = known.rpartition("-")[0]
        return self._languages.get(known)

    def _accepted(self, header: str) -> Language | None:
        """The first of the languages with the highest weight in the header (RFC 9110 section 12.5.4)."""
        parts = header.split(",", MAX_RANGES)[:MAX_RANGES]
        ranges = [match for part in parts if (match := _RANGE.fullmatch(part.strip()))]
        weights: dict[Language, float] = {}
        for match in ranges:
            if language := self.find(match[1]):
                weights[language] = max(float(match[2] or 1), weights.get(language, 0))
        others = max((float(match[2] or 1) for match in ranges if match[1] == "*"), default=0)
        weights |= {language: others for language in self if language not in weights}
        best = max(weights, key=lambda language: weights[language])
        return best if weights[best] else None


def _read(path: Path) -> GNUTranslations:
    """Read and compile a catalogue: a language is one file and needs no build step."""
    compiled = BytesIO()
    with path.open("rb") as file:
        write_mo(compiled, read_po(file))
    compiled.seek(0)
    return GNUTranslations(compiled)
