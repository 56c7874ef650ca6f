"""Builds the OpenAPI document: the same in every deployment, and as generators of clients need it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import iter_route_contexts
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema
from starlette.routing import BaseRoute

from provider_registration.web.openapi import REF_TEMPLATE
from provider_registration.web.problems import Problem
from provider_registration.web.quotas import POLICY_HEADER, RATE_LIMIT_HEADER

SERVERS = [{"url": "/"}]
NULL = {"type": "null"}

# Of every successful response and every 429 of a route whose requests are counted.
RATE_LIMIT_HEADERS = {
    RATE_LIMIT_HEADER: {
        "description": "For each limit that counted the request: requests left (`r`), and seconds until more (`t`)",
        "schema": {"type": "string"},
        "example": '"default";r=1199;t=60',
    },
    POLICY_HEADER: {
        "description": "Each of these limits: requests (`q`) in a number of seconds (`w`)",
        "schema": {"type": "string"},
        "example": '"default";q=1200;w=60',
    },
}


def install_document(
    app: FastAPI,
    *,
    routes: Callable[[], Sequence[BaseRoute]],
    bodies: Sequence[type[BaseModel]],
    tags: Sequence[Mapping[str, str]],
    unlimited: frozenset[str],
) -> None:
    """Make `app.openapi()` describe `routes`, the models that they parse themselves, and the problem document.

    Requests to the `unlimited` paths are not counted.
    """

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            described = routes()
            document = get_openapi(
                title=app.title,
                version=app.version,
                description=app.description,
                routes=described,
                tags=[dict(tag) for tag in tags],
                servers=SERVERS,
                contact=app.contact,
                license_info=app.license_info,
            )
            models: list[type[BaseModel]] = [*bodies, Problem]
            _, definitions = models_json_schema([(model, "validation") for model in models], ref_template=REF_TEMPLATE)
            components = document.setdefault("components", {})
            components.setdefault("schemas", {}).update(definitions["$defs"])
            components["headers"] = RATE_LIMIT_HEADERS
            _restore_nulls_of_examples(document, described)
            for schema in components["schemas"].values():
                _drop_defaults(schema)
            for path, operation in _operations(document):
                operation.setdefault("security", [])  # open to everyone
                for parameter in operation.get("parameters", ()):
                    parameter["schema"] = _without_null(parameter["schema"])
                if path not in unlimited:
                    _describe_limits(operation)
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # as FastAPI's documentation recommends


def _operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for operation in methods.values():
            yield path, operation


def _restore_nulls_of_examples(document: dict[str, Any], routes: Sequence[BaseRoute]) -> None:
    """Restore the examples of responses: FastAPI removes every null from them."""
    for route in iter_route_contexts(routes):
        for method in route.methods or ():
            operation = document["paths"].get(route.path_format, {}).get(method.lower())
            for code, response in route.responses.items() if operation else ():
                for media_type, content in response.get("content", {}).items():
                    examples = {key: content[key] for key in ("example", "examples") if key in content}
                    operation["responses"][str(code)]["content"][media_type].update(examples)


def _drop_defaults(schema: dict[str, Any]) -> None:
    """Leave defaults to the descriptions: openapi-typescript requires every property that has one."""
    for described in schema.get("properties", {}).values():
        described.pop("default", None)


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema of a parameter: it may be omitted, but nobody can send null. The parameter has the description."""
    kept = {key: value for key, value in schema.items() if key not in ("anyOf", "title", "description")}
    match [kind for kind in schema.get("anyOf", ()) if kind != NULL]:
        case []:
            return kept
        case [kind]:
            return {**kind, **kept}
        case kinds:
            return {"anyOf": kinds, **kept}


def _describe_limits(operation: dict[str, Any]) -> None:
    for status, response in operation["responses"].items():
        if status.startswith("2") or status == "429":
            response.setdefault("headers", {}).update(
                {name: {"$ref": f"#/components/headers/{name}"} for name in RATE_LIMIT_HEADERS}
            )
