"""The rules for text in the API, the pages, the console and the command line.

1. Length is checked first. Normalisation takes quadratic time, so text longer than MAX_RAW_LENGTHS times its maximum is
   not normalised. Every text that a client can send has a type from here, or a limit where it is read.
2. Text is stored in Unicode normalisation form C, without surrounding white space. Control characters, line breaks and
   lone surrogates are refused.
3. Invisible characters are removed: format characters that change the text direction or have no width, and the grapheme
   joiner. ZWJ and ZWNJ stay between two letters or symbols beyond Latin, with their marks, because scripts and emoji
   need them. A name has at least one visible character.
4. A phone number has at least one digit, in any script. A whole number may have thousands separators (comma, point,
   apostrophe or space, the same throughout) and a unit: `1,200 t`. Only the public form accepts numbers in this format.
5. E-mail addresses are stored as written, with the domain in Unicode, and compared by `canonical_email`: the local part
   in folded case, the domain as A-labels. A local part has at most 64 bytes, an address 254.
6. Passwords are prepared with the OpaqueString profile of RFC 8265: form C, and every space is U+0020; case and width
   stay. New ones must not have control or invisible characters.
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

MAX_TAG_LENGTH = 35  # of a language (RFC 5646 section 4.4.1)
LANGUAGE_TAG = r"^[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*$"
# Cc: control characters, NUL among them, which PostgreSQL cannot store. Cs: half a surrogate pair. Zl, Zp: line breaks.
REFUSED_CATEGORIES = frozenset({"Cc", "Cs", "Zl", "Zp"})
# Removed, because they make equal-looking texts differ, or change how a text reads (CVE-2021-42574): format characters
# (Cf) and the grapheme joiner. Visible format characters before numbers (Prepended_Concatenation_Mark) are kept, and so
# are the two joiners between letters and symbols beyond Latin, which need them.
VISIBLE_FORMATS = frozenset("\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u070f\u0890\u0891\u08e2\U000110bd\U000110cd")
JOINERS = frozenset("\u200c\u200d")
END_OF_LATIN_1 = "\u00ff"

# Default_Ignorable_Code_Point of Unicode 14.0 (DerivedCoreProperties.txt), and the empty pattern of Braille.
INVISIBLE = re.compile(
    r"[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f"
    r"\ufeff\uffa0\ufff0-\ufff8\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff\u2800]"
)
SELECTORS = frozenset("\ufe0e\ufe0f")  # select the style of an emoji


def clean_text(value: str) -> str:
    """Normalise to NFC, remove invisible characters, and trim white space.

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
    """Keep only selectors after a symbol beyond Latin-1, such as an emoji."""
    return "".join(
        character
        for before, character in zip(f" {text}", text, strict=False)
        if character not in SELECTORS
        or (before > END_OF_LATIN_1 and unicodedata.category(before) in ("So", "Sm") and before not in SELECTORS)
    )


def _without_idle_joiners(text: str) -> str:
    kept, is_joined = [], False  # whether the last character that is not a mark may be joined
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
    """Whether it is a letter or symbol beyond Latin, in any width or style."""
    plain = unicodedata.normalize("NFKD", character)[0]
    return (
        plain > END_OF_LATIN_1
        and unicodedata.category(plain)[0] in "LS"
        and not unicodedata.name(plain, "").startswith("LATIN ")
    )


def visible(value: str) -> str:
    """Refuse an invisible name.

    Raises:
        PydanticCustomError: it has no letter, number, punctuation mark or symbol.
    """
    if not any(unicodedata.category(character)[0] in "LNPS" and not INVISIBLE.match(character) for character in value):
        raise PydanticCustomError("invisible", "Input should have a visible character")
    return value


def has_digit(value: str) -> str:
    """Refuse a phone number without digits; an empty one is allowed.

    Raises:
        PydanticCustomError: it has no digit.
    """
    if value and not any(character.isdecimal() for character in value):
        raise PydanticCustomError("no_digits", "Input should be a phone number")
    return value


def blank_is_absent(value: str | None) -> str | None:
    """Treat empty text as absent."""
    return value or None


