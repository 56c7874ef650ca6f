"""The route of GraphQL."""

from __future__ import annotations

from fastapi import APIRouter, Response

from provider_registration.auth.dependencies import StaffDep
from provider_registration.graphql_api.dependencies import GraphQLBody, GraphQLExecutorDep
from provider_registration.graphql_api.schemas import EXAMPLE_ANSWER, EXAMPLE_QUERY, GraphQLRequest, GraphQLResponse
from provider_registration.web.openapi import refuses, request_body, success
from provider_registration.web.problems import InvalidRequest
from provider_registration.web.routing import Route, direct, json_response

router = APIRouter(tags=["GraphQL"], route_class=Route)

PATH = "/graphql"


@router.post(
    PATH,
    summary="Execute a GraphQL query",
    response_model=GraphQLResponse,
    response_model_exclude_unset=True,
    responses=success(200, "The data, or what is wrong with the document", EXAMPLE_ANSWER),
    openapi_extra=request_body(
        ("application/json", GraphQLRequest, {"With variables": {"query": EXAMPLE_QUERY, "variables": {"limit": 1}}})
    ),
)
@refuses(InvalidRequest.at("body", "query", "Field required"))
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
