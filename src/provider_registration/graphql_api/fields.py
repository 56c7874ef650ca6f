"""The schema: the fields of a query, with the same permissions, filters and values as the API."""

from __future__ import annotations

import json
from typing import Annotated, Any, TypeVar
from uuid import UUID

import strawberry
from graphql import GraphQLSchema
from pydantic import BaseModel, ValidationError
from strawberry.schema.config import StrawberryConfig
from strawberry.types import Info

from provider_registration.approvals.schemas import ApprovalDetailResponse, ApprovalListQuery, ApprovalListResponse
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
from provider_registration.web.pagination import Pagination
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


async def read_events(
    root: strawberry.Parent[Any], info: LoadingInfo, limit: int | None = None, cursor: str | None = None
) -> Record:
    """What happened to the candidate, newest first."""
    query = checked(EventQuery, limit=limit, cursor=cursor)
    wanted = EventsWanted(UUID(root["candidate_id"]), query.limit, query.cursor)
    return await info.context.events.load(wanted)


async def read_similar(root: strawberry.Parent[Any], info: LoadingInfo) -> list[Record]:
    """At most 20 candidates that may be the same company, the likeliest first."""
    return await info.context.similar.load(company_of(root))


TYPES.extend(
    CandidateResponse,
    events=strawberry.field(
        read_events, graphql_type=TYPES.output(EventListResponse) | None, description=read_events.__doc__
    ),
    similar=strawberry.field(
        read_similar, graphql_type=list[TYPES.output(SimilarResponse)] | None, description=read_similar.__doc__
    ),
)


@strawberry.type(description="Everything that can be read.")
class Query:
    """The fields of a query."""

    @strawberry.field(
        graphql_type=TYPES.output(CandidateListResponse) | None,
        description="Candidates, newest first or by `sort`; go on with `pagination.next_cursor`.",
    )
    async def candidates(
        self,
        info: LoadingInfo,
        filter: CandidateFilter | None = None,  # type: ignore[valid-type]  # noqa: A002 - its name in the schema
        sort: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
        offset: int | None = None,
    ) -> Record:
        """As `GET /candidates`."""
        arguments = given(filter) | {"sort": sort, "limit": limit, "cursor": cursor, "offset": offset}
        query = checked(CandidateListQuery, **arguments)
        loading, page = info.context, query.to_page()
        found = await loading.read(loading.sources.candidates.list_candidates(query.selection, page))
        pagination = found.pagination(page, query.order).model_dump(mode="json")
        return {"candidates": json.loads(found.records), "pagination": pagination}

    @strawberry.field(graphql_type=TYPES.output(CandidateResponse) | None, description="One candidate.")
    async def candidate(self, info: LoadingInfo, candidate_id: strawberry.ID) -> Record:
        """As `GET /candidates/{candidate_id}`."""
        return await info.context.candidate.load(checked(CandidateQuery, candidate_id=candidate_id).candidate_id)

    @strawberry.field(
        graphql_type=TYPES.output(ApprovalListResponse) | None,
        description="Approvals that billing has not confirmed yet, oldest first; for auditors and admins.",
    )
    async def approvals(
        self,
        info: LoadingInfo,
        state: ApprovalStateKind | None = None,  # type: ignore[valid-type]
        limit: int | None = None,
        offset: int | None = None,
    ) -> Record:
        """As `GET /approvals`."""
        loading = info.context
        if not loading.caller.may_audit:
            raise RoleNotAllowed(AUDITOR_OR_ADMIN)
        query = checked(ApprovalListQuery, state=state, limit=limit, offset=offset)
        page = query.to_page()
        found, total = await loading.read(loading.sources.approvals.list_unfinished(page, state=query.state))
        approvals = [ApprovalDetailResponse.model_validate(approval) for approval in found]
        return ApprovalListResponse(approvals=approvals, pagination=Pagination.of(page, total)).model_dump(mode="json")

    @strawberry.field(
        graphql_type=TYPES.output(StatisticsResponse) | None,
        description="Registrations and decisions by day, week or month; `by: decided_by` is for auditors and admins.",
    )
    async def statistics(
        self,
        info: LoadingInfo,
        first: Annotated[Date | None, strawberry.argument(name="from")] = None,
        last: Annotated[Date | None, strawberry.argument(name="to")] = None,
        interval: IntervalKind | None = None,  # type: ignore[valid-type]
        by: GroupingKind | None = None,  # type: ignore[valid-type]
    ) -> Record:
        """As `GET /statistics`."""
        query = checked(StatisticsQuery, **{"from": first, "to": last, "interval": interval, "by": by})
        loading = info.context
        if query.by is Grouping.DECIDED_BY and not loading.caller.may_audit:
            raise RoleNotAllowed(AUDITOR_OR_ADMIN)
        body = statistics_body(await loading.read(loading.sources.statistics.read(query.to_period())))
        return body | {"first": body["from"], "last": body["to"]}


def make_schema() -> GraphQLSchema:
    """The schema; names are those of the API."""
    config = StrawberryConfig(auto_camel_case=False, default_resolver=read, scalar_map=SCALARS)
    return strawberry.Schema(Query, config=config)._schema
