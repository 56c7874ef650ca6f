"""The search text of a candidate, as the service makes it: lower-case ASCII words, each after a space."""

from __future__ import annotations

import re
import unicodedata

from anyascii import anyascii

MAX_LENGTH = 1000
TELEPHONE = re.compile(r"[0-9](?<![0-9A-Za-z][0-9])(?:[ ()./+-]{0,3}[0-9]){6,}(?![0-9A-Za-z])")
APOSTROPHES = str.maketrans("", "", "'`")
WORD = re.compile("[a-z0-9]+")


def search_text(company_name: str, contact_email: str, phone: str | None, location: str | None) -> str:
    """The words of a candidate, each once; a phone number is one word."""
    words = f"{_plain(contact_email)} {_plain(company_name)}"
    if location:
        words += f" {_plain(location)}"
    numbers = TELEPHONE.findall(words)
    if phone:
        words += f" {TELEPHONE.sub(lambda number: f' {_digits(number[0])} ', _plain(phone))}"
    if numbers:
        words += f" {' '.join(map(_digits, numbers))}"
    return " ".join(("", *dict.fromkeys(WORD.findall(words.lower().translate(APOSTROPHES)))))


def _plain(text: str) -> str:
    if not text.isascii():
        text = anyascii(unicodedata.normalize("NFKC", text[:MAX_LENGTH]).casefold())
    return text[:MAX_LENGTH]


def _digits(number: str) -> str:
    return "".join(filter(str.isdigit, number)).removeprefix("00")
