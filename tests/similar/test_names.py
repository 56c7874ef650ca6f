"""Which names are of one company, and which are of two."""

from __future__ import annotations

import random
import unicodedata
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from rapidfuzz.distance import OSA

from provider_registration.similar.keys import Facts, searched_keys, stored_keys
from provider_registration.similar.names import core_words, name_score

COMPANIES = Path(__file__).with_name("companies.txt").read_text().splitlines()
KEYS = [4347657287197207179, -564677358387718780, -3058936076978930703, 5585331934696102848, -603073334740194634]
FORMS = ("", " GmbH", " Ltd.", ", Inc.", " S.A.", " Sp. z o.o.", " (Pty) Ltd", " & Co. KG")


def facts(name, email="somebody@gmail.com", phone=None):
    return Facts(name, email, phone)


def is_same(one, other):
    """Whether they are found, and then said to be one."""
    is_found = not set(searched_keys(facts(one))).isdisjoint(stored_keys(facts(other)))
    return is_found and name_score(core_words(one), core_words(other)) > 0


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Müller & Söhne GmbH", "Muller und Söhne"),
        ("Müller & Söhne GmbH", "MULLER SOHNE GMBH & CO. KG"),
        ("ООО «Сады»", "Сады"),
        ("株式会社ドール", "ドール"),
        ("(주)카카오", "카카오"),
        ("شركة النخيل", "النخيل"),
        ("S.C. Fructe S.R.L.", "Fructe"),
        ("Green House Fruit", "Greenhouse Fruit"),
        ("Obsthof Kaspar", "Kaspar Obsthof"),
        ("Obsthof Kaspar", "Obsthof Kasper"),
        ("Obsthof Kaspar", "Obshof Kaspar"),
        ("Fresh Fruit Trading", "Fresh Friut Trading"),
        ("Sadyba", "Садыба"),
    ],
)
def test_names_of_one_company(one, other):
    assert is_same(one, other)
    assert is_same(other, one)


@given(st.text(max_size=30), st.text(max_size=30))
@example("Obsthof Kaspar", "🙂")
@example("🙂", "Obsthof Kaspar")
def test_any_two_names_have_a_score(one, other):
    assert 0 <= name_score(core_words(one), core_words(other)) <= 1


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("🙂", "🙃"),
        ("HPS", "KPS"),
        ("Mango Fruit", "Tango Fruit"),
        ("Fruit 24", "Fruit 25"),
        ("North Star", "South Star"),
        ("Obsthof Kaspar", "Obsthof Kramer"),
        ("Obsthof Kaspar", "Obsthof"),
        ("GmbH", "Ltd"),
        ("Rose", "Rosa"),
    ],
)
def test_names_of_two_companies(one, other):
    assert not is_same(one, other)
    assert not is_same(other, one)


def distorted(name, chance):
    """The name as somebody else may type it."""
    words = core_words(name)
    change = chance.randrange(5)
    if change == 0:
        return name.upper()
    if change == 1:
        return unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode() or name
    if change == 2:
        return " ".join(reversed(words)) + chance.choice(FORMS)
    if change == 3:
        return " ".join(words) + chance.choice(FORMS)
    place = max(range(len(words)), key=lambda index: len(words[index]))
    word = words[place]
    if len(word) >= 6 and word.isalpha():
        cut = chance.randrange(1, len(word) - 1)
        words[place] = word[:cut] + word[cut + 1 :]
    return " ".join(words)


def _nearest(name):
    """Another real name, as like this one as any."""
    others = (other for other in COMPANIES if other != name)
    return max(others, key=lambda other: OSA.normalized_similarity(name, other))


def test_real_names_are_recognised_and_told_apart():
    chance = random.Random(1)  # noqa: S311 - no secret
    same = [(name, distorted(name, chance)) for name in COMPANIES]
    nearest = [(name, _nearest(name)) for name in COMPANIES]
    assert len(same) + len(nearest) >= 300

    found = sum(is_same(*pair) for pair in same)
    mistaken = sum(is_same(*pair) for pair in nearest)

    assert found / len(same) >= 0.9
    assert found / (found + mistaken) >= 0.9


def test_a_name_of_a_legal_form_alone_keeps_it():
    assert core_words("Limited") == ["limited"]
    assert core_words("株式会社") != []


def test_every_name_has_a_bounded_number_of_keys():
    assert len(stored_keys(facts("word " * 50, "a@company.example", "+49 221 5550 100"))) <= 6
    assert len(searched_keys(facts("word " * 50, "a@company.example", "+49 221 5550 100"))) <= 10


def test_a_name_that_normalisation_makes_longer_is_cut():
    name = "\ufdfa" * 250

    assert core_words(name) == core_words(unicodedata.normalize("NFKC", name)[:255])


def test_keys_stay_as_they_are():
    """Stored keys do not change: another rule needs a migration that empties the column."""
    assert stored_keys(Facts("Früchte Müller GmbH", "info@fruechte.example", "+49 221 5550 100")) == KEYS
