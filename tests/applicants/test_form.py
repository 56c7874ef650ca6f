"""Any input is either a valid application or is refused with a message of its own."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provider_registration.applicants.form import TEXTS, ApplicationForm, FormRefused
from provider_registration.applicants.questions import DEFAULT, QUESTIONS, SECTIONS, sentence
from provider_registration.candidates.company import FACTS, NUMBERS
from provider_registration.pages.forms import Form
from provider_registration.pages.translations import Languages

ENGLISH = Languages().english
ANYTHING = st.text(st.characters(codec="utf-8"), max_size=300) | st.integers().map(str)
FIELDS = st.fixed_dictionaries(
    {}, optional={name: st.lists(ANYTHING, min_size=1, max_size=3) for name in (*TEXTS, *NUMBERS, "products", "key")}
)

FILLED_IN = {
    "company_name": ["Huerta"],
    "contact_email": ["ventas@huerta.example"],
    "products": ["oranges"],
    "truck_count": ["1"],
}


def errors_of(form):
    try:
        form.to_company(ENGLISH)
    except FormRefused as refusal:
        return refusal.errors or {"no field": "although it was refused"}
    return {}


def test_the_form_asks_for_every_fact_and_says_what_is_wrong_with_each():
    assert set(QUESTIONS) == set(FACTS)
    assert {question.section for question in QUESTIONS.values()} == set(SECTIONS)


def test_a_field_without_sentences_has_one_too():
    fault = {"loc": ("fleet",), "type": "missing", "msg": "", "input": None}

    assert sentence(fault, ENGLISH) == DEFAULT


@given(FIELDS)
def test_anything_may_be_typed(fields):
    errors = errors_of(ApplicationForm.of(Form(fields)))

    assert DEFAULT not in errors.values()
    assert set(errors) <= {*TEXTS, *NUMBERS, "products"}


@given(st.text(st.characters(codec="utf-8"), max_size=300))
def test_a_link_is_made_of_any_key_and_address(text):
    form = ApplicationForm.of(Form({"key": [text]}))

    assert len(form.status_secret(text)) == 43
    assert form.status_secret(text) == form.status_secret(text.lower())
    assert form.status_secret(text) != ApplicationForm.blank().status_secret(text)


@pytest.mark.parametrize(
    ("typed", "number"),
    [
        *(
            ("80", 80),
            ("1,200", 1200),
            ("1 200", 1200),
            ("1\u00a0200", 1200),
            ("1.200", 1200),
            ("1'200'000", 1_200_000),
        ),
        *(("80 t", 80), ("80t", 80), ("12 tons", 12), ("1,200 tonnes", 1200)),
        *(("٣", 3), ("١٬٢٠٠", 1200), ("１２００", 1200), ("\u202d1,200\u202c t", 1200)),
    ],
)
def test_numbers_are_read_as_people_write_them(typed, number):
    fields = {**FILLED_IN, "capacity_tons_per_day": [typed]}

    assert ApplicationForm.of(Form(fields)).to_company(ENGLISH).capacity_tons_per_day == number


@pytest.mark.parametrize(
    "typed",
    ["1,20", "1.5", "12,3456", "80 kg", "t", "1-2", "²", "1\n200", "1" * 5000, "9" * 40]
    + ["0.500", "0,500", "0.750 t", "-0.500", "01.200", "000,500", "٠٫٥٠٠", "٠٬٥٠٠"]
    + ["1,200.000", "1.200,000", "1'200.500", "1 200,500", "1,200 300"],
)
def test_ambiguous_numbers_are_refused(typed):
    fields = {**FILLED_IN, "capacity_tons_per_day": [typed]}

    assert set(errors_of(ApplicationForm.of(Form(fields)))) == {"capacity_tons_per_day"}
