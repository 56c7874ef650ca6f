"""The keys of a company: two that may be the same have one in common."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

from provider_registration.candidates.matching import word_keys
from provider_registration.db.statements import ERASED_DOMAIN
from provider_registration.similar.contacts import company_domain, phone_ending
from provider_registration.similar.names import core_words

SHORTEST_HALF = 3  # letters


@dataclass(frozen=True, slots=True)
class Facts:
    """What is compared of a company."""

    company_name: str
    contact_email: str
    phone: str | None


def stored_keys(facts: Facts) -> list[int]:
    """The keys to store for a company; none for an erased one.

    Change them only with a migration that empties the column: stored keys do not change.
    """
    return _keys(facts, changes=(0,))


def stored_word_keys(facts: Facts) -> list[int]:
    """The keys of the words of a name, by which a search finds it; none for an erased company."""
    return [] if facts.contact_email.endswith(ERASED_DOMAIN) else word_keys(facts.company_name)


def searched_keys(facts: Facts) -> list[int]:
    """The keys of companies that may be the same as this one, the most certain first.

    One wrong, missing or surplus letter leaves one half of a name intact, whose length may be one less or more.
    """
    return _keys(facts, changes=(-1, 0, 1))


def _keys(facts: Facts, changes: Iterable[int]) -> list[int]:
    """The keys, with those of halves for each of these changes of the name's length."""
    if facts.contact_email.endswith(ERASED_DOMAIN):
        return []
    domain, ending, words = (
        company_domain(facts.contact_email),
        phone_ending(facts.phone),
        core_words(facts.company_name),
    )
    keys = [f"name {''.join(words)}", f"name {''.join(sorted(words))}"]
    if domain:
        keys.append(f"domain {domain}")
    if ending:
        keys.append(f"phone {ending}")
    # Of the words in one order. Their initials tell apart names of which one half is a common word.
    name, initials = "".join(sorted(words)), "".join(sorted(word[0] for word in words))
    for length in sorted({(len(name) + change) // 2 for change in changes}):
        if length >= SHORTEST_HALF:
            keys += [f"begins {initials} {name[:length]}", f"ends {initials} {name[-length:]}"]
    # As PostgreSQL's bigint, smaller than text. A collision only makes one more candidate to compare.
    digests = (hashlib.blake2b(key.encode(), digest_size=8).digest() for key in dict.fromkeys(keys))
    return [int.from_bytes(digest, signed=True) for digest in digests]
