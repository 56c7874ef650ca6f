"""Query parameters: each one once."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from provider_registration.web.problems import FieldError, InvalidRequest


async def refuse_repeats(request: Request) -> None:
    """Refuse a query that gives a parameter twice: which of the two is meant is anyone's guess.

    Raises:
        InvalidRequest: it does.
    """
    names = [name for name, _ in request.query_params.multi_items()]
    if len(set(names)) < len(names):
        raise InvalidRequest([FieldError(location="query", field=None, detail="A parameter is given more than once")])


ParametersOnce = Annotated[None, Depends(refuse_repeats)]
