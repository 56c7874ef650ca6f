"""Whatever is typed is an application or is refused in words that were written for it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from provider_registration.applicants.form import NUMBERS, TEXTS, ApplicationForm, FormRefused
from provider_registration.applicants.sentences import OF_A_NEW_RULE
from provider_registration.pages.forms import Form

ANYTHING = st.text(st.characters(codec="utf-8"), max_size=300) | st.integers().map(str)
FIELDS = st.fixed_dictionaries(
    {}, optional={name: st.lists(ANYTHING, min_size=1, max_size=3) for name in (*TEXTS, *NUMBERS, "products", "key")}
)


def errors_of(form):
    try:
        form.to_registration()
    except FormRefused as refusal:
        return refusal.errors
    return {}


@given(FIELDS)
def test_anything_may_be_typed(fields):
    errors = errors_of(ApplicationForm.of(Form(fields)))

    assert OF_A_NEW_RULE not in errors.values()
    assert set(errors) <= {*TEXTS, *NUMBERS, "products"}


@given(st.text(st.characters(codec="utf-8"), max_size=300))
def test_a_link_is_made_of_any_key_and_address(text):
    form = ApplicationForm.of(Form({"key": [text]}))

    assert len(form.status_secret(text)) == 43
    assert form.status_secret(text) == form.status_secret(text.lower())
    assert form.status_secret(text) != ApplicationForm.blank().status_secret(text)
