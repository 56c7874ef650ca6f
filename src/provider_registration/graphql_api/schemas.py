"""Request and response bodies of GraphQL over HTTP."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

MAX_QUERY_LENGTH = 10_000  # characters
MAX_NAME_LENGTH = 100  # characters of the name of an operation

EXAMPLE_QUERY = """\
query Pending($limit: Int) {
  candidates(filter: {status: pending}, limit: $limit) {
    candidates { candidate_id company_name events(limit: 5) { events { type at } } }
    pagination { total next_cursor }
  }
}"""
EXAMPLE_ANSWER: dict[str, Any] = {
    "data": {
        "candidates": {
            "candidates": [
                {
                    "candidate_id": "0b8f3c52-94b1-4c43-9f0e-6a1f5f2d7c11",
                    "company_name": "Huerta del Sol S.L.",
                    "events": {"events": [{"type": "candidate.registered", "at": "2026-03-14T09:26:53.589793Z"}]},
                }
            ],
            "pagination": {"total": 1, "next_cursor": None},
        }
    }
}


class GraphQLRequest(BaseModel):
    """A GraphQL document, and what it is executed with."""

    model_config = ConfigDict(extra="forbid")

    query: str = Field(min_length=1, max_length=MAX_QUERY_LENGTH, description="The document, with queries only")
    operation_name: Annotated[str, Field(max_length=MAX_NAME_LENGTH)] | None = Field(
        None, alias="operationName", description="Which of its operations to execute, if it has several"
    )
    variables: dict[str, Any] | None = Field(None, description="The values of its variables")
    extensions: dict[str, Any] | None = Field(None, description="Accepted, and ignored")


class GraphQLLocation(BaseModel):
    """A place in the document."""

    line: int
    column: int


class GraphQLErrorResponse(BaseModel):
    """What is wrong with the document, or with one of its fields."""

    message: str
    locations: list[GraphQLLocation] | None = None
    path: list[str | int] | None = Field(None, description="The field in `data` that is null because of this")
    extensions: dict[str, Any] = Field(
        description="`code`: as in problem documents; `retry_after`: seconds; `errors`: as in a problem document"
    )


class GraphQLResponse(BaseModel):
    """The result of a GraphQL document."""

    data: dict[str, Any] | None = Field(None, description="Missing if the document was not executed")
    errors: list[GraphQLErrorResponse] | None = Field(None, description="Missing if there are none")
