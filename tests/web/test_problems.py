"""Every error has a status, a stable code, a sentence, and a response that contains them."""

from __future__ import annotations

import pkgutil
import re
from importlib import import_module
from typing import Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, ValidationError

import provider_registration
from provider_registration.errors import ServiceError
from provider_registration.web import problems
from provider_registration.web.problems import STATUS_BY_KIND, FieldError, Problem, field_errors, problem_of, status_of


def every_error():
    """Every class of error in the package, wherever it is defined."""
    for module in pkgutil.walk_packages(provider_registration.__path__, "provider_registration."):
        if ".local" not in module.name and not module.name.endswith("__main__"):
            import_module(module.name)
    found, kinds = [], [ServiceError]
    while kinds:
        kind = kinds.pop()
        kinds.extend(kind.__subclasses__())
        if "code" in vars(kind):
            found.append(kind)
    return sorted(found, key=lambda kind: kind.__name__)


ERRORS = every_error()


@pytest.mark.parametrize("kind", ERRORS)
def test_every_error_has_a_status_a_name_and_a_title(kind):
    assert any(base in STATUS_BY_KIND for base in kind.__mro__)
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", kind.code)
    assert kind.title[0].isupper()
    assert not kind.title.endswith(".")


def test_no_two_errors_share_a_name():
    codes = [kind.code for kind in ERRORS]

    assert len(set(codes)) == len(codes)


def test_only_temporary_errors_have_retry_after():
    hopeful = {status_of_class(kind) for kind in ERRORS if kind.retry_after is not None}

    assert hopeful <= {409, 429, 502, 503}


def status_of_class(kind):
    return next(STATUS_BY_KIND[base] for base in kind.__mro__ if base in STATUS_BY_KIND)


def test_a_problem_is_what_its_schema_says():
    error = problems.InvalidRequest(
        [FieldError(location="body", field=None, code="wrong-type", detail="Input should be JSON")]
    )

    problem = Problem.model_validate(problem_of(error, "/candidates"), strict=True)

    assert problem.status == status_of(error) == 422
    assert problem.detail == "The request is invalid; see errors."
    assert problem.errors == error.errors


def test_only_problems_with_422_list_errors():
    problem = problem_of(problems.BodyTooLarge(7), "/x")

    assert problem == {
        "type": "urn:problem-type:provider-registration:body-too-large",
        "title": "Request body too large",
        "status": 413,
        "detail": "The request body is longer than 7 bytes.",
        "instance": "/x",
    }


class Inner(BaseModel):
    model_config = ConfigDict(extra="forbid")

    number: int = Field(ge=1)


class Outer(BaseModel):
    model_config = ConfigDict(extra="forbid")

    inner: list[Inner]
    named: dict[Literal["one"], int] = {}


@pytest.mark.parametrize(
    ("value", "field", "code", "detail"),
    [
        ({}, "inner", "required", "Field required"),
        ({"inner": 1}, "inner", "wrong-type", "Input should be a valid list"),
        ({"inner": [1]}, "inner.0", "wrong-type", "Input should be an object"),
        ({"inner": [{}]}, "inner.0.number", "required", "Field required"),
        ({"inner": [{"number": 0}]}, "inner.0.number", "too-small", "Input should be greater than or equal to 1"),
        ({"inner": [{"number": "x"}]}, "inner.0.number", "wrong-type", "Input should be an integer"),
        ({"inner": [{"number": 1, "other": "MARKER"}]}, "inner.0.other", "unknown", "Unknown field or parameter"),
        ({"inner": [], "named": {"two": 2}}, "named.two", "unknown-value", "Input should be 'one'"),
        ({"inner": [], "x" * 200: 1}, "x" * 100, "unknown", "Unknown field or parameter"),
    ],
)
def test_a_fault_has_a_code_and_the_path_of_its_field_cut_to_a_length(value, field, code, detail):
    with pytest.raises(ValidationError) as caught:
        Outer.model_validate(value)

    assert field_errors(caught.value.errors(), location="body") == [
        FieldError(location="body", field=field, code=code, detail=detail)
    ]
