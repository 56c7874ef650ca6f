"""The route of GraphQL."""

from __future__ import annotations

from fastapi import APIRouter, Response

from provider_registration.auth.dependencies import StaffDep
from provider_registration.graphql_api.dependencies import GraphQLBody, GraphQLExecutorDep
from provider_registration.web.routing import Route, direct, json_response

router = APIRouter(include_in_schema=False, route_class=Route)  # GraphQL describes its own schema

PATH = "/graphql"


@router.post(PATH)
@direct
async def execute_graphql(
    user: StaffDep,  # before the body, as for a decision
    body: GraphQLBody,
    executor: GraphQLExecutorDep,
) -> Response:
    """Read candidates with their events and similar companies, approvals and statistics, in one request.

    Only queries. Documents that are too deep, too large or too expensive are refused before anything is read. `cost`
    beyond 1,000 points counts as further requests against the rate limit.
    """
    return json_response(await executor.execute(body, user))
