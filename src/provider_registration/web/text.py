"""Text that callers send: in Unicode's composed form, trimmed, without what cannot be seen."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import Annotated, Any

from email_validator import SPECIAL_USE_DOMAIN_NAMES, EmailNotValidError, validate_email
from email_validator.rfc_constants import CASE_INSENSITIVE_MAILBOX_NAMES
from pydantic import AfterValidator, Field, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, PydanticKnownError, core_schema

# Cc: control characters, NUL among them, which PostgreSQL cannot store. Cs: half a surrogate pair. Zl, Zp: line breaks.
REFUSED_CATEGORIES = frozenset({"Cc", "Cs", "Zl", "Zp"})
# Removed, since they make two texts that look the same differ, or one read otherwise than it is (CVE-2021-42574): what
# Unicode calls format characters (Cf), and the grapheme joiner. Kept are those of Cf that show, before numbers
# (Prepended_Concatenation_Mark), and the two joiners between letters, marks and symbols beyond Latin, which need them.
VISIBLE_FORMATS = frozenset("\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u070f\u0890\u0891\u08e2\U000110bd\U000110cd")
GRAPHEME_JOINER = "\u034f"
JOINERS = frozenset("\u200c\u200d")
END_OF_LATIN = "\u024f"

# Letters and symbols by their category that show nothing: Hangul's fillers and the empty pattern of Braille.
BLANKS = frozenset("\u115f\u1160\u3164\uffa0\u2800")


def clean_text(value: str) -> str:
    """Normalise to NFC, remove what cannot be seen, and trim white space.

    Raises:
        PydanticCustomError: a control character is in the text.
    """
    value = value.strip()
    if not value.isprintable() or GRAPHEME_JOINER in value:
        value = _without_invisible(value)
    return unicodedata.normalize("NFC", value).strip()


def _without_invisible(value: str) -> str:
    kept = []
    for character in value:
        category = unicodedata.category(character)
        if category in REFUSED_CATEGORIES:
            raise PydanticCustomError("control_character", "Input should have no control characters")
        if category != "Cf" or character in VISIBLE_FORMATS or character in JOINERS:
            kept.append(character)
    text = "".join(kept).replace(GRAPHEME_JOINER, "")
    neighbours = zip(f" {text}", text, f"{text[1:]} ", strict=False)
    return "".join(
        character
        for before, character, after in neighbours
        if character not in JOINERS or (_is_joined(before) and _is_joined(after))
    )


def _is_joined(character: str) -> bool:
    return character > END_OF_LATIN and unicodedata.category(character)[0] in "LMS"


def visible(value: str) -> str:
    """Refuse a name that nobody can see.

    Raises:
        PydanticCustomError: there is neither a letter, a number, a sign nor a symbol in it.
    """
    if not any(unicodedata.category(character)[0] in "LNPS" and character not in BLANKS for character in value):
        raise PydanticCustomError("invisible", "Input should have a visible character")
    return value


MAX_RAW_LENGTHS = 3  # what NFC may make one of


@dataclass(frozen=True, slots=True)
class Text:
    """Marks a `str` as text of a bounded length: `Annotated[str, Text(255)]`.

    What is sent is refused for its length before it is normalised, for that takes time that grows with the square of
    its length: 64 KiB of combining marks took two seconds.
    """

    max_length: int
    min_length: int = 0

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:  # noqa: ANN401
        return core_schema.no_info_after_validator_function(self._clean, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        least = {"minLength": self.min_length} if self.min_length else {}
        return {**handler(schema), **least, "maxLength": self.max_length}

    def _clean(self, value: str) -> str:
        value = value.strip()
        if len(value) <= MAX_RAW_LENGTHS * self.max_length:
            value = clean_text(value)
        length = {"field_type": "Value", "actual_length": len(value)}
        if len(value) > self.max_length:
            raise PydanticKnownError("too_long", {**length, "max_length": self.max_length})
        if len(value) < self.min_length:
            raise PydanticKnownError("too_short", {**length, "min_length": self.min_length})
        return value


# Plain addresses, which email-validator takes a hundred times as long to accept: words of RFC 5322 atoms at a domain of
# letters, digits and single hyphens. Parts that are too long for it to be sure about do not match.
_PLAIN_ADDRESS = re.compile(
    r"(?=.{1,64}@)([A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*)"
    r"@(?=.{1,180}\Z)((?:[A-Za-z0-9]{1,20}(?:-[A-Za-z0-9]{1,20}){0,2}\.)+([A-Za-z]{2,63}))\Z"
)
_SPECIAL_TOP_LEVELS = frozenset(name.rpartition(".")[2] for name in SPECIAL_USE_DOMAIN_NAMES)


def _email_address(value: str) -> str:
    """Check the syntax (RFC 5322, RFC 6531) and write the domain in lower case; no mail server is asked."""
    if plain := _PLAIN_ADDRESS.match(value):
        local_part, domain, top_level = plain.group(1), plain.group(2).lower(), plain.group(3).lower()
        if top_level not in _SPECIAL_TOP_LEVELS and local_part.lower() not in CASE_INSENSITIVE_MAILBOX_NAMES:
            return f"{local_part}@{domain}"
    return _any_email_address(value)


def _any_email_address(value: str) -> str:
    try:
        return validate_email(clean_text(value), check_deliverability=False, strict=True).normalized
    except EmailNotValidError:
        raise PydanticCustomError("email_address", "Input should be an e-mail address") from None


MAX_EMAIL_LENGTH = 254  # RFC 5321 section 4.5.3.1.3, less the angle brackets
EmailAddress = Annotated[
    str,
    Field(max_length=MAX_EMAIL_LENGTH, json_schema_extra={"format": "email"}),
    AfterValidator(_email_address),
]
