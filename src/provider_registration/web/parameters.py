"""Limits on query parameters: a maximum number, and no repetitions."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from provider_registration.web.problems import InvalidRequest, repeated

MAX_PARAMETERS = 50


def has_too_many(request: Request) -> bool:
    """Whether the query has too many parameters; it does not parse them."""
    query: bytes = request.scope["query_string"]
    return query.count(b"&") >= MAX_PARAMETERS


async def refuse_repeats(request: Request) -> None:
    """Refuse a query with too many parameters, or with a repeated one, which would be ambiguous.

    Raises:
        InvalidRequest: the query is refused.
    """
    if has_too_many(request):
        detail = f"There are more than {MAX_PARAMETERS} parameters"
        raise InvalidRequest.at("query", None, detail, code="too-many")
    if (name := repeated(name for name, _ in request.query_params.multi_items())) is not None:
        raise InvalidRequest.at("query", name, "The parameter is given more than once", code="repeated")


ParametersOnce = Annotated[None, Depends(refuse_repeats)]
