"""The schema: the fields of a query, with the same permissions, filters and values as the API."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Annotated, Any, TypeVar
from uuid import UUID

import strawberry
from graphql import GraphQLSchema
from pydantic import BaseModel, ValidationError
from strawberry.schema.config import StrawberryConfig
from strawberry.types import Info

from provider_registration.approvals.schemas import ApprovalListQuery, ApprovalListResponse
from provider_registration.auth.dependencies import AUDITOR_OR_ADMIN
from provider_registration.auth.errors import RoleNotAllowed
from provider_registration.candidates.models import ApprovalState
from provider_registration.candidates.schemas import (
    CandidateFilterQuery,
    CandidateListQuery,
    CandidateListResponse,
    CandidateResponse,
)
from provider_registration.events.models import EventsWanted
from provider_registration.events.schemas import EventListResponse, EventQuery
from provider_registration.graphql_api.loading import Loading, Record, company_of
from provider_registration.graphql_api.records import (
    SCALARS,
    Date,
    Types,
    given,
    plain,
    read,
)
from provider_registration.similar.schemas import SimilarResponse
from provider_registration.statistics.models import Grouping, Interval
from provider_registration.statistics.schemas import StatisticsQuery, StatisticsResponse, statistics_body
from provider_registration.web.problems import InvalidRequest, field_errors

Asked = TypeVar("Asked", bound=BaseModel)

TYPES = Types()
LoadingInfo = Info[Loading, None]
CandidateFilter = TYPES.filters(CandidateFilterQuery, "CandidateFilter")
ApprovalStateKind = TYPES.kind(ApprovalState)
IntervalKind = TYPES.kind(Interval)
GroupingKind = TYPES.kind(Grouping)


class CandidateQuery(BaseModel):
    """Which candidate to read."""

    candidate_id: UUID


def checked(kind: type[Asked], **arguments: object) -> Asked:
    """The arguments of a field by the rules of the API; null is the same as none.

    Raises:
        InvalidRequest: they break one.
    """
    try:
        return kind.model_validate({name: plain(value) for name, value in arguments.items() if value is not None})
    except ValidationError as error:
        details = error.errors(include_url=False, include_input=False)
        raise InvalidRequest(field_errors(details, location="query")) from None


def field(resolver: Callable[..., Any], result: object) -> Any:  # noqa: ANN401 - strawberry gives it its type
    """A field that may be null, so that its error leaves the others."""
    return strawberry.field(resolver=resolver, graphql_type=TYPES.kind(result), description=resolver.__doc__)


async def read_events(
    root: strawberry.Parent[Any], info: LoadingInfo, limit: int | None = None, cursor: str | None = None
) -> Record:
    """What happened to the candidate, newest first."""
    query = checked(EventQuery, limit=limit, cursor=cursor)
    return await info.context.events.load(EventsWanted(UUID(root["candidate_id"]), query.limit, query.cursor))


async def read_similar(root: strawberry.Parent[Any], info: LoadingInfo) -> list[Record]:
    """At most 20 candidates that may be the same company, the likeliest first."""
    return await info.context.similar.load(company_of(root))


TYPES.extend(
    CandidateResponse,
    events=field(read_events, EventListResponse | None),
    similar=field(read_similar, list[SimilarResponse] | None),
)


async def read_candidates(
    info: LoadingInfo,
    filter: CandidateFilter | None = None,  # type: ignore[valid-type]  # noqa: A002 - its name in the schema
    sort: str | None = None,
    limit: int | None = None,
    cursor: str | None = None,
    offset: int | None = None,
) -> Record:
    """Candidates, newest first or by `sort`, as in `GET /candidates`; continue with `pagination.next_cursor`."""
    arguments = given(filter) | {"sort": sort, "limit": limit, "cursor": cursor, "offset": offset}
    query = checked(CandidateListQuery, **arguments)
    loading, page = info.context, query.to_page()
    found = await loading.read(loading.sources.candidates.list_candidates(query.selection, page))
    pagination = found.pagination(page, query.order).model_dump(mode="json")
    return {"candidates": json.loads(found.records), "pagination": pagination}


async def read_candidate(info: LoadingInfo, candidate_id: strawberry.ID) -> Record:
    """One candidate."""
    return await info.context.candidate.load(checked(CandidateQuery, candidate_id=candidate_id).candidate_id)


async def read_approvals(
    info: LoadingInfo,
    state: ApprovalStateKind | None = None,  # type: ignore[valid-type]
    limit: int | None = None,
    cursor: str | None = None,
    offset: int | None = None,
) -> Record:
    """Approvals that billing has not confirmed, oldest first, for auditors and admins; continue as in `candidates`."""
    loading = info.context
    if not loading.caller.may_audit:
        raise RoleNotAllowed(AUDITOR_OR_ADMIN)
    query = checked(ApprovalListQuery, state=state, limit=limit, cursor=cursor, offset=offset)
    page = query.to_page()
    found = await loading.read(loading.sources.approvals.list_unfinished(page, state=query.state))
    return ApprovalListResponse.of(found, page).model_dump(mode="json")


async def read_statistics(
    info: LoadingInfo,
    first: Annotated[Date | None, strawberry.argument(name="from")] = None,
    last: Annotated[Date | None, strawberry.argument(name="to")] = None,
    interval: IntervalKind | None = None,  # type: ignore[valid-type]
    by: GroupingKind | None = None,  # type: ignore[valid-type]
) -> Record:
    """Registrations and decisions by day, week or month; `by: decided_by` is for auditors and admins."""
    query = checked(StatisticsQuery, **{"from": first, "to": last, "interval": interval, "by": by})
    loading = info.context
    if query.by is Grouping.DECIDED_BY and not loading.caller.may_audit:
        raise RoleNotAllowed(AUDITOR_OR_ADMIN)
    body = statistics_body(await loading.read(loading.sources.statistics.read(query.to_period())))
    return body | {"first": body["from"], "last": body["to"]}


@strawberry.type(description="Everything that can be read.")
class Query:
    """The fields of a query."""

    candidates = field(read_candidates, CandidateListResponse | None)
    candidate = field(read_candidate, CandidateResponse | None)
    approvals = field(read_approvals, ApprovalListResponse | None)
    statistics = field(read_statistics, StatisticsResponse | None)


def make_schema() -> GraphQLSchema:
    """The schema; names are those of the API."""
    config = StrawberryConfig(auto_camel_case=False, default_resolver=read, scalar_map=SCALARS)
    return strawberry.Schema(Query, config=config)._schema
