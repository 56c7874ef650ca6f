"""The search text of a candidate: its words in ASCII, for any script and any database locale."""

from __future__ import annotations

import re
import string
import unicodedata

from anyascii import anyascii

from provider_registration.db.statements import ERASED_DOMAIN

MAX_FIELD_LENGTH = 1000  # characters of one field after transliteration, which can turn one into a whole word
SHORTEST_PART = 3  # letters of a word that is matched inside others: PostgreSQL's index uses trigrams

# Apostrophes are removed: O'Neil and ONeil are one word, and transliteration uses them too. Other signs separate words.
LETTERS_AND_DIGITS = string.ascii_lowercase + string.digits
TO_WORDS = {
    **{chr(code): " " for code in range(128) if chr(code) not in LETTERS_AND_DIGITS},
    **{upper: upper.lower() for upper in string.ascii_uppercase},
    **dict.fromkeys("'`"),
}
WORDS = str.maketrans(TO_WORDS)
# A phone number: at least seven digits in any grouping. The lookbehind comes after the first digit, so that it is tried
# only at digits, which halves the time for text with few digits.
TELEPHONE = re.compile(r"[0-9](?<![0-9A-Za-z][0-9])(?:[ ()./+-]{0,3}[0-9]){6,}(?![0-9A-Za-z])")
NOT_DIGITS = re.compile("[^0-9]+")


def search_text(company_name: str, contact_email: str, phone: str | None, location: str | None) -> str:
    """The search text: lower-case ASCII letters and digits, with a space before each word.

    A phone number is one word; in a name, its parts are words as well. Erased candidates have none.
    Change it only with a migration that empties the column: stored texts do not change. Migration 017 calls this.
    """
    if contact_email.endswith(ERASED_DOMAIN):
        return ""
    words = f"{_plain(contact_email)} {_plain(company_name)}"
    if location:
        words = f"{words} {_plain(location)}"
    numbers = TELEPHONE.findall(words)
    if phone:
        words = f"{words} {TELEPHONE.sub(_joined, _plain(phone))}"
    if numbers:
        words = f"{words} {' '.join(_digits(number) for number in numbers)}"
    return " ".join(("", *dict.fromkeys(words.translate(WORDS).split())))


def words_of(text: str) -> list[str]:
    """The words of a text as in search texts: lower-case ASCII letters and digits."""
    return _plain(text).translate(WORDS).split()


def query_words(query: str) -> list[str]:
    """The words of a query, each once, as they are typed; a phone number is one."""
    return list(dict.fromkeys(TELEPHONE.sub(_joined, _plain(query)).translate(WORDS).split()))


def query_patterns(query: str) -> list[str]:
    """A LIKE pattern for each word, the likely rarest first."""
    return [pattern_of(word) for word in sorted(query_words(query), key=_likely_rare, reverse=True)]


def pattern_of(word: str) -> str:
    """A LIKE pattern: a word of one or two letters matches the start of words, a longer one also inside words."""
    return f"%{word}%" if len(word) >= SHORTEST_PART else f"% {word}%"


def _likely_rare(word: str) -> tuple[bool, bool, int]:
    return len(word) >= SHORTEST_PART, not word.isalpha(), len(word)


def _plain(text: str) -> str:
    """Convert to ASCII: normalise compatibility characters, fold case, transliterate other scripts."""
    if not text.isascii():
        # Truncate first: normalisation takes quadratic time.
        text = anyascii(unicodedata.normalize("NFKC", text[:MAX_FIELD_LENGTH]).casefold())
    return text[:MAX_FIELD_LENGTH]


def _joined(number: re.Match[str]) -> str:
    return f" {_digits(number[0])} "


def _digits(number: str) -> str:
    """The digits of a phone number; 00 and + before the country code are equal."""
    return NOT_DIGITS.sub("", number).removeprefix("00")
