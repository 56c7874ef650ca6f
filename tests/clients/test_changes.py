"""The comparison of OpenAPI documents finds what breaks clients, and only that."""

from __future__ import annotations

import copy

import pytest

from tests.clients.changes import Comparison

DOCUMENT = {
    "paths": {
        "/things": {
            "get": {
                "operationId": "list_things",
                "summary": "List",
                "security": [{"Token": []}],
                "parameters": [
                    {"name": "limit", "in": "query", "required": False, "schema": {"type": "integer", "maximum": 100}},
                    {"name": "status", "in": "query", "schema": {"$ref": "#/components/schemas/Status"}},
                ],
                "responses": {
                    "200": {
                        "description": "OK",
                        "headers": {"Link": {"schema": {"type": "string"}}},
                        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Thing"}}},
                    },
                    "409": {"description": "Busy"},
                },
            },
            "post": {
                "operationId": "add_thing",
                "security": [],
                "requestBody": {
                    "required": True,
                    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/NewThing"}}},
                },
                "responses": {"201": {"description": "Added"}},
            },
        }
    },
    "components": {
        "schemas": {
            "Status": {"type": "string", "enum": ["open", "closed"]},
            "Thing": {
                "type": "object",
                "required": ["id", "parts"],
                "properties": {
                    "id": {"type": "string"},
                    "note": {"anyOf": [{"type": "string"}, {"type": "null"}]},
                    "status": {"$ref": "#/components/schemas/Status"},
                    "parts": {"type": "array", "items": {"$ref": "#/components/schemas/Thing"}},
                },
            },
            "NewThing": {
                "type": "object",
                "required": ["name"],
                "properties": {
                    "name": {"type": "string", "maxLength": 10},
                    "status": {"$ref": "#/components/schemas/Status"},
                    "note": {"anyOf": [{"type": "string", "maxLength": 5}, {"type": "null"}]},
                },
            },
        }
    },
}


def changes(change):
    """The changes after `change` of a copy: (breaks, text) each."""
    new = copy.deepcopy(DOCUMENT)
    change(new["paths"]["/things"], new["components"]["schemas"])
    return sorted({(each.breaks, each.what) for each in Comparison(DOCUMENT, new).changes()})


