"""Searches as people type them: with a typing error, without accents, with words left out, cut or in another order."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from string import ascii_lowercase

from provider_registration.candidates.matching import SHORTEST_MISTYPED
from provider_registration.candidates.search_text import words_of

Distortion = Callable[[list[str], random.Random], list[str]]


def mistyped(words: list[str], rng: random.Random) -> list[str]:
    """One letter of one word is wrong, missing, surplus, or exchanged with the next."""
    places = [place for place, word in enumerate(words) if len(word) >= SHORTEST_MISTYPED and word.isalpha()]
    if not places:
        return words
    which = rng.choice(places)
    word, letter = words[which], rng.choice(ascii_lowercase)
    at = rng.randrange(1, len(word) - 1)
    changed = rng.choice(
        [
            word[:at] + letter + word[at + 1 :],
            word[:at] + word[at + 1 :],
            word[:at] + letter + word[at:],
            word[:at] + word[at + 1] + word[at] + word[at + 2 :],
        ]
    )
    return [*words[:which], changed, *words[which + 1 :]]


def in_another_order(words: list[str], rng: random.Random) -> list[str]:
    """The words are in another order."""
    return rng.sample(words, len(words))


def cut(words: list[str], rng: random.Random) -> list[str]:
    """The last word is not typed to its end."""
    kept = max(SHORTEST_MISTYPED, len(words[-1]) - rng.randint(1, 3))
    return [*words[:-1], words[-1][:kept]]


def without_a_word(words: list[str], rng: random.Random) -> list[str]:
    """One word is left out, the last ones rather, which are often a legal form."""
    return words[:-1] if len(words) > 1 and rng.random() < 0.8 else words  # noqa: PLR2004 - a share


def inside(words: list[str], rng: random.Random) -> list[str]:
    """The longest word is typed without its first letters."""
    longest = max(words, key=len)
    start = rng.randint(1, 2) if len(longest) >= SHORTEST_MISTYPED + 2 else 0
    return [word[start:] if word is longest else word for word in words]


DISTORTIONS: tuple[Distortion, ...] = (mistyped, mistyped, in_another_order, cut, without_a_word, inside)


def distorted(names: Sequence[str], count: int, seed: int) -> list[tuple[str, str]]:
    """Some names, each with what is typed instead: in lower-case ASCII, and distorted in one way."""
    rng = random.Random(seed)  # noqa: S311 - no secret
    some = rng.sample(list(names), count)
    return [(name, " ".join(rng.choice(DISTORTIONS)(words_of(name), rng))) for name in some]
