"""A service with GraphQL, whose queries use connections of their own, so that their statements can be counted."""

from __future__ import annotations

import pytest
from sqlalchemy import event

from provider_registration.app import create_app
from provider_registration.approvals.service import ApprovalService
from provider_registration.billing.client import BillingClient
from provider_registration.candidates.service import CandidateService
from provider_registration.db.database import Database
from provider_registration.db.reading import Reader
from provider_registration.events.service import EventService
from provider_registration.graphql_api.executing import GraphQLExecutor
from provider_registration.graphql_api.loading import Sources
from provider_registration.graphql_api.side_loop import SideLoop
from provider_registration.similar.service import SimilarService
from provider_registration.statistics.service import StatisticsService
from provider_registration.web.rate_limits import RateLimits
from tests.running_service import Contract, checked_by, serving


@pytest.fixture(scope="session")
def with_graphql(settings):
    """Settings with GraphQL."""
    return settings.model_copy(update={"graphql": True})


@pytest.fixture(scope="module")
async def service(with_graphql):
    """The service, with GraphQL."""
    async with serving(with_graphql) as service:
        yield service


@pytest.fixture(scope="session")
def contract(with_graphql):
    """Its OpenAPI document."""
    return Contract.of(create_app(with_graphql))


@pytest.fixture(scope="session")
def connect(contract):
    """Makes clients, as elsewhere, of this contract."""
    return checked_by(contract)


@pytest.fixture(scope="module")
async def database(with_graphql):
    """The connections of queries."""
    database = Database(with_graphql.database_url, pool_size=5, time_limit=10)
    yield database
    await database.close()


@pytest.fixture(scope="module")
async def make_graphql(service, database):
    """Makes what executes queries."""
    loops = []
    services = service.app.services

    def make_graphql(*, allowed=frozenset(), shows_schema=True, limits=None):
        loops.append(SideLoop())
        sources = Sources(
            candidates=CandidateService(database, Reader(database, None), lambda _text: [], creates_status_links=False),
            events=EventService(database),
            similar=SimilarService(database),
            approvals=ApprovalService(database, Reader(database, None), services.get(BillingClient)),
            statistics=StatisticsService(database),
        )
        return GraphQLExecutor(
            sources, limits or services.get(RateLimits), loops[-1], allowed=allowed, shows_schema=shows_schema
        )

    yield make_graphql
    for loop in loops:
        await loop.aclose()


@pytest.fixture
def statements(service, database, make_graphql):
    """The statements of the queries of a test."""
    executed = []

    def note(_connection, _cursor, statement, *_):
        executed.append(statement)

    before = service.app.services.get(GraphQLExecutor)
    service.app.services.add(make_graphql())
    event.listen(database.engine, "before_cursor_execute", note)
    yield executed
    event.remove(database.engine, "before_cursor_execute", note)
    service.app.services.add(before)


@pytest.fixture
def ask():
    """Sends a document; returns its data, which has no errors."""

    async def ask(client, query, **variables):
        response = await client.post("/graphql", json={"query": query, "variables": variables})
        assert response.status_code == 200, response.text
        assert "errors" not in response.json(), response.text
        return response.json()["data"]

    return ask


@pytest.fixture
def refused():
    """Sends a document; returns the code of each of its errors."""

    async def refused(client, query, **variables):
        response = await client.post("/graphql", json={"query": query, "variables": variables})
        assert response.status_code == 200, response.text
        return [error["extensions"]["code"] for error in response.json()["errors"]]

    return refused
