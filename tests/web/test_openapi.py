"""The OpenAPI document is valid, complete and correct."""

from __future__ import annotations

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from provider_registration import __version__
from provider_registration.app import create_app
from tests.service import MAIL

PROBLEM = "application/problem+json"
NULL = {"type": "null"}


@pytest.fixture(scope="session")
def operations(contract):
    """Every operation by name, such as `POST /candidates`."""
    return {
        f"{method.upper()} {path}": operation
        for path, methods in contract.document["paths"].items()
        for method, operation in methods.items()
    }


def examples_of(content):
    """The examples of one media type: of the body itself; empty if there are none."""
    if "example" in content:
        return [content["example"]]
    return [example["value"] for example in content.get("examples", {}).values()]


async def test_it_is_the_same_whatever_the_settings(contract, settings):
    off = {"public_pages": False, "docs_access": "off", "metrics_access": "off", "cors_allowed_origins": "*"}

    assert create_app(settings.model_copy(update=off)).openapi() == contract.document
    assert create_app(settings.model_copy(update=MAIL | {"admin_pages": True})).openapi() == contract.document
    assert contract.document["info"]["version"] == __version__


def test_nothing_that_a_client_may_omit_has_to_be_null_or_has_a_default_that_generators_require(contract, operations):
    for operation in operations.values():
        for parameter in operation.get("parameters", []):
            assert NULL not in parameter["schema"].get("anyOf", [])
            if parameter["name"] in ("limit", "page_size"):
                assert parameter["schema"]["default"] in (20, 100, 500)
    for schema in contract.document["components"]["schemas"].values():
        assert all("default" not in one for one in schema.get("properties", {}).values())


def test_the_description_of_a_refusal_names_all_its_examples(operations):
    for operation in operations.values():
        for response in operation["responses"].values():
            for example in response.get("content", {}).get(PROBLEM, {}).get("examples", {}).values():
                assert example["summary"] in response["description"]


def test_headers_have_their_types(operations):
    for operation in operations.values():
        for response in operation["responses"].values():
            if "Retry-After" in response.get("headers", {}):
                assert response["headers"]["Retry-After"]["schema"] == {"type": "integer"}
            assert response["description"] != "Successful Response"


def test_every_list_with_a_cursor_links_its_pages(operations):
    lists = {
        name: parameter["schema"]["type"]
        for name, operation in operations.items()
        for parameter in operation.get("parameters", [])
        if parameter["name"] == "cursor"
    }

    assert set(lists.values()) == {"string"}
    for name in lists:
        assert "Link" in operations[name]["responses"]["200"]["headers"], name


async def test_it_is_served_as_the_application_makes_it(anonymous, contract):
    response = await anonymous.get("/openapi.json")

    assert response.json() == contract.document


def test_it_is_valid(contract):
    OpenAPIV31SpecValidator(contract.document).validate()


def test_every_operation_has_a_summary_and_a_description(operations):
    lacking = [name for name, o in operations.items() if not (o.get("summary") and o.get("description"))]

    assert lacking == []


def test_every_parameter_has_a_description(operations):
    lacking = [
        (name, parameter["name"])
        for name, operation in operations.items()
        for parameter in operation.get("parameters", [])
        if not (parameter.get("description") or parameter["schema"].get("description"))
    ]

    assert lacking == []


def test_every_example_of_a_parameter_is_one_that_it_allows(contract, operations):
    for operation in operations.values():
        for parameter in operation.get("parameters", []):
            for example in parameter["schema"].get("examples", []):
                contract.validate(example, parameter["schema"])


def test_every_tag_has_a_description(contract, operations):
    described = {tag["name"] for tag in contract.document["tags"] if tag["description"]}

    assert {tag for operation in operations.values() for tag in operation["tags"]} == described


def test_every_request_body_has_examples_that_its_schema_allows(contract, operations):
    for name, operation in operations.items():
        for media_type, content in operation.get("requestBody", {}).get("content", {}).items():
            examples = examples_of(content)
            assert examples, f"{name} takes {media_type} without an example"
            for example in examples:
                contract.validate(example, content["schema"])


def test_every_response_has_examples_that_its_schema_allows(contract, operations):
    for name, operation in operations.items():
        for status, response in operation["responses"].items():
            for media_type, content in response.get("content", {}).items():
                examples = examples_of(content)
                assert examples, f"{name} answers {status} with {media_type} without an example"
                for example in examples:
                    contract.validate(example, content["schema"])


def test_every_example_of_a_schema_is_one_that_it_allows(contract):
    for name, schema in contract.document["components"]["schemas"].items():
        for example in schema.get("examples", []):
            contract.validate(example, {"$ref": f"#/components/schemas/{name}"})


def test_every_example_of_a_problem_is_of_the_status_it_stands_under(operations):
    for operation in operations.values():
        for status, response in operation["responses"].items():
            for example in examples_of(response.get("content", {}).get(PROBLEM, {})):
                assert str(example["status"]) == status
                assert example["type"].startswith("urn:problem-type:provider-registration:")


@pytest.mark.asvs("V4.1.1")
def test_every_refusal_is_a_problem_document(operations):
    others = {
        (name, status)
        for name, operation in operations.items()
        for status, response in operation["responses"].items()
        if int(status) >= 400 and set(response["content"]) != {PROBLEM}
    }

    assert others == {("GET /health", "503"), ("GET /health/ready", "503")}


def test_operations_that_need_a_token_say_so(operations):
    open_to_all = {name for name, operation in operations.items() if not operation.get("security")}

    assert open_to_all == {
        "POST /auth/login",
        "POST /auth/refresh",
        "POST /candidates",
        "GET /health",
        "GET /health/live",
        "GET /health/ready",
        "POST /applications/lost",
    }
    assert all(operation["security"] == [] for name, operation in operations.items() if name in open_to_all)


def test_every_operation_has_the_name_that_generated_clients_will_use(operations):
    assert operations["POST /candidates"]["operationId"] == "register_candidate"
    assert all(operation["operationId"].isidentifier() for operation in operations.values())


def test_every_link_leads_to_an_operation_and_gives_what_that_takes(operations):
    by_id = {operation["operationId"]: operation for operation in operations.values()}
    links = [
        link
        for operation in operations.values()
        for response in operation["responses"].values()
        for link in response.get("links", {}).values()
    ]

    assert links
    for link in links:
        target = by_id[link["operationId"]]
        assert set(link.get("parameters", {})) <= {parameter["name"] for parameter in target.get("parameters", [])}
        assert "requestBody" not in link or "requestBody" in target
