"""Dependencies of the route of GraphQL."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends

from provider_registration.db.database import DatabaseUnavailable
from provider_registration.graphql_api.executing import GraphQLExecutor
from provider_registration.graphql_api.schemas import GraphQLRequest
from provider_registration.web.body import json_body
from provider_registration.web.services import provide

GraphQLExecutorDep = Annotated[GraphQLExecutor, Depends(provide(GraphQLExecutor, DatabaseUnavailable()))]
GraphQLBody = Annotated[GraphQLRequest, Depends(json_body(GraphQLRequest))]
