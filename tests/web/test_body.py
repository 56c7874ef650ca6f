"""Parse forms from bytes."""

from __future__ import annotations

from urllib.parse import parse_qsl

import pytest

from provider_registration.web.body import MAX_BODY_BYTES, MAX_FORM_FIELDS, MAX_LONE_PERCENT_SIGNS, form_fields
from provider_registration.web.problems import InvalidRequest


@pytest.mark.parametrize(
    "form",
    [
        b"",
        b"&&",
        b"a=b&c=d",
        b"a",
        b"=b",
        b"a=b=c",
        b"a=1&a=2",
        b"name=Huerta+del+Sol%20S.L.",
        b"name=%e2%82%AC%F0%9F%98%80",
        "name=Müller".encode(),
        b"password=100%",
        b"password=%%41%4%zz%",
        b"a%3Db=c%26d",
        b"a=1;b=2",
        b"a=%2B%25",
    ],
)
def test_a_form_is_read_as_the_standard_library_does(form):
    assert form_fields(form) == parse_qsl(form.decode(), keep_blank_values=True)


def test_a_form_may_have_as_many_fields_and_lone_percent_signs_as_the_bounds_say():
    assert len(form_fields(b"&".join([b"a=b"] * MAX_FORM_FIELDS))) == MAX_FORM_FIELDS
    assert form_fields(b"a=" + b"%" * MAX_LONE_PERCENT_SIGNS) == [("a", "%" * MAX_LONE_PERCENT_SIGNS)]
    assert form_fields(b"a=" + b"%41" * 20_000) == [("a", "A" * 20_000)]


@pytest.mark.parametrize(
    "form",
    [
        b"&".join([b"a=b"] * (MAX_FORM_FIELDS + 1)),
        b"%" * MAX_BODY_BYTES,
        b"a=" + b"%" * (MAX_LONE_PERCENT_SIGNS + 1),
        b"a=" + b"%zz" * 20_000,
        b"a=%ff",
        b"a=\xff",
        b"%c3=a",
        b"a=%ed%a0%80",
    ],
)
def test_a_body_that_is_not_a_form_is_refused(form):
    with pytest.raises(InvalidRequest):
        form_fields(form)
