"""Whether two names are of one company: without legal form, accents, script and word order, and with a typing error."""

from __future__ import annotations

import re
import unicodedata
from itertools import chain

from cleanco import termdata
from rapidfuzz.distance import OSA

from provider_registration.candidates.search_text import words_of

SHORTEST_MISTYPED = 5  # letters of a word in which one may be wrong; names like HPS and KPS differ in one
MAX_NAME_LENGTH = 255  # that is compared: normalisation can turn one character into 18
SHORTEST_REJOINED = 8  # letters of a name whose words may also be divided otherwise

# Of languages without spaces, and of scripts that cleanco's list leaves out. They are removed anywhere in a name.
FORMS_OF_OTHER_SCRIPTS = (
    *("股份有限公司", "有限责任公司", "有限責任公司", "有限公司"),
    *("株式会社", "有限会社", "合同会社", "(株)", "(有)", "(同)"),
    *("주식회사", "유한회사", "(주)", "(유)"),
    *("شركة", "مؤسسة", "ذ.م.م", "ش.م.م", 'בע"מ'),
    *("บริษัท", "จำกัด", "ห้างหุ้นส่วน"),
)
# Before a name as well as after it. Others, such as `da` or `at`, begin names that are no forms.
FORMS_IN_FRONT = frozenset(
    ["ao", "cv", "fop", "gmbh", "ip", "oao", "ooo", "pao", "pt", "sc", "sia", "too", "uab", "zao"]
)
# Words that join others: written as `&`, in some language, or not at all.
CONJUNCTIONS = frozenset(["and", "e", "en", "et", "i", "och", "og", "und", "y"])

_OTHER_SCRIPTS = re.compile("|".join(map(re.escape, FORMS_OF_OTHER_SCRIPTS)))


def _merged(words: list[str]) -> list[str]:
    """Words with each run of single letters as one: `s r l` is `srl`."""
    return re.sub(r"(?<![^ ])(\w) (?=\w(?: |$))", r"\1", " ".join(words)).split()


# Each word of a form such as `gmbh & co. kg` counts by itself.
LEGAL_FORMS = frozenset(
    word
    for form in chain.from_iterable([*termdata.terms_by_type.values(), *termdata.terms_by_country.values()])
    for word in _merged(words_of(form))
) | {"ao", "bhd", "eood", "ent", "opc", "pvt", "sdn", "spj", "tbk", "tic", "too", "sti"}


def core_words(company_name: str) -> list[str]:
    """The words of a name in ASCII, without legal forms at its ends; all words if there is nothing else."""
    name = _OTHER_SCRIPTS.sub(" ", unicodedata.normalize("NFKC", company_name)[:MAX_NAME_LENGTH].casefold())
    words = _merged(words_of(name) or words_of(company_name))
    first, last = 0, len(words)
    while last - first > 1 and (words[last - 1] in LEGAL_FORMS or words[last - 1] in CONJUNCTIONS):
        last -= 1
    while last - first > 1 and words[first] in FORMS_IN_FRONT:
        first += 1
    core = [word for word in words[first:last] if word not in CONJUNCTIONS]
    return core or words[first:last]


def name_score(one: list[str], other: list[str]) -> float:
    """How alike two names are, from their core words: 1 if equal, less with a typing error, 0 if they differ.

    A name of symbols alone has no words, and is like no other.
    """
    if not one or not other:
        return 0.0
    if sorted(one) == sorted(other) or "".join(one) == "".join(other):
        return 1.0
    rest = sorted(one), sorted(other)
    for word in one:
        if word in rest[1]:
            rest[0].remove(word)
            rest[1].remove(word)
    joined = "".join(one), "".join(other)
    is_mistyped = len(rest[0]) == len(rest[1]) and all(map(_is_mistyped, *rest))
    is_rejoined = len(one) != len(other) and len(joined[0]) >= SHORTEST_REJOINED and _is_mistyped(*joined)
    if not (is_mistyped or is_rejoined):
        return 0.0
    return round(OSA.normalized_similarity(" ".join(sorted(one)), " ".join(sorted(other))), 2)


def _is_mistyped(one: str, other: str) -> bool:
    """Whether one letter is wrong, missing, surplus or exchanged with the next, but not the first, and no digit."""
    return (
        one[0] == other[0]
        and max(len(one), len(other)) >= SHORTEST_MISTYPED
        and one.isalpha()
        and other.isalpha()
        and OSA.distance(one, other, score_cutoff=1) <= 1
    )
