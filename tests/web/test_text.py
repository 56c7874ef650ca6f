"""Text and e-mail addresses: equivalent spellings get one form."""

from __future__ import annotations

import string
import unicodedata
from typing import Annotated

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError
from pydantic_core import PydanticCustomError

from provider_registration.web import text as module
from provider_registration.web.text import (
    EmailAddress,
    Text,
    canonical_email,
    clean_text,
    has_digit,
    prepare_password,
    visible,
    whole_number,
)

text_adapter = TypeAdapter(Annotated[str, Text(1000)])
short_adapter = TypeAdapter(Annotated[str, Text(5, min_length=1)])
email_adapter = TypeAdapter(EmailAddress)


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        ("plain", "plain"),
        ("  around  ", "around"),
        ("\u00a0\u2003around\u3000\n", "around"),
        ("in  between", "in  between"),
        ("e\u0301", "é"),
        ("\u212b", "Å"),
        ("ﬁ", "ﬁ"),
        ("👩\u200d🌾", "👩\u200d🌾"),
        ("می\u200cخواهم", "می\u200cخواهم"),
        ("", ""),
    ],
)
def test_text_is_trimmed_and_composed(written, kept):
    assert text_adapter.validate_python(written) == kept


@pytest.mark.asvs("V1.3.3")
@pytest.mark.parametrize(
    "character", [chr(code) for code in [*range(32), *range(127, 160), 0x2028, 0x2029, 0xD800, 0xDFFF]]
)
def test_control_characters_and_lone_surrogates_are_refused(character):
    with pytest.raises(ValidationError):
        text_adapter.validate_python(f"a{character}b")


def test_lengths_are_those_of_what_is_kept():
    assert short_adapter.validate_python("  12345  ") == "12345"
    assert short_adapter.validate_python("e\u0301" * 5) == "é" * 5
    longest = unicodedata.normalize("NFD", "\u1f82" * 5)  # four characters for each
    assert short_adapter.validate_python(longest) == "\u1f82" * 5
    for wrong in ("123456", "   ", "", "\ufb2c\ufb2c"):
        with pytest.raises(ValidationError):
            short_adapter.validate_python(wrong)


@pytest.mark.asvs("V1.1.1")
@given(st.text())
def test_cleaning_twice_changes_nothing_more(text):
    try:
        once = text_adapter.validate_python(text)
    except ValidationError:
        return
    assert text_adapter.validate_python(once) == once
    assert unicodedata.is_normalized("NFC", once)
    assert once == once.strip()


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        ("Anna@EXAMPLE.com", "Anna@example.com"),
        (" a@example.com ", "a@example.com"),
        ("jo\u0308rg@bu\u0308cher.example", "jörg@bücher.example"),
        ("a@xn--bcher-kva.example", "a@bücher.example"),
    ],
)
def test_an_address_has_its_domain_in_one_form(written, kept):
    assert email_adapter.validate_python(written) == kept


def test_an_address_has_254_characters_at_most():
    longest = "a@" + ".".join(["x" * 60] * 4) + ".example"
    longest = "a" * (254 - len(longest)) + longest

    assert email_adapter.validate_python(longest) == longest
    with pytest.raises(ValidationError):
        email_adapter.validate_python("a" + longest)


@given(st.text() | st.emails() | st.builds("{}@{}".format, st.text(), st.text()))
def test_whatever_is_accepted_fits_its_column_and_is_accepted_again(text):
    try:
        once = email_adapter.validate_python(text)
    except ValidationError:
        return
    assert len(once) <= 254
    assert email_adapter.validate_python(once) == once


PLAIN_CHARACTERS = "".join(sorted(set(string.ascii_letters + string.digits + "!#$%&'*+-/=?^_`{|}~.@")))


def outcome(check, address):
    try:
        return check(address)
    except PydanticCustomError:
        return "refused"


@given(
    st.from_regex(module._PLAIN_ADDRESS, fullmatch=True)
    | st.emails()
    | st.text(PLAIN_CHARACTERS, max_size=260)
    | st.builds(
        "{}@{}.{}".format,
        st.sampled_from(["a", "Info", "WWW", "a" * 64, "a" * 65, ".a", "a.", "a..b"]),
        st.text("aZ0-.", max_size=70),
        st.sampled_from(
            ["com", "COM", "TEST", "localhost", "c", "c0m", "xn--p1ai", "a" * 63, "a" * 64, "com\n", "com."]
        ),
    )
)
@example("a@" + "a." * 125 + "com")
@example("a@xn--bcher-kva.example")
@example("a@ab--cd.example")
@example("a@example.com\n")
@settings(max_examples=80, deadline=None)
def test_plain_addresses_are_taken_exactly_as_the_library_would(address):
    assert outcome(module._email_address, address) == outcome(module._any_email_address, address)


