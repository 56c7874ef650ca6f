"""The JSON of responses, with the errors of the service in `errors[]`."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from typing import Any

from graphql import ExecutionResult, GraphQLError

from provider_registration.errors import ServiceError
from provider_registration.web.problems import InvalidRequest

logger = logging.getLogger(__name__)

INVALID = InvalidRequest.code
UNEXPECTED = {
    "message": "The service failed to read this; the operator can find the reason in its log.",
    "extensions": {"code": "internal-error"},
}
MAX_MESSAGE_LENGTH = 500  # characters: some messages repeat a part of the document


def response_of(result: ExecutionResult) -> str:
    """The response with the result of an execution."""
    errors = [_described(error) for error in result.errors or ()]
    return json.dumps(({"errors": errors} if errors else {}) | {"data": result.data}, separators=(",", ":"))


def refusal_of(errors: Sequence[GraphQLError | ServiceError]) -> str:
    """The response without data: the document was not executed."""
    return json.dumps({"errors": [_described(error) for error in errors]}, separators=(",", ":"))


def _described(error: GraphQLError | ServiceError) -> dict[str, Any]:
    if isinstance(error, ServiceError):
        return _of_service(error)
    described: dict[str, Any] = {}
    if error.locations:
        described["locations"] = [{"line": each.line, "column": each.column} for each in error.locations]
    if error.path is not None:
        described["path"] = list(error.path)
    cause = error.original_error
    if isinstance(cause, ServiceError):
        return described | _of_service(cause)
    if error.path is None or cause is None or isinstance(cause, GraphQLError):  # of the document or its variables
        message = error.message[:MAX_MESSAGE_LENGTH]
        return described | {"message": message, "extensions": {"code": INVALID}}
    logger.error("a field of a GraphQL document failed", exc_info=cause)
    return described | UNEXPECTED


def _of_service(error: ServiceError) -> dict[str, Any]:
    extensions: dict[str, Any] = {"code": error.code}
    if error.retry_after is not None:
        extensions["retry_after"] = error.retry_after
    if isinstance(error, InvalidRequest):
        extensions["errors"] = [field_error.model_dump() for field_error in error.errors]
    return {"message": str(error), "extensions": extensions}
