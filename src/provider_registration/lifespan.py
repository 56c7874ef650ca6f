"""Opens and closes the services of the application, and runs its background tasks."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import aclosing, asynccontextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING

from provider_registration import __commit__, __version__
from provider_registration.activity.pruning import keep_pruning_events
from provider_registration.activity.service import ActivityService
from provider_registration.api_keys.service import ApiKeyService
from provider_registration.approvals.service import ApprovalService
from provider_registration.approvals.sweeper import keep_sweeping
from provider_registration.audit.service import AuditLog
from provider_registration.auth.keys import KeyVerifier, KnownKeys
from provider_registration.auth.passwords import PasswordHasher
from provider_registration.auth.revocations import RevocationWatch
from provider_registration.auth.service import AuthService
from provider_registration.auth.tokens import TokenSigner
from provider_registration.billing.systems import open_billing
from provider_registration.bulk.deciding import Deciding
from provider_registration.bulk.service import BulkService
from provider_registration.candidates.filling import keep_search_texts_filled
from provider_registration.candidates.service import CandidateService
from provider_registration.db.database import Database
from provider_registration.db.reading import Reader
from provider_registration.deliveries.service import DeliveryService
from provider_registration.deliveries.upkeep import keep_deliveries_up
from provider_registration.email_addresses import keep_canonical
from provider_registration.events.dispatcher import Dispatcher, keep_dispatching
from provider_registration.events.feed import Feed
from provider_registration.events.service import EventService
from provider_registration.events.stream import EventStreams
from provider_registration.graphql_api.side_loop import SideLoop
from provider_registration.health.readiness import Readiness
from provider_registration.idempotency.upkeep import keep_deleting_answers
from provider_registration.imports.registering import Registering
from provider_registration.imports.service import ImportService
from provider_registration.imports.upkeep import keep_deleting_imports
from provider_registration.jobs.runner import JobRunner
from provider_registration.jobs.service import JobService
from provider_registration.jobs.upkeep import keep_jobs_up
from provider_registration.notifications.opening import open_notifications, subscriptions_of
from provider_registration.notifications.sender import keep_mailing
from provider_registration.observability.metrics import BUILD_INFO, UP
from provider_registration.observability.standard_error import log_writer
from provider_registration.settings import Settings
from provider_registration.similar.filling import keep_keys_filled
from provider_registration.similar.service import SimilarService
from provider_registration.statistics.counting import keep_counting
from provider_registration.statistics.service import StatisticsService
from provider_registration.web.rate_limits import RateLimits
from provider_registration.web.server import STOPPING
from provider_registration.web.services import Application, Services
from provider_registration.webhooks.delivering import keep_delivering
from provider_registration.webhooks.opening import open_webhooks

if TYPE_CHECKING:
    from provider_registration.graphql_api.executing import GraphQLExecutor
    from provider_registration.observability.tracing import Tracing

# The share of DATABASE_TIMEOUT_SECONDS for the replica: if it hangs, there is time left for the primary.
REPLICA_SHARE = 0.5
DEFAULT_SOURCE = "/provider-registration"  # of published events, without PUBLIC_URL


@asynccontextmanager
async def lifespan(
    app: Application, *, settings: Settings, tracing: Tracing | None
) -> AsyncIterator[dict[str, asyncio.Event]]:
    """Open the services, start the background tasks, and yield the state with the shutdown event."""
    hasher, signer, limits = PasswordHasher(), app.services.get(TokenSigner), app.services.get(RateLimits)
    async with (
        tracing.exporting() if tracing else nullcontext(),
        _databases(settings, tracing) as (database, reserved, reader),
        aclosing(open_billing(settings, traces=[tracing.for_session()] if tracing else ())) as billing,
        _publishing(settings, database) as publish,
        aclosing(SideLoop()) if settings.graphql else nullcontext() as side_loop,
    ):
        revocations, keys = RevocationWatch(reserved), KeyVerifier(database, app.services.get(KnownKeys))
        auth = AuthService(database, hasher, signer, revocations, limits, keys)
        approvals = ApprovalService(database, reader, billing)
        candidates = CandidateService(
            database, reader, partial(signer.derive, "status-link"), creates_status_links=settings.public_pages
        )
        feed, deliveries = Feed(database), DeliveryService(database)
        streams = EventStreams(feed)
        jobs = JobService(database)
        imports = ImportService(database, jobs)
        notifications = open_notifications(settings, database, deliveries, candidates)
        webhooks = open_webhooks(settings, database, deliveries)
        app.services.add(
            billing,
            approvals,
            Readiness(reserved),
            auth,
            candidates,
            SimilarService(database),
            StatisticsService(database),
            EventService(database),
            feed,
            streams,
            deliveries,
            AuditLog(database),
            ApiKeyService(database, on_revoked=auth.note_revoked),
            ActivityService(database),
            webhooks.service,
            jobs,
            BulkService(database, jobs, candidates.browsing),
            imports,
        )
        if notifications:
            app.services.add(notifications)
        if side_loop:
            app.services.add(_graphql(settings, side_loop, app.services))
        background = [
            asyncio.create_task(keep_sweeping(approvals)),
            asyncio.create_task(keep_canonical(database)),
            asyncio.create_task(revocations.run()),
            asyncio.create_task(keys.run()),
            asyncio.create_task(keep_search_texts_filled(database)),
            asyncio.create_task(keep_keys_filled(database)),
            asyncio.create_task(streams.run()),
        ]
        if settings.workers:
            background += [
                asyncio.create_task(
                    keep_dispatching(Dispatcher(database, [*subscriptions_of(settings), *webhooks.subscriptions]))
                ),
                asyncio.create_task(keep_deleting_answers(database)),
                asyncio.create_task(keep_deliveries_up(deliveries, settings.retention_deliveries_days)),
                asyncio.create_task(keep_counting(database)),
            ]
            if settings.retention_events_days:
                background.append(
                    asyncio.create_task(keep_pruning_events(database, days=settings.retention_events_days))
                )
            if notifications:
                background.append(asyncio.create_task(keep_mailing(notifications)))
        if publish:
            background.append(asyncio.create_task(publish()))
        stopping = asyncio.Event()
        ends = [asyncio.create_task(approvals.stop(stopping))]
        if settings.workers and webhooks.deliverer:
            background.append(asyncio.create_task(keep_delivering(webhooks.deliverer)))
            ends.append(asyncio.create_task(webhooks.deliverer.stop(stopping)))
        if settings.workers:
            deciding = Deciding(database, candidates, approvals)
            kinds = {**deciding.kinds, **Registering(database, candidates).kinds}
            runner = JobRunner(database, jobs, kinds, known=deciding.known, may_act=auth.may_decide)
            background += [
                asyncio.create_task(runner.run()),
                asyncio.create_task(keep_jobs_up(jobs, settings.retention_jobs_days)),
                asyncio.create_task(keep_deleting_imports(imports)),
            ]
            ends.append(asyncio.create_task(runner.stop(stopping)))
        UP.set(1)
        BUILD_INFO.labels(__version__, __commit__).set(1)
        gc.freeze()  # objects created at startup stay: the collector can skip them
        yield {STOPPING: stopping}
        gc.unfreeze()
        UP.set(0)
        for task in background:
            task.cancel()
        stopping.set()
        await asyncio.gather(*ends)
        await asyncio.wait(background)  # for the e-mail under way
    hasher.close()
    log_writer.finish()  # uvicorn ends the process by a signal, without Python's cleanup


@asynccontextmanager
async def _databases(settings: Settings, tracing: Tracing | None) -> AsyncIterator[tuple[Database, Database, Reader]]:
    """The database, one reserved connection to it, and the reader for lists and candidates."""
    open_database = partial(
        Database,
        time_limit=settings.database_timeout_seconds,
        prepared_statements=settings.database_prepared_statements,
    )
    database = open_database(settings.database_url, pool_size=settings.database_pool_size)
    # So that probes and the check for ended sessions work when all other connections are in use.
    reserved = open_database(settings.database_url, pool_size=1)
    replica = None
    if settings.database_read_url:
        replica = open_database(
            settings.database_read_url,
            pool_size=settings.database_pool_size,
            time_limit=settings.database_timeout_seconds * REPLICA_SHARE,
            name="replica",
        )
    opened = [each for each in (database, reserved, replica) if each is not None]
    if tracing:
        for each in opened:
            tracing.watch(each.engine)
    try:
        yield database, reserved, Reader(database, replica)
    finally:
        for each in opened:
            await each.close()


@asynccontextmanager
async def _publishing(
    settings: Settings, database: Database
) -> AsyncIterator[Callable[[], Coroutine[None, None, None]] | None]:
    """The work of publishing events, with its connection to the broker; None if this process does not."""
    if not (settings.workers and settings.events_nats_url):
        yield None
        return
    from provider_registration.broker.jetstream import JetStream  # noqa: PLC0415 - its dependency is an extra
    from provider_registration.broker.publisher import Publisher, keep_publishing  # noqa: PLC0415 - as above

    source = f"{settings.public_url}{settings.root_path}" if settings.public_url else DEFAULT_SOURCE
    async with aclosing(JetStream(settings.events_nats_url.get_secret_value())) as jetstream:
        yield partial(keep_publishing, Publisher(database, jetstream, source=source))


def _graphql(settings: Settings, side_loop: SideLoop, services: Services) -> GraphQLExecutor:
    from provider_registration.graphql_api.executing import GraphQLExecutor  # noqa: PLC0415 - as above
    from provider_registration.graphql_api.loading import Sources  # noqa: PLC0415 - its dependencies are an extra

    sources = Sources(
        candidates=services.get(CandidateService),
        events=services.get(EventService),
        similar=services.get(SimilarService),
        approvals=services.get(ApprovalService),
        statistics=services.get(StatisticsService),
    )
    return GraphQLExecutor(
        sources,
        services.get(RateLimits),
        side_loop,
        allowed=frozenset(filter(None, settings.graphql_allowed.split(","))),
        shows_schema=settings.docs_access != "off",
    )
