"""Every parameter of every operation of an OpenAPI document, in a request where the other parameters are valid."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlencode

MARK = "*"  # sqlmap replaces this with its payloads
JSON = "application/json"
# Headers that the service reads but the document does not name, tested on one operation.
READ_EVERYWHERE, THE_ONE = {"Authorization": "Bearer x", "X-Request-ID": "x"}, "GET /candidates"
STAND_IN = "0STAND0IN0"  # for a value, until it can be written with the marker


@dataclass(frozen=True)
class InjectionPoint:
    """One parameter, and a request with the marker after its value."""

    operation: str
    parameter: str
    path: str
    headers: dict[str, str] = field(default_factory=dict)
    body: str | None = None

    @property
    def method(self) -> str:
        """The request's method."""
        return self.operation.partition(" ")[0]

    @property
    def name(self) -> str:
        """The name to show and to select by."""
        return f"{self.operation} {self.parameter}"


def injection_points(document: dict[str, Any], path_values: dict[str, str]) -> Iterator[InjectionPoint]:
    """All of them; `path_values` are valid values of the parameters in paths."""
    for template, methods in document["paths"].items():
        for method, operation in methods.items():
            name = f"{method.upper()} {template}"
            path = template.format_map(path_values)
            bodies = [
                (media_type, next(iter(content["examples"].values()))["value"])
                for media_type, content in operation.get("requestBody", {}).get("content", {}).items()
            ]
            whole = InjectionPoint(name, "", path)
            if bodies:
                media_type, body = bodies[0]
                whole = replace(whole, headers={"Content-Type": media_type}, body=_encode(media_type, body))
            for parameter in operation.get("parameters", []):
                yield _in_parameter(whole, parameter, template, path_values, document["components"]["schemas"])
            for header in READ_EVERYWHERE if name == THE_ONE else ():
                yield replace(whole, parameter=f"header {header}", headers={header: READ_EVERYWHERE[header] + MARK})
            for media_type, body in bodies:
                yield from _in_body(whole, media_type, body)


def _in_parameter(
    whole: InjectionPoint,
    parameter: dict[str, Any],
    template: str,
    path_values: dict[str, str],
    schemas: dict[str, Any],
) -> InjectionPoint:
    where, what = parameter["in"], parameter["name"]
    point = replace(whole, parameter=f"{where} {what}")
    if where == "path":
        return replace(point, path=template.format_map(path_values | {what: path_values[what] + MARK}))
    value = _valid(parameter["schema"], schemas) + MARK
    if where == "query":
        return replace(point, path=f"{whole.path}?{what}={value}")
    assert where == "header", f"there is no way to test a parameter in a {where}"
    return replace(point, headers=whole.headers | {what: value})


def _valid(schema: dict[str, Any], schemas: dict[str, Any]) -> str:
    """A value that a parameter's schema allows."""
    if "$ref" in schema:
        return _valid(schemas[schema["$ref"].rpartition("/")[2]], schemas)
    for values in (schema.get("examples"), schema.get("enum")):
        if values:
            return str(values[0])
    if "minimum" in schema:
        return str(schema["minimum"])
    if "anyOf" in schema:
        return _valid(schema["anyOf"][0], schemas)  # the other is null
    return "true" if schema["type"] == "boolean" else "x"


def _in_body(whole: InjectionPoint, media_type: str, body: dict[str, Any]) -> Iterator[InjectionPoint]:
    """The body once for each value, with the marker after that value; only the first item of a list is used."""
    for key, value in body.items():
        is_list = isinstance(value, list)
        text = _encode(media_type, body | {key: [STAND_IN, *value[1:]] if is_list else STAND_IN})
        original = value[0] if is_list else value
        if media_type != JSON or isinstance(original, str):
            text = text.replace(STAND_IN, _encode_text(media_type, str(original)) + MARK)
        else:
            text = text.replace(f'"{STAND_IN}"', f"{original}{MARK}")
        kind = "JSON" if media_type == JSON else "form"
        yield replace(whole, parameter=f"{kind} {key}", headers={"Content-Type": media_type}, body=text)


def _encode(media_type: str, body: dict[str, Any]) -> str:
    return json.dumps(body, ensure_ascii=False) if media_type == JSON else urlencode(body)


def _encode_text(media_type: str, value: str) -> str:
    return json.dumps(value, ensure_ascii=False)[1:-1] if media_type == JSON else urlencode({"": value})[1:]
