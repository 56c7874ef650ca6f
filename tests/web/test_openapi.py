"""The OpenAPI document is valid, complete and correct, and a client can be generated from it."""

from __future__ import annotations

import asyncio
import copy
import importlib
import json
import subprocess
import sys

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

PROBLEM = "application/problem+json"


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
        "GET /metrics",
    }


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


def generate_client(document, folder):
    """Generate a Python client; returns the folder of its package."""
    # openapi-python-client 0.29 forgets an import where a body may have two media types.
    document = copy.deepcopy(document)
    del document["paths"]["/auth/login"]["post"]["requestBody"]["content"]["application/x-www-form-urlencoded"]
    (folder / "openapi.json").write_text(json.dumps(document))
    (folder / "config.yml").write_text("post_hooks: []\nhttp_timeout: 30\n")
    package = folder / "generated_client"
    command = [sys.executable, "-m", "openapi_python_client", "generate", "--meta", "none", "--fail-on-warning"]
    command += ["--path", folder / "openapi.json", "--config", folder / "config.yml", "--output-path", package]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return package


async def test_a_client_can_be_generated_from_it_that_works(contract, service, tmp_path, monkeypatch, registration):
    package = await asyncio.to_thread(generate_client, contract.document, tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    files = sorted(package.rglob("*.py"))
    modules = {file.stem: importlib.import_module(module_name(file, tmp_path)) for file in files}
    new = registration()

    async with modules["client"].Client(base_url=service.url) as client:
        body = modules["candidate_registration"].CandidateRegistration.from_dict(new)
        candidate = await modules["register_candidate"].asyncio(client=client, body=body)

    assert candidate.company_name == new["company_name"]
    assert str(candidate.status) == "pending"


def module_name(file, root):
    """Dotted name of the module in a file below `root`."""
    parts = file.relative_to(root).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")