BREAKING = {
    "operation removed": lambda path, schemas: path.pop("post"),
    "operation renamed": lambda path, schemas: path["get"].update(operationId="get_things"),
    "now needs a token": lambda path, schemas: path["post"].update(security=[{"Token": []}]),
    "another token": lambda path, schemas: path["get"].update(security=[{"Other": []}]),
    "parameter removed": lambda path, schemas: path["get"]["parameters"].pop(),
    "parameter required": lambda path, schemas: path["get"]["parameters"][0].update(required=True),
    "required parameter added": lambda path, schemas: path["get"]["parameters"].append(
        {"name": "x", "in": "query", "required": True, "schema": {}}
    ),
    "parameter of another type": lambda path, schemas: path["get"]["parameters"][0]["schema"].update(type="string"),
    "smaller maximum": lambda path, schemas: path["get"]["parameters"][0]["schema"].update(maximum=50),
    "new minimum": lambda path, schemas: path["get"]["parameters"][0]["schema"].update(minimum=1),
    "filter value removed": lambda path, schemas: schemas["Status"]["enum"].pop(),
    "success removed": lambda path, schemas: path["get"]["responses"].pop("200"),
    "another success": lambda path, schemas: path["post"]["responses"].update({"202": {"description": "Later"}}),
    "header removed": lambda path, schemas: path["get"]["responses"]["200"]["headers"].clear(),
    "media type removed": lambda path, schemas: path["get"]["responses"]["200"]["content"].clear(),
    "field of a response removed": lambda path, schemas: schemas["Thing"]["properties"].pop("note"),
    "field of a response optional": lambda path, schemas: schemas["Thing"]["required"].remove("id"),
    "field of a response may be null": lambda path, schemas: schemas["Thing"]["properties"].update(
        id={"anyOf": [{"type": "string"}, {"type": "null"}]}
    ),
    "field of a response of another type": lambda path, schemas: schemas["Thing"]["properties"]["id"].update(
        type="integer"
    ),
    "field of a request removed": lambda path, schemas: schemas["NewThing"]["properties"].pop("note"),
    "required field added": lambda path, schemas: (
        schemas["NewThing"]["properties"].update(size={"type": "integer"}),
        schemas["NewThing"]["required"].append("size"),
    ),
    "field of a request required": lambda path, schemas: schemas["NewThing"]["required"].append("note"),
    "field of a request never null": lambda path, schemas: schemas["NewThing"]["properties"]["note"]["anyOf"].pop(),
    "shorter text": lambda path, schemas: schemas["NewThing"]["properties"]["note"]["anyOf"][0].update(maxLength=4),
    "new pattern": lambda path, schemas: schemas["NewThing"]["properties"]["name"].update(pattern="^a"),
}
COMPATIBLE = {
    "operation added": lambda path, schemas: path.update(delete={"responses": {"204": {"description": "Gone"}}}),
    "open to everyone": lambda path, schemas: path["get"].update(security=[]),
    "one more way to authenticate": lambda path, schemas: path["get"]["security"].append({"Key": []}),
    "optional parameter added": lambda path, schemas: path["get"]["parameters"].append(
        {"name": "x", "in": "query", "required": False, "schema": {}}
    ),
    "larger maximum": lambda path, schemas: path["get"]["parameters"][0]["schema"].update(maximum=200),
    "no maximum": lambda path, schemas: path["get"]["parameters"][0]["schema"].pop("maximum"),
    "value added": lambda path, schemas: schemas["Status"]["enum"].append("archived"),
    "refusal added": lambda path, schemas: path["get"]["responses"].update({"410": {"description": "Gone"}}),
    "refusal removed": lambda path, schemas: path["get"]["responses"].pop("409"),
    "header added": lambda path, schemas: path["post"]["responses"]["201"].update(headers={"Location": {}}),
    "field of a response added": lambda path, schemas: schemas["Thing"]["properties"].update(size={"type": "integer"}),
    "field of a response required": lambda path, schemas: schemas["Thing"]["required"].append("note"),
    "field of a response never null": lambda path, schemas: schemas["Thing"]["properties"]["note"]["anyOf"].pop(),
    "optional field added": lambda path, schemas: schemas["NewThing"]["properties"].update(size={"type": "integer"}),
    "field of a request optional": lambda path, schemas: schemas["NewThing"]["required"].clear(),
    "field of a request may be null": lambda path, schemas: schemas["NewThing"]["properties"].update(
        name={"anyOf": [{"type": "string", "maxLength": 10}, {"type": "null"}]}
    ),
    "longer text": lambda path, schemas: schemas["NewThing"]["properties"]["name"].update(maxLength=20),
    "body optional": lambda path, schemas: path["post"]["requestBody"].update(required=False),
}


@pytest.mark.parametrize("change", BREAKING.values(), ids=list(BREAKING))
def test_what_breaks_clients_is_found(change):
    assert any(breaks for breaks, _ in changes(change))


@pytest.mark.parametrize("change", COMPATIBLE.values(), ids=list(COMPATIBLE))
def test_what_the_policy_allows_breaks_nothing(change):
    assert not any(breaks for breaks, _ in changes(change))


def test_words_for_people_are_no_change():
    def reworded(path, schemas):
        path["get"]["summary"] = "List all"
        schemas["Thing"]["description"] = "A thing"

    assert changes(reworded) == []


def test_a_property_may_be_called_description():
    def renamed(_path, schemas):
        del schemas["Thing"]["properties"]["description"]

    DOCUMENT["components"]["schemas"]["Thing"]["properties"]["description"] = {"type": "string"}
    try:
        assert changes(renamed) == [(True, "property removed")]
    finally:
        del DOCUMENT["components"]["schemas"]["Thing"]["properties"]["description"]
