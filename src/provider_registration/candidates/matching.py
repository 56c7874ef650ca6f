"""Which companies match the words of a search, and how well: inside words, and with one typing error in each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Self
from uuid import UUID
from zlib import crc32

from rapidfuzz import fuzz
from rapidfuzz.distance import OSA
from sqlalchemy import RowMapping

from provider_registration.candidates.company import MAX_INTEGER
from provider_registration.candidates.search_text import pattern_of, query_patterns, query_words, words_of

SHORTEST_MISTYPED = 4  # letters of a word in which one may be wrong
LONGEST_MISTYPED = 24
MAX_NAME_WORDS = 12  # of a name that have keys
MAX_NEAR_WORDS = 4  # of a query that are looked up by keys, the longest; the others are compared afterwards
# How well a word of a query is found, the best first.
IN_NAME, BEGINS_WORD, ELSEWHERE, INSIDE, MISTYPED = 1.0, 0.9, 0.8, 0.7, 0.6


@dataclass(frozen=True, slots=True)
class Query:
    """The words of a search; text that is an ID or a number may also be the ID of a candidate or a provider."""

    words: tuple[str, ...]
    patterns: tuple[str, ...]  # for LIKE, the likely rarest first
    candidate_id: UUID | None
    provider_id: int | None

    @classmethod
    def of(cls, text: str) -> Self:
        """Parse what was typed."""
        typed = text.strip()
        is_number = typed.isascii() and typed.isdigit() and len(typed) <= len(str(MAX_INTEGER))
        return cls(
            words=tuple(query_words(typed)),
            patterns=tuple(query_patterns(typed)),
            candidate_id=_uuid(typed),
            provider_id=int(typed) if is_number and 1 <= int(typed) <= MAX_INTEGER else None,
        )

    @property
    def near_keys(self) -> list[list[int]]:
        """For each of the longest words, the keys that a word with one typing error has in common with it."""
        longest = sorted(self.words, key=len, reverse=True)[:MAX_NEAR_WORDS]
        return [sorted({*_keys(word)}) for word in longest]

    @property
    def name_keys(self) -> list[int]:
        """The key of names that are just these words."""
        return [_name_key(self.words)]


def _uuid(text: str) -> UUID | None:
    if len(text) != len(str(UUID(int=0))):
        return None
    try:
        return UUID(text)
    except ValueError:
        return None


def word_keys(company_name: str) -> list[int]:
    """The keys to store for a name: of its words, of two words written as one, of all written as one, and of the name.

    Change them only with a migration that empties the column: stored keys do not change.
    """
    words = words_of(company_name)[:MAX_NAME_WORDS]
    keys = {key for word in (*words, "".join(words)) for key in _keys(word)}
    return sorted(keys | {_key(pair) for pair in _pairs(words)} | {_name_key(words)})


def _pairs(words: list[str]) -> list[str]:
    return [f"{one}{two}" for one, two in pairwise(words)]


def _keys(word: str) -> Iterable[int]:
    """Of a word, and of what remains without one of its letters: two words with one typing error have one in common."""
    yield _key(word)
    if _may_be_mistyped(word):
        for place in range(len(word)):
            yield _key(word[:place] + word[place + 1 :])


def _key(word: str) -> int:
    """As PostgreSQL's integer, smaller than text. A collision only makes one more candidate to compare."""
    return crc32(word.encode()) - 2**31


def _name_key(words: Iterable[str]) -> int:
    return _key(f"={''.join(words)}")


def _may_be_mistyped(word: str) -> bool:
    return SHORTEST_MISTYPED <= len(word) <= LONGEST_MISTYPED and word.isalpha()


@dataclass(frozen=True, slots=True)
class Match:
    """A candidate that matches, and how well: compare `rank`, the best is the least."""

    candidate_id: UUID
    created_at: datetime
    rank: tuple[float, float]


def best(query: Query, rows: Sequence[RowMapping], *, oldest_first: bool, limit: int) -> list[UUID]:
    """The IDs of the rows that match best; those that do not match after all are left out."""
    matches = [match for row in rows if (match := _compare(query, row))]
    matches.sort(key=lambda match: (match.created_at, match.candidate_id), reverse=not oldest_first)
    matches.sort(key=lambda match: match.rank)
    return list(dict.fromkeys(match.candidate_id for match in matches))[:limit]


def _compare(query: Query, row: RowMapping) -> Match | None:
    if row["id"] == query.candidate_id or (query.provider_id and row["provider_id"] == query.provider_id):
        return Match(row["id"], row["created_at"], (-2.0, 0.0))
    words = words_of(row["company_name"])
    text = row["search_text"] or ""
    found = [_found(word, words, text) for word in query.words]
    if not found or not all(found):
        return None
    name = " ".join(words)
    likeness = fuzz.ratio(" ".join(query.words), name) / 100
    return Match(row["id"], row["created_at"], (-round(sum(found) / len(found), 3), -round(likeness, 3)))


def _found(word: str, words: list[str], text: str) -> float:
    """How well a word is found in a name and in the search text; 0 if it is not."""
    if word in words:
        return IN_NAME
    if any(each.startswith(word) for each in words):
        return BEGINS_WORD
    if f" {word} " in f"{text} ":
        return ELSEWHERE
    if pattern_of(word).strip("%") in text:
        return INSIDE
    if not _may_be_mistyped(word):
        return 0.0
    near = any(OSA.distance(word, each, score_cutoff=1) <= 1 for each in (*words, *_pairs(words), "".join(words)))
    return MISTYPED if near else 0.0
