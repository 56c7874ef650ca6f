"""What the OpenAPI document says about bodies and errors, each with an example that the code itself made."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar
from uuid import UUID

from fastapi import FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.openapi.utils import get_openapi
from fastapi.routing import iter_route_contexts
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from provider_registration.errors import ServiceError
from provider_registration.web.problems import (
    PROBLEM_MEDIA_TYPE,
    Problem,
    headers_of,
    problem_of,
    status_of,
)

EXAMPLE_ID = UUID("0b8f3c52-94b1-4c43-9f0e-6a1f5f2d7c11")
REF_TEMPLATE = "#/components/schemas/{model}"

HEADER_DESCRIPTIONS = {
    "Connection": "Always close (RFC 9110)",
    "WWW-Authenticate": "How to say who is asking (RFC 6750)",
    "Retry-After": "Seconds to wait before asking again",
}

Function = TypeVar("Function", bound=Callable[..., object])


def schema_ref(model: type[BaseModel]) -> dict[str, str]:
    """Reference to a model's schema among the components."""
    return {"$ref": REF_TEMPLATE.format(model=model.__name__)}


def request_body(*content: tuple[str, type[BaseModel], Mapping[str, Any]], required: bool = True) -> dict[str, Any]:
    """`openapi_extra` of a route that reads its body itself: (media type, model, examples by summary) each."""
    return {
        "requestBody": {
            "required": required,
            "content": {
                media_type: {
                    "schema": schema_ref(model),
                    "examples": {
                        summary.replace(" ", "-"): {"summary": summary, "value": value}
                        for summary, value in examples.items()
                    },
                }
                for media_type, model, examples in content
            },
        }
    }


def success(
    code: int,
    description: str,
    example: Mapping[str, Any],
    headers: Mapping[str, Any] | None = None,
    links: Mapping[str, Any] | None = None,
) -> dict[int | str, dict[str, Any]]:
    """`responses` of a route: what it answers when all is well, and where that leads."""
    response: dict[str, Any] = {"description": description, "content": {"application/json": {"example": example}}}
    return {code: response | ({"headers": headers} if headers else {}) | ({"links": links} if links else {})}


def header(name: str, description: str, example: str | None = None) -> dict[str, Any]:
    """`headers` of a response: one that is always there."""
    described: dict[str, Any] = {"description": description, "required": True, "schema": {"type": "string"}}
    return {name: described if example is None else {**described, "example": example}}


def links(*operations: str, **what: object) -> dict[str, Any]:
    """`links` of a response: the operations that can follow it, and `what` they take from it (runtime expressions)."""
    return {operation: {"operationId": operation, **what} for operation in operations}


def refuses(*errors: ServiceError) -> Callable[[Function], Function]:
    """Say which errors an endpoint answers with by itself, or whatever depends on a dependency by that."""

    def mark(function: Function) -> Function:
        function.refusals = errors  # type: ignore[attr-defined]
        return function

    return mark


def refusals_of(dependant: Dependant) -> Iterator[ServiceError]:
    """The errors that a function and all it depends on said of themselves, its own first."""
    yield from getattr(dependant.call, "refusals", ())
    for needed in dependant.dependencies:
        yield from refusals_of(needed)


def problems(instance: str, *errors: ServiceError) -> dict[int | str, dict[str, Any]]:
    """`responses` of a route: every error it can answer with, as it would be sent for the path `instance`."""
    responses: dict[int | str, dict[str, Any]] = {}
    for error in errors:
        response = responses.setdefault(
            int(status_of(error)),
            {
                "description": error.title,
                "content": {PROBLEM_MEDIA_TYPE: {"schema": schema_ref(Problem), "examples": {}}},
            },
        )
        response["content"][PROBLEM_MEDIA_TYPE]["examples"][error.code] = {
            "summary": error.title,
            "value": problem_of(error, instance),
        }
        # Connection, for one, is between neighbours: a gateway does not pass it on.
        if headers := HEADER_DESCRIPTIONS.keys() & headers_of(error).keys():
            response["headers"] = {}
            for name in sorted(headers):
                response["headers"] |= header(name, HEADER_DESCRIPTIONS[name])
    return responses


def install_openapi(app: FastAPI, *, bodies: Sequence[type[BaseModel]], tags: Sequence[Mapping[str, str]]) -> None:
    """Let `app.openapi()` know the models that routes read by themselves, and the problem document."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = get_openapi(
                title=app.title,
                version=app.version,
                description=app.description,
                routes=app.routes,
                tags=[dict(tag) for tag in tags],
                license_info=app.license_info,
            )
            models: list[type[BaseModel]] = [*bodies, Problem]
            _, definitions = models_json_schema([(model, "validation") for model in models], ref_template=REF_TEMPLATE)
            document.setdefault("components", {}).setdefault("schemas", {}).update(definitions["$defs"])
            _restore_nulls_of_examples(document, app)
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # the way FastAPI documents to extend the document


def _restore_nulls_of_examples(document: dict[str, Any], app: FastAPI) -> None:
    """Put the examples of responses back as they were given: FastAPI drops every null on the way."""
    for route in iter_route_contexts(app.routes):
        for method in route.methods or ():
            operation = document["paths"].get(route.path_format, {}).get(method.lower())
            for code, response in route.responses.items() if operation else ():
                for media_type, content in response.get("content", {}).items():
                    examples = {key: content[key] for key in ("example", "examples") if key in content}
                    operation["responses"][str(code)]["content"][media_type].update(examples)