MAX_NUMBER_LENGTH = 50
MAX_PLAIN_DIGITS = 9  # of a number that is parsed at once, ten times as fast
_WHOLE_NUMBER = re.compile(r"-?[0-9]{1,30}")
# A number with thousands separators must not start with 0: 0.500 is one half.
_SEPARATED_NUMBER = re.compile(r"-?[1-9][0-9]{0,2}([,.'\u2019\u066c\uff0c\s])[0-9]{3}(?:\1[0-9]{3}){0,8}")
_UNIT = re.compile(r"\s*(?:t|tn|tons?|tonnes?|trucks?)\.?\Z", re.IGNORECASE)


def whole_number(text: str) -> int | str:
    """Parse a whole number as people write it; other text is returned unchanged, for validation to refuse."""
    if text.isascii() and text.isdecimal() and len(text) <= MAX_PLAIN_DIGITS:
        return int(text)
    if len(text) > MAX_NUMBER_LENGTH:
        return text
    try:
        shown = clean_text(text)
    except PydanticCustomError:
        return text
    digits = "".join(str(unicodedata.decimal(each, each)) for each in _UNIT.sub("", shown))
    if _SEPARATED_NUMBER.fullmatch(digits):
        digits = re.sub(r"[^0-9-]", "", digits)
    return int(digits) if _WHOLE_NUMBER.fullmatch(digits) else text


MAX_RAW_LENGTHS = 4  # the most that NFC can combine: U+1F82 is a letter and three marks


@dataclass(frozen=True, slots=True)
class Text:
    """Marks a `str` as text of limited length: `Annotated[str, Text(255)]`.

    The length is checked before normalisation, which takes quadratic time: 64 KiB of combining marks took two seconds.
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


# Plain addresses, accepted a hundred times as fast as by email-validator: RFC 5322 atoms at a domain of letters, digits
# and single hyphens. Parts that may be too long do not match.
_PLAIN_ADDRESS = re.compile(
    r"(?=.{1,64}@)([A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*)"
    r"@(?=.{1,180}\Z)((?:[A-Za-z0-9]{1,20}(?:-[A-Za-z0-9]{1,20}){0,2}\.)+([A-Za-z]{2,63}))\Z"
)
_SPECIAL_TOP_LEVELS = frozenset(name.rpartition(".")[2] for name in SPECIAL_USE_DOMAIN_NAMES)


def _email_address(value: str) -> str:
    """Check the syntax (RFC 5322, RFC 6531) and convert the domain to lower case; no mail server is contacted."""
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


_DOTTED_I = re.compile("i\u0307+")  # of U+0130; lower() converts it to i in some databases only


def canonical_email(address: str) -> str:
    """The canonical form of an e-mail address, equal for all spellings of one mailbox.

    Case is folded and the domain converted to A-labels (UTS 46, IDNA 2008); an invalid domain is only folded, so that
    old addresses have a canonical form too. ASCII addresses are converted to lower case only, as the database does for
    releases without this function. A dotted capital I is an i, independent of the database's locale (no release wrote
    another form, so no migration changes it). Change it only with a migration that clears the columns: stored values
    would no longer match, and migration 016 calls this.
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
    seen = INVISIBLE.sub("", text)  # like Unicode's NFKC_Casefold, including joiners and selectors
    folded = unicodedata.normalize("NFC", unicodedata.normalize("NFC", seen).casefold())
    return unicodedata.normalize("NFC", _DOTTED_I.sub("i", folded))


MAX_PASSWORD_LENGTH = 128
Password = Annotated[str, Field(min_length=1, max_length=MAX_PASSWORD_LENGTH, json_schema_extra={"format": "password"})]
_OPAQUE_STRING = get_profile("OpaqueString")


def prepare_password(password: str) -> str:
    """The form of a password that is hashed; `password` has at most MAX_PASSWORD_LENGTH characters.

    Raises:
        ValueError: it is empty, or has characters that RFC 8265 does not allow.
    """
    try:
        return str(_OPAQUE_STRING.enforce(password))
    except UnicodeError:
        raise ValueError("characters that a password cannot have") from None


# Tokens and cursors from this service, looked up unchanged.
OpaqueText = Annotated[str, Field(max_length=128)]
