"""The request body of GraphQL over HTTP."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

MAX_QUERY_LENGTH = 10_000  # characters
MAX_NAME_LENGTH = 100  # characters of the name of an operation


class GraphQLRequest(BaseModel):
    """A GraphQL document, and what it is executed with."""

    model_config = ConfigDict(extra="forbid")

    query: str = Field(min_length=1, max_length=MAX_QUERY_LENGTH, description="The document, with queries only")
    operation_name: Annotated[str, Field(max_length=MAX_NAME_LENGTH)] | None = Field(
        None, alias="operationName", description="Which of its operations to execute, if it has several"
    )
    variables: dict[str, Any] | None = Field(None, description="The values of its variables")
    extensions: dict[str, Any] | None = Field(None, description="Accepted, and ignored")
