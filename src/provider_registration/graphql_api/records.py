"""Makes GraphQL types of the bodies of the API, so that both have the same fields and descriptions."""

from __future__ import annotations

import re
import types
from collections.abc import Mapping
from datetime import date, datetime
from enum import Enum, StrEnum
from functools import cache
from typing import Annotated, Any, Literal, NewType, Union, get_args, get_origin
from uuid import UUID

import strawberry
from graphql import GraphQLError
from pydantic import AwareDatetime, BaseModel
from strawberry.scalars import JSON
from strawberry.types.scalar import ScalarDefinition

DateTime = NewType("DateTime", str)
Date = NewType("Date", str)

ENUM_VALUE = re.compile("[_A-Za-z][_0-9A-Za-z]*")  # what GraphQL allows
NAMES = {"Reason": "SimilarReason", "SimilarResponse": "SimilarCandidate"}  # names that say too little alone
PLAIN: dict[object, object] = {UUID: strawberry.ID, datetime: DateTime, AwareDatetime: DateTime, date: Date}


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise GraphQLError("Input should be a string")
    return value


SCALARS: dict[object, ScalarDefinition] = {
    DateTime: strawberry.scalar(
        name="DateTime", description="A time as in the API: `2026-03-14T09:26:53.589793Z`", parse_value=_text
    ),
    Date: strawberry.scalar(name="Date", description="A date, such as `2026-03-14`", parse_value=_text),
}


class Types:
    """The types that are made, each once."""

    def __init__(self) -> None:
        self._made: dict[type[BaseModel], type] = {}
        self._more: dict[type[BaseModel], dict[str, Any]] = {}

    def extend(self, model: type[BaseModel], **fields: object) -> None:
        """Add fields to the type of a model, before it is made."""
        self._more[model] = fields

    def output(self, model: type[BaseModel]) -> Any:  # noqa: ANN401 - an annotation
        """The type with the fields of a response body; its values are dictionaries of JSON."""
        if model not in self._made:
            made = _class_of(model, self._fields_of(model), self._more.get(model, {}))
            self._made[model] = strawberry.type(made, name=_name_of(model), description=model.__doc__)
        return self._made[model]

    def filters(self, model: type[BaseModel], name: str) -> type:
        """The input with the fields of a query, all of them optional."""
        fields = {
            field: (kind | None, strawberry.field(description=model.model_fields[field].description, default=None))
            for field, (kind, _) in self._fields_of(model).items()
        }
        return strawberry.input(_class_of(model, fields, {}), name=name, description=model.__doc__)

    def _fields_of(self, model: type[BaseModel]) -> dict[str, tuple[Any, Any]]:
        fields = {}
        for name, field in model.model_fields.items():
            kind = self.kind(field.annotation)
            fields[name] = kind, strawberry.field(name=field.alias, description=field.description)
        return fields

    def kind(self, annotation: object) -> Any:  # noqa: ANN401 - an annotation
        """The annotation for strawberry that belongs to one of pydantic."""
        origin, arguments = get_origin(annotation), get_args(annotation)
        made: Any
        if origin is Annotated:
            made = self.kind(arguments[0])
        elif origin in (Union, types.UnionType):
            [kind] = [each for each in map(self.kind, arguments) if each is not type(None)]
            made = kind | None
        elif origin is list:
            made = list[self.kind(arguments[0])]  # type: ignore[misc]
        elif origin is dict:
            made = JSON
        elif origin is Literal:
            made = type(arguments[0])
        elif isinstance(annotation, type) and issubclass(annotation, BaseModel):
            made = self.output(annotation)
        elif isinstance(annotation, type) and issubclass(annotation, Enum):
            made = _enum_of(annotation)
        else:
            made = PLAIN.get(annotation, annotation)
        return made


def given(value: object) -> dict[str, Any]:
    """The fields of an input that are not null, by name."""
    values = vars(value) if value is not None else {}
    return {name: plain(each) for name, each in values.items() if each is not None}


def plain(value: object) -> object:
    """The value of a member of an enum, and other values as they are."""
    return value.value if isinstance(value, Enum) else value


def read(source: Mapping[str, Any], name: str) -> object:
    """The value of a field of a dictionary."""
    return source.get(name)


def _class_of(model: type[BaseModel], fields: dict[str, tuple[Any, Any]], more: dict[str, Any]) -> type:
    annotations = {name: kind for name, (kind, _) in fields.items()}
    values = {name: value for name, (_, value) in fields.items()}
    return type(model.__name__, (), {"__annotations__": annotations, "__module__": __name__} | values | more)


@cache
def _enum_of(kind: type[Enum]) -> object:
    """The enum with the values of the API as names; a string if GraphQL does not allow them as names."""
    values = [str(member.value) for member in kind]
    if not all(ENUM_VALUE.fullmatch(value) for value in values):
        return str
    made = StrEnum(kind.__name__, [(value, value) for value in values])  # type: ignore[misc]
    return strawberry.enum(made, name=_name_of(kind), description=(kind.__doc__ or "").split("\n", maxsplit=1)[0])


def _name_of(kind: type) -> str:
    return NAMES.get(kind.__name__) or kind.__name__.removesuffix("Response")
