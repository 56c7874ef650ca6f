"""Text that callers send: kept as sent, in Unicode's composed form, trimmed, and free of control characters."""

from __future__ import annotations

import unicodedata
from typing import Annotated

from email_validator import EmailNotValidError, validate_email
from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

# Cc: control characters, NUL among them, which PostgreSQL cannot store. Cs: half a surrogate pair.
REFUSED_CATEGORIES = frozenset({"Cc", "Cs"})
# Embeddings, overrides and isolates: they make text read otherwise than it is (CVE-2021-42574).
BIDIRECTIONAL_CONTROLS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def clean_text(value: str) -> str:
    """Normalise to NFC and trim white space.

    Raises:
        PydanticCustomError: a control character is in the text.
    """
    value = unicodedata.normalize("NFC", value).strip()
    if not value.isprintable() and any(
        unicodedata.category(character) in REFUSED_CATEGORIES or character in BIDIRECTIONAL_CONTROLS
        for character in value
    ):
        raise PydanticCustomError("control_character", "Input should have no control characters")
    return value


def visible(value: str) -> str:
    """Refuse a name that nobody can see.

    Raises:
        PydanticCustomError: there is neither a letter, a number, a sign nor a symbol in it.
    """
    if not any(unicodedata.category(character)[0] in "LNPS" for character in value):
        raise PydanticCustomError("invisible", "Input should have a visible character")
    return value


CleanText = Annotated[str, AfterValidator(clean_text)]


def _email_address(value: str) -> str:
    """Check the syntax (RFC 5322, RFC 6531) and write the domain in lower case; no mail server is asked."""
    try:
        return validate_email(clean_text(value), check_deliverability=False).normalized
    except EmailNotValidError:
        raise PydanticCustomError("email_address", "Input should be an e-mail address") from None


MAX_EMAIL_LENGTH = 254  # RFC 5321 section 4.5.3.1.3, less the angle brackets
EmailAddress = Annotated[
    str,
    Field(max_length=MAX_EMAIL_LENGTH, json_schema_extra={"format": "email"}),
    AfterValidator(_email_address),
]
