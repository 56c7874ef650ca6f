"""What a candidate is found by: its words in plain Latin letters and digits, whatever the script and the database."""

from __future__ import annotations

import re
import string
import unicodedata

from anyascii import anyascii

MAX_FIELD_LENGTH = 1000  # letters that one field may become: some characters stand for a whole word
ERASED_DOMAIN = "@erased.invalid"  # of an address that stands for one that was erased
SHORTEST_PART = 3  # letters of a word that is looked for inside others: PostgreSQL's index has groups of three

# Apostrophes go: O'Neil and ONeil are one word, and they stand for the soft sign too. All other signs part words.
LETTERS_AND_DIGITS = string.ascii_lowercase + string.digits
TO_WORDS = {
    **{chr(code): " " for code in range(128) if chr(code) not in LETTERS_AND_DIGITS},
    **{upper: upper.lower() for upper in string.ascii_uppercase},
    **dict.fromkeys("'`"),
}
WORDS = str.maketrans(TO_WORDS)
# A telephone number: seven digits or more, however people group them. The lookbehind stands behind the first digit, so
# that it is tried at digits only: in text that has few, that takes half the time or less.
TELEPHONE = re.compile(r"[0-9](?<![0-9A-Za-z][0-9])(?:[ ()./+-]{0,3}[0-9]){6,}(?![0-9A-Za-z])")
NOT_DIGITS = re.compile("[^0-9]+")


def search_text(company_name: str, contact_email: str, phone: str | None, location: str | None) -> str:
    """The words that a candidate is found by: lower-case letters and digits of ASCII, with a space before each.

    A telephone number is one word, and in a name its parts are words as well. One who was erased is not found.
    Change it only with a migration that empties the column: what is stored stays as it was. Migration 017 calls this.
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


def query_patterns(asked: str) -> list[str]:
    """What a search text has to be LIKE, a pattern for each word, those first that few texts are likely to match.

    A word of one or two letters begins a word, a longer one may be inside.
    """
    words = list(dict.fromkeys(TELEPHONE.sub(_joined, _plain(asked)).translate(WORDS).split()))
    words.sort(key=_likely_rare, reverse=True)
    return [f"%{word}%" if len(word) >= SHORTEST_PART else f"% {word}%" for word in words]


def _likely_rare(word: str) -> tuple[bool, bool, int]:
    return len(word) >= SHORTEST_PART, not word.isalpha(), len(word)


def _plain(text: str) -> str:
    """In ASCII: compatible characters unified, case folded, other scripts transliterated."""
    if not text.isascii():
        # Bounded before: normalising takes time that grows with the square of the length.
        text = anyascii(unicodedata.normalize("NFKC", text[:MAX_FIELD_LENGTH]).casefold())
    return text[:MAX_FIELD_LENGTH]


def _joined(number: re.Match[str]) -> str:
    return f" {_digits(number[0])} "


def _digits(number: str) -> str:
    """The digits of a telephone number; 00 and + before the code of a country are the same."""
    return NOT_DIGITS.sub("", number).removeprefix("00")