@pytest.mark.parametrize("address", ["a@example.com", "First.Last+tag@Sub-1.Example.COM", "o'neil@example.co.uk"])
def test_a_plain_address_does_not_need_the_library(address, monkeypatch):
    monkeypatch.delattr(module, "_any_email_address")

    local_part, _, domain = address.partition("@")
    assert module._email_address(address) == f"{local_part}@{domain.lower()}"


@pytest.mark.parametrize(
    "wrong", ["a@example.com\x00", "a\x00@example.com", "\ud800@example.com", "a@\udfff.com", "a@b@c.com"]
)
def test_the_reason_for_a_refusal_does_not_repeat_the_address(wrong):
    with pytest.raises(ValidationError) as caught:
        email_adapter.validate_python(wrong)

    [error] = caught.value.errors(include_input=False)
    assert "@" not in error["msg"]


@pytest.mark.asvs("V1.3.3")
@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("\u202d+34 963 555 017\u202c", "+34 963 555 017"),  # as phones copy it from their contacts
        ("a\u202eb", "ab"),
        ("\u200b", ""),
        ("\u2066a\u2069", "a"),
        ("a \u200b", "a"),
        ("e\u034f\u0301", "é"),
        ("\u0600\u0661", "\u0600\u0661"),  # the Arabic number sign shows
        ("क्\u200dष", "क्\u200dष"),
        ("a\u200db", "ab"),
        ("\u200cخ\u200c", "خ"),
        ("ễ\u200cễ", "ễễ"),
        ("e\u0302\u0303\u200ce\u0302\u0303", "ễễ"),
        ("ａ\u200dｂ", "ａｂ"),
        ("𝐚\u200d𝐛", "𝐚𝐛"),
        ("x\u0301\u200d\u0302", "x\u0301\u0302"),
        ("\u212b\u200d\u212b", "ÅÅ"),
        ("ন\u200d্য", "ন\u200d্য"),
        ("👁\ufe0f\u200d🗨\ufe0f", "👁\ufe0f\u200d🗨\ufe0f"),
    ],
)
def test_invisible_characters_are_removed(sent, kept):
    assert clean_text(sent) == kept


@pytest.mark.parametrize(
    "invisible",
    ["\u200b", "\u2060", "\U000e0061", "\u061c", "\u200f", "\xad", "\ufeff", "\u034f", "\u200d"]
    + ["\ufe0f", "\U000e0100", "\u17b4", "\u180b", "\u115f", "\u3164", "\u2800"],
)
def test_names_that_look_the_same_are_the_same(invisible):
    assert clean_text(f"Real S.L.{invisible}") == clean_text(f"Re{invisible}al S.L.") == "Real S.L."


@pytest.mark.parametrize("name", ["\u200b", "\u200d\u200d", "\u3164 \u2800", "\u115f\u1160\uffa0"])
def test_an_invisible_name_is_refused(name):
    with pytest.raises(PydanticCustomError):
        visible(name)


@pytest.mark.parametrize("name", ["A", "7", "🍏", "株式会社", "می\u200cخواهم"])
def test_a_name_in_any_alphabet_is_taken(name):
    assert visible(name) == name


@pytest.mark.parametrize("local_part", ["a" * 65, "ü" * 33, "株" * 22, "a" * 63 + "é"])
def test_a_local_part_has_64_octets_at_most(local_part):
    with pytest.raises(ValidationError):
        email_adapter.validate_python(f"{local_part}@example.com")
    assert email_adapter.validate_python(f"{local_part[1:]}@example.com".replace("é", "e"))


