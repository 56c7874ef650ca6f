"""Whether an e-mail address or a phone number is of one company."""

from __future__ import annotations

import re
from pathlib import Path

SHORTEST_PHONE = 7  # digits that must agree: without country and area code

# Anyone may have an address at these, so that it says nothing about the company.
FREE_MAIL = frozenset(Path(__file__).with_name("free_mail.txt").read_text().split())
_OTHERS = re.compile("[^0-9]+")


def company_domain(email: str) -> str | None:
    """The domain of an e-mail address, unless it is a free-mail provider's."""
    domain = email.rpartition("@")[2].lower()
    return None if domain in FREE_MAIL else domain


def phone_ending(phone: str | None) -> str | None:
    """The last digits of a phone number, which are the same with and without country code; None if it has too few."""
    digits = _digits(phone)
    return digits[-SHORTEST_PHONE:] if len(digits) >= SHORTEST_PHONE else None


def is_same_phone(one: str | None, other: str | None) -> bool:
    """Whether two numbers are one, with or without country code: one ends with the other."""
    shorter, longer = sorted((_digits(one), _digits(other)), key=len)
    return len(shorter) >= SHORTEST_PHONE and longer.endswith(shorter)


def _digits(phone: str | None) -> str:
    """The digits without the zeros before an area or country code."""
    return _OTHERS.sub("", phone or "").lstrip("0")
