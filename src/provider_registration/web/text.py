"""What text may be: the one place that decides it, for the API, the pages, the console and the command line.

1. Length comes first. Normalising takes time that grows with the square of the length, so nothing is normalised that
   is longer than MAX_RAW_LENGTHS times what may be kept. Each text that a caller can send has a type from here, or a
   bound where it is read.
2. Text is kept in Unicode's normalisation form C, without white space around it. Control characters, line breaks and
   half surrogate pairs are refused.
3. What cannot be seen is removed: format characters that change the direction of text or take no room, and the
   grapheme joiner. ZWJ and ZWNJ stay between two letters or symbols beyond Latin, with their marks, whose scripts and
   emoji need them. A name has at least one character that shows.
4. A phone number has a digit, of any script. A whole number may have its thousands apart by a comma, a point, an
   apostrophe or a space, the same throughout, and its unit after it: `1,200 t`. Only the form for people reads numbers
   so.
5. E-mail addresses are kept as they are written, with the domain in Unicode, and compared by `canonical_email`: the
   local part in folded case, the domain as A-labels. A local part has 64 octets at most, an address 254.
6. Passwords are prepared by the OpaqueString profile of RFC 8265: form C, and every space is U+0020; case and width
   stay. Control characters, and what cannot be seen, are refused in new ones.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import Annotated, Any

import idna
from email_validator import SPECIAL_USE_DOMAIN_NAMES, EmailNotValidError, validate_email
from email_validator.rfc_constants import CASE_INSENSITIVE_MAILBOX_NAMES
from precis_i18n import get_profile
from pydantic import AfterValidator, Field, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, PydanticKnownError, core_schema

# Cc: control characters, NUL among them, which PostgreSQL cannot store. Cs: half a surrogate pair. Zl, Zp: line breaks.
REFUSED_CATEGORIES = frozenset({"Cc", "Cs", "Zl", "Zp"})
# Removed, since they make two texts that look the same differ, or one read otherwise than it is (CVE-2021-42574): what
# Unicode calls format characters (Cf), and the grapheme joiner. Kept are those of Cf that show, before numbers
# (Prepended_Concatenation_Mark), and the two joiners between letters and symbols beyond Latin, which need them.
VISIBLE_FORMATS = frozenset("\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u070f\u0890\u0891\u08e2\U000110bd\U000110cd")
JOINERS = frozenset("\u200c\u200d")
END_OF_LATIN_1 = "\u00ff"

# Default_Ignorable_Code_Point of Unicode 14.0 (DerivedCoreProperties.txt), and the empty pattern of Braille.
INVISIBLE = re.compile(
    r"[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f"
    r"\ufeff\uffa0\ufff0-\ufff8\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff\u2800]"
)
SELECTORS = frozenset("\ufe0e\ufe0f")  # of the style of emoji


def clean_text(value: str) -> str:
    """Normalise to NFC, remove what cannot be seen, and trim white space.

    Raises:
        PydanticCustomError: a control character is in the text.
    """
    value = value.strip()
    if not value.isprintable() or (not value.isascii() and INVISIBLE.search(value)):
        value = _without_invisible(value)
    return unicodedata.normalize("NFC", value).strip()


def _without_invisible(value: str) -> str:
    kept = []
    for character in value:
        category = unicodedata.category(character)
        if category in REFUSED_CATEGORIES:
            raise PydanticCustomError("control_character", "Input should have no control characters")
        is_seen = not INVISIBLE.match(character) and (category != "Cf" or character in VISIBLE_FORMATS)
        if is_seen or character in JOINERS or character in SELECTORS:
            kept.append(character)
    text = _without_idle_selectors(unicodedata.normalize("NFC", "".join(kept)))
    return _without_idle_joiners(unicodedata.normalize("NFC", text))


def _without_idle_selectors(text: str) -> str:
    """Keep those that follow a symbol, as emoji are, beyond Latin-1."""
    return "".join(
        character
        for before, character in zip(f" {text}", text, strict=False)
        if character not in SELECTORS
        or (before > END_OF_LATIN_1 and unicodedata.category(before) in ("So", "Sm") and before not in SELECTORS)
    )


def _without_idle_joiners(text: str) -> str:
    kept, is_joined = [], False  # whether the last character that is no mark, and so its marks, may be joined
    for character, after in zip(text, f"{text[1:]} ", strict=False):
        if character not in JOINERS:
            kept.append(character)
            if not _is_mark(character):
                is_joined = _may_be_joined(character)
        elif is_joined and (_is_mark(after) or _may_be_joined(after)):
            kept.append(character)
    return "".join(kept)


def _is_mark(character: str) -> bool:
    return unicodedata.category(character)[0] == "M"


def _may_be_joined(character: str) -> bool:
    """Whether it is a letter or symbol beyond Latin, also in another width or style."""
    plain = unicodedata.normalize("NFKD", character)[0]
    return (
        plain > END_OF_LATIN_1
        and unicodedata.category(plain)[0] in "LS"
        and not unicodedata.name(plain, "").startswith("LATIN ")
    )


def visible(value: str) -> str:
    """Refuse a name that nobody can see.

    Raises:
        PydanticCustomError: there is neither a letter, a number, a sign nor a symbol in it.
    """
    if not any(unicodedata.category(character)[0] in "LNPS" and not INVISIBLE.match(character) for character in value):
        raise PydanticCustomError("invisible", "Input should have a visible character")
    return value


def has_digit(value: str) -> str:
    """Refuse a phone number that nobody can dial; none at all is none.

    Raises:
        PydanticCustomError: there is text without a digit.
    """
    if value and not any(character.isdecimal() for character in value):
        raise PydanticCustomError("no_digits", "Input should be a phone number")
    return value


def blank_is_absent(value: str | None) -> str | None:
    """What was left empty was not said."""
    return value or None


MAX_NUMBER_LENGTH = 50
_WHOLE_NUMBER = re.compile(r"-?[0-9]{1,30}")
# A number whose thousands begin with 0 is none: 0.500 is a half.
_PARTED_NUMBER = re.compile(r"-?[1-9][0-9]{0,2}([,.'\u2019\u066c\uff0c\s])[0-9]{3}(?:\1[0-9]{3}){0,8}")
_UNIT = re.compile(r"\s*(?:t|tn|tons?|tonnes?|trucks?)\.?\Z", re.IGNORECASE)


def whole_number(text: str) -> int | str:
    """A whole number as people write it; other text stays as it is, for the rules to refuse."""
    if len(text) > MAX_NUMBER_LENGTH:
        return text
    try:
        shown = clean_text(text)
    except PydanticCustomError:
        return text
    digits = "".join(str(unicodedata.decimal(each, each)) for each in _UNIT.sub("", shown))
    if _PARTED_NUMBER.fullmatch(digits):
        digits = re.sub(r"[^0-9-]", "", digits)
    return int(digits) if _WHOLE_NUMBER.fullmatch(digits) else text


MAX_RAW_LENGTHS = 4  # what NFC may make one of: U+1F82 is a letter and three marks


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
        checked = validate_email(clean_text(value), check_deliverability=False, strict=True)
    except EmailNotValidError:
        checked = None
    if checked is None or len(checked.local_part.encode()) > MAX_LOCAL_PART_OCTETS:
        raise PydanticCustomError("email_address", "Input should be an e-mail address")
    return checked.normalized


MAX_LOCAL_PART_OCTETS = 64  # RFC 5321 section 4.5.3.1.1
MAX_EMAIL_LENGTH = 254  # RFC 5321 section 4.5.3.1.3, less the angle brackets
EmailAddress = Annotated[
    str,
    Field(max_length=MAX_EMAIL_LENGTH, json_schema_extra={"format": "email"}),
    AfterValidator(_email_address),
]


_DOTTED_I = re.compile("i\u0307+")  # of U+0130, of which lower() makes i in one database and not in another


def canonical_email(address: str) -> str:
    """The one form by which addresses are compared: those of one mailbox have the same.

    Case is folded and the domain is written as A-labels (UTS 46, IDNA 2008); a domain that has none is folded too, so
    that addresses from before there were rules have a form as well. Of ASCII it makes lower case and nothing else,
    which is what the database does for a release that does not know this. A dotted capital I is an i, whatever the
    database's locale makes of it (no release wrote another form, so no migration changes it). Change it only with a
    migration that empties the columns: what is stored would not match any more, and migration 016 calls this.
    """
    if address.isascii():
        return address.lower()
    local_part, at, domain = address.rpartition("@")
    try:
        labels = idna.encode(domain, uts46=True).decode() if at else _fold(domain)
    except idna.IDNAError:
        labels = _fold(domain)
    return f"{_fold(local_part)}{at}{labels}"


def _fold(text: str) -> str:
    seen = INVISIBLE.sub("", text)  # as NFKC_Casefold of Unicode has it: joiners and selectors too
    folded = unicodedata.normalize("NFC", unicodedata.normalize("NFC", seen).casefold())
    return unicodedata.normalize("NFC", _DOTTED_I.sub("i", folded))


MAX_PASSWORD_LENGTH = 128
Password = Annotated[str, Field(min_length=1, max_length=MAX_PASSWORD_LENGTH, json_schema_extra={"format": "password"})]
_OPAQUE_STRING = get_profile("OpaqueString")


def prepare_password(password: str) -> str:
    """The form of a password that is hashed; `password` has MAX_PASSWORD_LENGTH characters at most.

    Raises:
        ValueError: it is empty, or has characters that RFC 8265 does not allow.
    """
    try:
        return str(_OPAQUE_STRING.enforce(password))
    except UnicodeError:
        raise ValueError("characters that a password cannot have") from None


# What this service made and gets back, to be looked up as it is: tokens and cursors.
OpaqueText = Annotated[str, Field(max_length=128)]
