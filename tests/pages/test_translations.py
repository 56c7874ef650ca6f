"""The language of a request, and translated texts, numbers and times."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from time import perf_counter

import pytest
from babel.messages.pofile import read_po
from fastapi import Request
from hypothesis import given
from hypothesis import strategies as st

from provider_registration.app import TRANSLATIONS
from provider_registration.pages.errors import UnusableTranslation
from provider_registration.pages.translations import Languages, Plural

POLISH = r"""
msgid ""
msgstr ""
"Content-Type: text/plain; charset=utf-8\n"
"Plural-Forms: nplurals=3; plural=(n==1 ? 0 : n%10>=2 && n%10<=4 && (n%100<10 || n%100>=20) ? 1 : 2);\n"

msgid "%(n)s truck"
msgid_plural "%(n)s trucks"
msgstr[0] "%(n)s ciężarówka"
msgstr[1] "%(n)s ciężarówki"
msgstr[2] "%(n)s ciężarówek"
"""
BARE = 'msgid ""\nmsgstr "Content-Type: text/plain; charset=utf-8\\n"\n'
AT = datetime(2026, 9, 4, 9, 6, 30, tzinfo=UTC)


@pytest.fixture(scope="module")
def languages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("translations")
    for tag, catalogue in {"pl": POLISH, "es": BARE, "ar": BARE, "pt_BR": BARE, "zh-Hant": BARE}.items():
        (folder / f"{tag}.po").write_text(catalogue)
    return Languages(folder)


def a_request(*accepted, query=""):
    headers = [(b"accept-language", header.encode("latin-1")) for header in accepted]
    return Request({"type": "http", "headers": headers, "query_string": query.encode()})


@pytest.mark.parametrize(
    ("header", "tag"),
    [
        ("es", "es"),
        ("ES-mx", "es"),
        ("zh-Hant-TW, en;q=0.5", "zh-Hant"),
        ("pt-br-x-a", "pt-BR"),  # its file is named as translators' tools do
        ("zh", "en"),  # a range never matches a less specific tag (RFC 4647 section 3.4)
        ("en-US,en;q=0.9,es;q=0.8", "en"),
        ("fr;q=0.9, es;q=0.2, pl;q=0.3", "pl"),
        ("es;q=0.5, en;q=0.5", "es"),
        ("es;q=0.3, es-MX;q=0.9, pl;q=0.8", "es"),
        ("es \t; \tQ=1.000 ,pl", "es"),
        ("*", "en"),
        ("*, es;q=0.5", "en"),
        ("en;q=0, *;q=0.1", "ar"),
        ("es;q=0", "en"),
        ("es;q=0, *", "en"),
        ("en;q=0", "en"),
        ("", "en"),
        (",;,=, es;q=2, es;q=0.1234, es q=1, \xe9s, es_ES, -es, es--x", "en"),
        ("fr," * 20 + "es", "en"),
    ],
)
def test_a_browsers_header_is_weighed(languages, header, tag):
    assert languages.of(a_request(header)).tag == tag


def test_several_headers_are_one(languages):
    assert languages.of(a_request("fr", "pl;q=0.5, es;q=0.6")).tag == "es"


@pytest.mark.parametrize(
    ("query", "kept", "header", "tag"),
    [
        ("language=pl", "es", "en", "pl"),
        ("language=PL-pl&language=es", None, "en", "es"),
        ("language=tlh", "es", "pl", "es"),
        ("language=", "es-AR", "pl", "es"),
        ("", "tlh", "pl", "pl"),
        ("", None, "pl", "pl"),
        ("", None, "tlh", "en"),
    ],
)
def test_a_choice_goes_before_what_is_kept_and_that_before_the_browsers_header(languages, query, kept, header, tag):
    assert languages.of(a_request(header, query=query), kept).tag == tag


def test_a_choice_is_kept_in_links_and_nothing_else_is(languages):
    assert languages.keep_choice(a_request("es", query="language=pl-PL"), "/apply") == "/apply?language=pl"
    assert languages.keep_choice(a_request("es"), "/apply") == "/apply"
    assert languages.keep_choice(a_request(query='language="><b>'), "/apply") == "/apply"


@pytest.mark.parametrize(
    "header",
    ["es-" * 22_000, "a," * 32_000, "*" * 65_536, "es;q=" + "0" * 65_536, " " * 65_536, ";q=" * 22_000, "-" * 65_536],
)
def test_64_kib_of_nonsense_cost_nothing(languages, header):
    started = perf_counter()
    for _ in range(10):
        assert languages.of(a_request(header, query=f"language={header}"), header).tag in ("en", "es")

    assert perf_counter() - started < 1


@given(st.text(st.characters(codec="latin-1"), max_size=100) | st.text("esn*;q=01., -", max_size=60))
def test_any_header_gets_a_language(header):
    assert Languages().of(a_request(header)).tag == "en"


def test_a_language_has_as_many_plural_forms_as_it_needs(languages):
    trucks = Plural("%(n)s truck", "%(n)s trucks")

    polish = languages.find("pl")

    assert [polish.count(trucks, n, n=n) for n in (1, 3, 5, 22)] == [
        "1 ciężarówka",
        "3 ciężarówki",
        "5 ciężarówek",
        "22 ciężarówki",
    ]
    assert [languages.find("es").count(trucks, n, n=n) for n in (1, 1200)] == ["1 truck", "1.200 trucks"]


@pytest.mark.parametrize(
    ("tag", "number", "instant", "wait"),
    [
        ("en", "1,234,567", "4 Sep 2026, 09:06 UTC", "in 5 minutes"),
        ("es", "1.234.567", "4 sept 2026, 9:06 UTC", "dentro de 5 minutos"),
        ("pl", "1\u00a0234\u00a0567", "4 wrz 2026, 09:06 UTC", "za 5 minut"),
    ],
)
def test_numbers_and_times_are_as_the_language_has_them(languages, tag, number, instant, wait):
    language = languages.find(tag)

    assert (language.number(1234567), language.instant(AT), language.wait(300)) == (number, instant, wait)


@pytest.mark.parametrize(("seconds", "wait"), [(0, "in 1 second"), (121, "in 3 minutes"), (9000, "in 3 hours")])
def test_waiting_times_are_never_too_short(languages, seconds, wait):
    assert languages.english.wait(seconds) == wait


def test_a_text_without_values_may_have_a_percent_sign(languages):
    assert languages.english.say("100 % of %d") == "100 % of %d"


def test_a_language_says_its_own_name_and_which_way_it_is_written(languages):
    names = ["English", "العربية", "Español", "Polski", "Português (Brasil)", "中文 (繁體)"]
    assert [language.name for language in languages] == names
    assert [language.tag for language in languages if language.is_right_to_left] == ["ar"]


def test_untranslated_texts_are_in_english(languages):
    assert languages.find("es").say("Apples") == "Apples"


@pytest.mark.parametrize("name", ["xx", "x", "es.old", "ca@valencia", "es-MX-x", "español", "", "en", "EN", "pt_BR"])
def test_a_file_that_is_not_named_by_one_more_language_is_named(tmp_path, name):
    for each in ("pt-BR", name):
        (tmp_path / f"{each}.po").write_text(BARE)

    with pytest.raises(UnusableTranslation, match=f"{name}[.]po cannot be used"):
        Languages(tmp_path)


@pytest.mark.parametrize("damage", [b"\xff", b'msgid ""\nmsgstr "Plural-Forms: nplurals=2; plural=n n;\\n"\n'])
def test_a_file_that_is_damaged_is_named(tmp_path, damage):
    (tmp_path / "es.po").write_bytes(BARE.encode() + damage)

    with pytest.raises(UnusableTranslation, match=r"es\.po cannot be used"):
        Languages(tmp_path)


@pytest.mark.parametrize("catalogue", sorted(TRANSLATIONS.glob("*.po")), ids=lambda path: path.stem)
def test_a_translation_adds_no_markup(catalogue):
    """Texts with values are markup, all others are escaped where they are shown."""
    markup = re.compile(r"<[^>]*>?|&\w*;?")
    with catalogue.open("rb") as file:
        messages = [message for message in read_po(file) if message.id]
    for message in messages:
        sources = message.id if isinstance(message.id, tuple) else (message.id,)
        translations = message.string if isinstance(message.string, tuple) else (message.string,)
        for text in (*sources, *translations):
            assert sorted(markup.findall(text)) == sorted(markup.findall(sources[0])), text
            assert "%(" in text or not markup.search(text), text