SAME = [
    ("eva@bücher.example", "eva@xn--bcher-kva.example", "EVA@BÜCHER.EXAMPLE", "eva@bu\u0308cher.example"),
    ("eva@XN--BCHER-KVA.example", "eva@bücher.example", "eva@bücher\u3002example"),
    ("josé@x.example", "JOSÉ@x.example", "jose\u0301@x.example", "JOSE\u0301@X.EXAMPLE"),
    ("ΟΔΟΣ@x.example", "οδος@x.example", "οδοσ@x.example"),
    ("иван@почта.example", "ИВАН@ПОЧТА.example", "Иван@xn--80a1acny.example"),
    ("iris@x.example", "İris@x.example", "i\u0307ris@x.example", "i\u0307\u0307ris@x.example"),
    ("\u212a@x.example", "k@x.example", "K@X.example"),
    ("a@ｅxample.com", "a@example.com"),
]
SAME += [(f"a{each}b@x.example", "ab@x.example") for each in "\ufe0f\U000e0100\u17b4\u180b\u115f\u3164\u2800\u200d"]
DIFFERENT = [
    ("iris@x.example", "\u0131ris@x.example"),
    ("jose@x.example", "josé@x.example"),
    ("a@faß.example", "a@fass.example"),
    ("a@x.example", "a@y.example", "a+b@x.example", "a.b@x.example"),
]


@pytest.mark.parametrize("addresses", SAME)
def test_addresses_of_one_mailbox_have_one_canonical_form(addresses):
    [form] = {canonical_email(address) for address in addresses}
    assert canonical_email(form) == form
    assert form.rpartition("@")[2].isascii()


@pytest.mark.parametrize("addresses", DIFFERENT)
def test_addresses_of_different_mailboxes_do_not(addresses):
    assert len({canonical_email(address) for address in addresses}) == len(addresses)


@given(st.text(max_size=255) | st.builds("{}@{}".format, st.text(max_size=64), st.text(max_size=190)))
@example("\u0345\u0301@ΐ.example")
@example("a@" + "xn--" * 60)
@example("ab--c\u0301@ab--c.example")
@settings(deadline=None)
def test_anything_has_a_canonical_form_which_is_its_own(text):
    form = canonical_email(text)

    assert canonical_email(form) == form
    assert unicodedata.is_normalized("NFC", form)


@given(st.text(PLAIN_CHARACTERS, max_size=255))
def test_of_ascii_the_canonical_form_is_lower_case_as_the_database_writes_it(text):
    assert canonical_email(text) == text.lower()


@given(st.emails() | st.builds("{}@{}.example".format, st.text(max_size=20), st.text(max_size=20)))
def test_an_address_and_what_is_kept_of_it_are_one(address):
    try:
        kept = email_adapter.validate_python(address)
    except ValidationError:
        return
    assert canonical_email(kept) == canonical_email(clean_text(address))


@pytest.mark.parametrize(
    ("written", "kept"),
    [("e\u0301 \u00a0x", "é  x"), ("ｗｉｄｅ", "ｗｉｄｅ"), ("A\u3000b", "A b"), (" x ", " x "), ("a\u0340", "à")],
)
def test_a_password_is_composed_and_its_spaces_are_plain(written, kept):
    assert prepare_password(written) == kept


@given(st.text(max_size=128))
def test_a_prepared_password_stays_as_it_is(text):
    try:
        once = prepare_password(text)
    except ValueError:
        return
    assert prepare_password(once) == once


@pytest.mark.parametrize(
    "typed", ["1,200", "1 200", "1\u202f200", "1\u2019200", "١٬٢٠٠", "１，２００", " 1200 t", "1200\u200e"]
)
def test_a_number_is_read_as_people_write_it(typed):
    assert whole_number(typed) == 1200


@pytest.mark.parametrize(
    "typed", ["1,20", "1.5", "1,200.300", "1.200,300", "½", "²", "1 e3", "0x10", "t", "", "1_200", "1\x00200", "1" * 51]
)
def test_what_is_no_whole_number_stays_for_the_rules_to_refuse(typed):
    assert whole_number(typed) == typed


@given(st.text(max_size=60))
def test_any_text_is_a_number_or_stays(text):
    number = whole_number(text)
    assert number == text or isinstance(number, int)


@pytest.mark.parametrize("phone", ["+34 963 555 017", "٠١٢٣", "ext. 7", ""])
def test_a_phone_number_has_a_digit(phone):
    assert has_digit(phone) == phone


@pytest.mark.parametrize("phone", ["😀 call me", "n/a", "-", "½", "²"])
def test_a_phone_number_without_a_digit_is_refused(phone):
    with pytest.raises(PydanticCustomError):
        has_digit(phone)
