"""Executes GraphQL documents: within limits that are checked, and counted, before anything is read."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass

from graphql import (
    DocumentNode,
    ExecutionResult,
    GraphQLError,
    NoSchemaIntrospectionCustomRule,
    execute,
    specified_rules,
    validate,
)

from provider_registration.auth.models import Caller
from provider_registration.errors import ServiceError
from provider_registration.graphql_api.errors import GraphQLNotAllowed, GraphQLTimeout
from provider_registration.graphql_api.fields import make_schema
from provider_registration.graphql_api.limits import COST_OF_A_REQUEST, check_size, parse_bounded
from provider_registration.graphql_api.loading import Loading, Sources
from provider_registration.graphql_api.responses import refusal_of, response_of
from provider_registration.graphql_api.schemas import GraphQLRequest
from provider_registration.graphql_api.side_loop import SideLoop
from provider_registration.web.rate_limits import RateLimits

MAX_ERRORS = 20  # of one document
MAX_SECONDS = 5  # for one document


@dataclass(frozen=True, slots=True)
class _Checked:
    """A document that may be executed."""

    document: DocumentNode
    cost: int


class GraphQLExecutor:
    """Executes documents, on a side loop."""

    def __init__(
        self, sources: Sources, limits: RateLimits, side_loop: SideLoop, *, allowed: frozenset[str], shows_schema: bool
    ) -> None:
        """`allowed`: SHA-256 hashes of the only documents that are executed; empty: all are."""
        self._sources = sources
        self._limits = limits
        self._allowed = allowed
        self._shows_schema = shows_schema
        self._schema = make_schema()
        self._rules = [*specified_rules, *([] if shows_schema else [NoSchemaIntrospectionCustomRule])]
        self._side_loop = side_loop

    async def execute(self, request: GraphQLRequest, caller: Caller) -> str:
        """The result of a document as JSON. What is wrong with the document is in its `errors`.

        Raises:
            TooManyRequests: it costs more than the caller may still ask for.
        """
        checked = await self._side_loop.run(self._check(request))
        if isinstance(checked, str):
            return checked
        if further := checked.cost // COST_OF_A_REQUEST:  # the request itself is counted already
            await self._limits.count_request(str(caller.credential_id), further)
        loading = Loading(self._sources, caller, asyncio.get_running_loop())
        return await self._side_loop.run(self._execute(checked.document, request, loading))

    async def _check(self, request: GraphQLRequest) -> _Checked | str:
        """The document, or the response that refuses it."""
        try:
            if self._allowed and hashlib.sha256(request.query.encode()).hexdigest() not in self._allowed:
                raise GraphQLNotAllowed
            document = parse_bounded(request.query)
            cost = check_size(self._schema, document, request.variables or {})
        except (ServiceError, GraphQLError) as error:
            return refusal_of([error])
        errors = validate(
            self._schema, document, self._rules, max_errors=MAX_ERRORS, hide_suggestions=not self._shows_schema
        )
        return refusal_of(errors) if errors else _Checked(document, cost)

    async def _execute(self, document: DocumentNode, request: GraphQLRequest, loading: Loading) -> str:
        try:
            async with asyncio.timeout(MAX_SECONDS):
                result = execute(
                    self._schema,
                    document,
                    context_value=loading,
                    variable_values=request.variables,
                    operation_name=request.operation_name,
                    max_coercion_errors=MAX_ERRORS,
                    hide_suggestions=not self._shows_schema,
                )
                if not isinstance(result, ExecutionResult):
                    result = await result
        except TimeoutError:
            return refusal_of([GraphQLTimeout(MAX_SECONDS)])
        return response_of(result)
