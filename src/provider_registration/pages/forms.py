"""HTML forms. `cross_site` checks that a page of this host sent them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from provider_registration.web.body import form_fields, media_type_of
from provider_registration.web.problems import UnsupportedMediaType

FORM = "application/x-www-form-urlencoded"


@dataclass(frozen=True, slots=True)
class Form:
    """The fields of a form. A field can have several values, like checkboxes with one name."""

    fields: Mapping[str, list[str]]

    def get(self, name: str, default: str = "") -> str:
        """The first value of a field."""
        return self.fields.get(name, [default])[0]

    def all(self, name: str) -> list[str]:
        """Every value of a field."""
        return self.fields.get(name, [])


async def read_form(request: Request) -> Form:
    """Read the form of a request.

    Raises:
        UnsupportedMediaType, InvalidRequest: the body is not a form.
    """
    if media_type_of(request) != FORM:
        raise UnsupportedMediaType(FORM)
    fields: dict[str, list[str]] = {}
    for name, value in form_fields(await request.body()):
        fields.setdefault(name, []).append(value)
    return Form(fields)


FormDep = Annotated[Form, Depends(read_form)]
