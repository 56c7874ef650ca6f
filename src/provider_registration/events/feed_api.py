"""The routes of the feed: pages, and a stream of server-sent events (HTML Living Standard, section 9.2)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, aclosing
from functools import lru_cache
from time import monotonic
from typing import Annotated

from fastapi import APIRouter, Header, Query, Request
from fastapi.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from provider_registration.auth.dependencies import AuditorDep, AuthServiceDep, FollowerDep
from provider_registration.db.database import DatabaseUnavailable
from provider_registration.events.dependencies import EventStreamsDep, FeedDep
from provider_registration.events.errors import CursorExpired, CursorUnknown, TooManyStreams
from provider_registration.events.models import FeedEvent
from provider_registration.events.schemas import (
    EXAMPLE_FEED,
    EXAMPLE_STREAM,
    LATEST,
    FeedEventResponse,
    FeedQuery,
    FeedResponse,
    StreamQuery,
    position_of,
)
from provider_registration.events.stream import MAX_STREAMS, REMEMBERED, RETRY_SECONDS
from provider_registration.web.head_requests import HeadersOnly, no_parts
from provider_registration.web.openapi import links, refuses, success
from provider_registration.web.parameters import ParametersOnce
from provider_registration.web.preconditions import LIST_HEADERS, RevalidationDep, not_modified
from provider_registration.web.problems import InvalidRequest
from provider_registration.web.routing import Route, direct
from provider_registration.web.server import STOPPING

router = APIRouter(tags=["events"], route_class=Route)

COMMENT_SECONDS = 15.0  # without an event; shorter than gateways wait
RETRY = "retry: 2000\n"  # milliseconds until a client connects again
STREAM_SECONDS = 15 * 60.0  # then the client connects again, with a session that is checked again
# nginx would buffer the events: https://nginx.org/en/docs/http/ngx_http_proxy_module.html#proxy_buffering
STREAM_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


@router.get(
    "/events",
    summary="Read the feed of events",
    response_model=FeedResponse,
    responses=success(
        200,
        "Some events, oldest first",
        EXAMPLE_FEED,
        LIST_HEADERS,
        links("read_events", parameters={"after": "$response.body#/next_after"}),
    )
    | not_modified(LIST_HEADERS),
)
@refuses(
    CursorExpired(),
    CursorUnknown(),
    InvalidRequest.at("query", "limit", "Input should be less than or equal to 1000", code="too-large"),
)
@direct
async def read_events(
    query: Annotated[FeedQuery, Query()],
    feed: FeedDep,
    _user: AuditorDep,
    _once: ParametersOnce,
    revalidation: RevalidationDep,
) -> Response:
    """Read what happened to candidates after a cursor: every event once, in an order that does not change."""
    if query.after == LATEST:
        found = FeedResponse(events=[], next_after=str(await feed.last_position()))
    else:
        after = position_of(query.after) if query.after is not None else None
        found = FeedResponse.of(await feed.page(after, limit=query.limit, types=query.wanted))
    return revalidation.respond(found.model_dump_json())


@router.get(
    "/events/stream",
    summary="Follow the feed of events",
    response_class=StreamingResponse,
    responses={
        200: {
            "description": "Server-sent events; `id` is the cursor",
            "content": {"text/event-stream": {"schema": {"type": "string"}, "example": EXAMPLE_STREAM}},
        }
    },
)
@refuses(
    TooManyStreams(RETRY_SECONDS, MAX_STREAMS),
    InvalidRequest.at("query", "after", "String should match pattern '^([0-9]{1,18}|latest)$'"),
)
async def stream_events(
    request: Request,
    query: Annotated[StreamQuery, Query()],
    streams: EventStreamsDep,
    feed: FeedDep,
    auth: AuthServiceDep,
    user: FollowerDep,
    headers_only: HeadersOnly,
    _once: ParametersOnce,
    last_event_id: Annotated[str | None, Header(description="Continue after this `id:` line; browsers send it")] = None,
) -> StreamingResponse:
    """Follow what happens to candidates. Without a cursor, it begins with the next event.

    An event `resync` means that events after the cursor are not kept: read the candidates again, then continue after
    its `next_after`.
    """
    cursor = last_event_id or query.after or LATEST
    if cursor == LATEST:  # read before the response begins: a client that sees it begin misses no later event
        cursor = str(await feed.last_position())
    stopping: asyncio.Event = request.scope["state"][STOPPING]

    async def frames() -> AsyncIterator[str]:
        began = sent = monotonic()
        try:
            start = position_of(cursor)
            yield f"id: {start}\n{RETRY}\n"  # so that a client whose stream is cut before an event misses none
            async with aclosing(streams.follow(start, query.wanted)) as following:
                async for position, events in following:
                    now = monotonic()
                    if events:
                        yield "".join(_frame(event) for event in events)
                        sent = now
                    elif now - sent > COMMENT_SECONDS:
                        yield f"id: {position}\n: nothing new\n\n"
                        sent = now
                    if stopping.is_set() or now - began > STREAM_SECONDS or await auth.has_ended(user):
                        return
        except (CursorExpired, CursorUnknown):
            last = await feed.last_position()
            yield f"id: {last}\n{RETRY}event: resync\ndata: {json.dumps({'next_after': str(last)})}\n\n"
        except DatabaseUnavailable:
            return  # the client connects again

    return _AdmittedStream(streams.admit(user.credential_id), no_parts() if headers_only else frames())


class _AdmittedStream(StreamingResponse):
    """A stream that is counted while it is open."""

    def __init__(self, admission: AbstractContextManager[None], frames: AsyncIterator[str]) -> None:
        super().__init__(frames, media_type="text/event-stream", headers=STREAM_HEADERS)
        self._admission = admission

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._admission:
            await super().__call__(scope, receive, send)


@lru_cache(REMEMBERED)  # for all streams
def _frame(event: FeedEvent) -> str:
    return f"id: {event.position}\ndata: {FeedEventResponse.of(event).model_dump_json()}\n\n"
