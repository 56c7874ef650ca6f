"""Every text field has a maximum length, which is checked before the text is normalised."""

from __future__ import annotations

import importlib
import pkgutil
import re
import types
import typing
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import pytest
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

import provider_registration
from provider_registration.app import create_app
from provider_registration.applicants.form import ApplicationForm, FormRefused
from provider_registration.auth.schemas import LoginForm, LoginRequest
from provider_registration.candidates.schemas import CandidateRegistration, RejectionRequest
from provider_registration.console.activity import ActivityPageQuery
from provider_registration.console.approvals import MAX_DIGITS
from provider_registration.console.candidates import CandidatesQuery
from provider_registration.pages.forms import Form
from provider_registration.pages.translations import Languages
from provider_registration.web import text as module
from provider_registration.web.text import MAX_RAW_LENGTHS, EmailAddress, OpaqueText, Password, Text
from tests.service import make_settings

BOUNDS = {*EmailAddress.__metadata__, *OpaqueText.__metadata__, *Password.__metadata__}  # type: ignore[attr-defined]
ENDLESS = "a" + 8_000 * "\u0301" + 8_000 * "\u0316"


def models() -> dict[str, type[BaseModel]]:
    """Every model that requests are parsed into: those of routes and those of forms."""
    app = create_app(make_settings("postgresql://x:x@127.0.0.1/x", "http://127.0.0.1", admin_pages=True))
    found = {model.__name__: model for model in (CandidateRegistration, LoginRequest, LoginForm, CandidatesQuery)}
    names = set(re.findall(r'"#/components/schemas/(\w+)"', str(_requests(app.openapi())).replace("'", '"')))
    for each in pkgutil.walk_packages(provider_registration.__path__, "provider_registration."):
        if each.name.endswith("__main__") or ".local" in each.name:
            continue
        for value in vars(importlib.import_module(each.name)).values():
            if not isinstance(value, type) or not issubclass(value, BaseModel):
                continue
            if value.__name__ in names or value.__name__.endswith(("Request", "Query", "CandidateRegistration")):
                found[value.__name__] = value
    return found


def _requests(document: dict[str, Any]) -> list[Any]:
    operations = [operation for path in document["paths"].values() for operation in path.values()]
    return [operation.get("requestBody") for operation in operations if isinstance(operation, dict)]


def unbounded(annotation: Any, metadata: tuple[Any, ...]) -> bool:
    """Whether a type accepts text without one of the module's length limits."""
    if get_origin(annotation) is Annotated:
        inner, *more = get_args(annotation)
        return unbounded(inner, (*metadata, *more))
    if get_origin(annotation) in (typing.Union, types.UnionType, list):
        return any(unbounded(each, metadata) for each in get_args(annotation))
    if get_origin(annotation) is Literal or not isinstance(annotation, type) or issubclass(annotation, Enum):
        return False
    if not issubclass(annotation, str | bytes):
        return annotation in (object, dict)
    more = [each for info in metadata if isinstance(info, FieldInfo) for each in info.metadata]
    bounds = (*metadata, *more)
    return not any(isinstance(each, Text) or each in BOUNDS or hasattr(each, "max_length") for each in bounds)


MODELS = models()
FIELDS: list[tuple[str, str, FieldInfo]] = [
    (name, field, info) for name, model in sorted(MODELS.items()) for field, info in model.model_fields.items()
]


def test_the_walk_finds_what_callers_send() -> None:
    names = {name for name, _, _ in FIELDS}
    assert names >= {
        *("CandidateRegistration", "RejectionRequest", "LoginRequest", "LoginForm", "RefreshRequest"),
        *("ResolutionRequest", "CandidateListQuery", "ApprovalListQuery", "CandidatesQuery"),
    }


@pytest.mark.asvs("V15.1.3", "V15.2.2")
@pytest.mark.parametrize(("name", "field", "info"), FIELDS, ids=[f"{name}.{field}" for name, field, _ in FIELDS])
def test_every_text_of_a_request_has_a_bound(name: str, field: str, info: FieldInfo) -> None:
    assert not unbounded(info.annotation, tuple(info.metadata)), f"{name}.{field} takes text of any length"


@pytest.fixture
def normalised(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The length of every text that is normalised."""
    lengths: list[int] = []

    class Recorded:
        def __getattr__(self, name: str) -> Any:
            return getattr(unicodedata, name)

        @staticmethod
        def normalize(form: str, text: str) -> str:
            lengths.append(len(text))
            return unicodedata.normalize(form, text)

    unicodedata = module.unicodedata
    monkeypatch.setattr(module, "unicodedata", Recorded())
    return lengths


@pytest.mark.asvs("V1.1.1")
@pytest.mark.parametrize(("name", "field"), [(name, info.alias or field) for name, field, info in FIELDS])
def test_endless_text_is_refused_before_it_is_normalised(name: str, field: str, normalised: list[int]) -> None:
    for sent in (ENDLESS, [ENDLESS]):
        with pytest.raises(ValidationError):
            MODELS[name].model_validate({field: sent})

    assert max(normalised, default=0) <= MAX_RAW_LENGTHS * 1000  # of a reason, the longest text


# Where each field of the pages' forms is read, and what bounds it there.
READ_ELSEWHERE = {
    "key": "a pattern of 43 characters",
    "website": "empty or refused",
    "next": "layout.MAX_TARGET_LENGTH",
    "list": "layout.MAX_TARGET_LENGTH",
    "version": "digits",
    "mark": "a UUID and digits",
    "job": "a UUID",
    "matching": "bulk.MAX_SELECTION_LENGTH",
    "selection": "bulk.MAX_SELECTION_LENGTH",
    "column": "known names",
    "types": "known names",
    "decision": "known words",
    "role": "known words",
    "action": "known words",
    "file": "passed on as it arrives, at most 20 MiB",
    "{{ field }}": "a column of the file",
    "choice": "known words",
    "confirmed": "compared with provider_id",
    "kept": "sign_in.MAX_KEPT_LENGTH",
    "{{ again }}": "present or not",
    "resolution": "known words",
    "switch": "present or not",
    "provider_id": f"{MAX_DIGITS} digits",
    "{{ name }}": "macros: the fields of a model",
}


def test_every_field_of_a_form_is_one_of_a_model_or_known_to_be_bounded() -> None:
    templates = Path(provider_registration.__file__).parent.rglob("templates/**/*.html")
    names = {
        name
        for template in templates
        for name in re.findall(r'<(?:input|textarea|select|button)\b[^>]*?\bname="([^"]+)"', template.read_text())
    }
    of_models = {
        info.alias or field
        for model in (CandidateRegistration, LoginRequest, RejectionRequest, CandidatesQuery, ActivityPageQuery)
        for field, info in model.model_fields.items()
    }

    assert names - of_models == {name for name in READ_ELSEWHERE if name in names}
    assert names >= {"search", "reason", "products", "key"}


def test_an_endless_form_is_refused_before_it_is_normalised(normalised: list[int]) -> None:
    fields = ("company_name", "contact_email", "phone", "location", "truck_count", "capacity_tons_per_day")
    with pytest.raises(FormRefused) as refused:
        ApplicationForm.of(Form({name: [ENDLESS] for name in (*fields, "key", "products")})).to_company(
            Languages().english
        )

    assert set(refused.value.errors) >= {*fields}
    assert max(normalised, default=0) <= MAX_RAW_LENGTHS * 255
