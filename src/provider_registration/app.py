"""The application: its routes and middleware."""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel
from starlette.middleware import Middleware
from starlette.routing import BaseRoute
from starlette.types import Scope

from provider_registration import __version__
from provider_registration.activity.api import router as activity_router
from provider_registration.api_keys.api import router as api_keys_router
from provider_registration.api_keys.schemas import ApiKeyRequest
from provider_registration.applicants.installation import APPLICANTS_FOLDER, APPLICANTS_HOMES, install_applicants
from provider_registration.applicants.lost import APPLY
from provider_registration.approvals.api import router as approvals_router
from provider_registration.approvals.schemas import ResolutionRequest
from provider_registration.auth.api import router as auth_router
from provider_registration.auth.dependencies import require_staff
from provider_registration.auth.errors import NotAuthenticated
from provider_registration.auth.keys import KnownKeys
from provider_registration.auth.schemas import LoginRequest, RefreshRequest
from provider_registration.auth.tokens import TokenSigner
from provider_registration.bulk.api import router as bulk_router
from provider_registration.bulk.schemas import DecisionsRequest
from provider_registration.candidates.api import router as candidates_router
from provider_registration.candidates.exports_api import router as exports_router
from provider_registration.candidates.schemas import CandidateRegistration, DecisionRequest, RejectionRequest
from provider_registration.candidates.status_links_api import router as status_links_router
from provider_registration.console.dependencies import require_reader
from provider_registration.console.installation import ADMIN_FOLDER, ADMIN_HOME, install_admin
from provider_registration.deliveries.api import router as deliveries_router
from provider_registration.environment import load_settings
from provider_registration.events.api import router as events_router
from provider_registration.events.feed_api import router as feed_router
from provider_registration.health.api import router as health_router
from provider_registration.health.metrics_api import ScrapeToken, require_scrape_token
from provider_registration.health.metrics_api import router as metrics_router
from provider_registration.imports.api import IMPORTS
from provider_registration.imports.api import router as imports_router
from provider_registration.imports.limits import MAX_FILE_BYTES
from provider_registration.imports.schemas import StartRequest
from provider_registration.jobs.api import router as jobs_router
from provider_registration.lifespan import lifespan
from provider_registration.notifications.api import router as lost_links_router
from provider_registration.notifications.models import Mailing
from provider_registration.notifications.schemas import LostLinkRequest
from provider_registration.observability.logs import configure_logging
from provider_registration.pages.cross_site import CrossSiteGuard
from provider_registration.pages.error_pages import ErrorPages
from provider_registration.pages.flash import FlashKey
from provider_registration.pages.rendering import Renderer
from provider_registration.pages.router import StartPage
from provider_registration.pages.router import router as pages_router
from provider_registration.settings import Settings
from provider_registration.similar.api import router as similar_router
from provider_registration.statistics.api import router as statistics_router
from provider_registration.web.body import MAX_BODY_BYTES, BodyLimit
from provider_registration.web.cross_origin import CrossOrigin
from provider_registration.web.docs import router as docs_router
from provider_registration.web.error_handlers import install_error_handlers
from provider_registration.web.middleware import RequestMiddleware
from provider_registration.web.openapi import problems
from provider_registration.web.openapi_document import install_document
from provider_registration.web.paths import PublicUrl, route_path
from provider_registration.web.rate_limit_middleware import UNLIMITED_PATHS, RateLimitMiddleware, network_of_client
from provider_registration.web.rate_limits import RateLimits
from provider_registration.web.routing import DirectRoutes
from provider_registration.web.services import Application
from provider_registration.webhooks.api import router as webhooks_router
from provider_registration.webhooks.schemas import ReplayRequest, WebhookChangeRequest, WebhookRequest

if TYPE_CHECKING:
    from provider_registration.observability.tracing import Tracing

TRANSLATIONS = Path(__file__).with_name("translations")

DESCRIPTION = """\
Supplier companies register here, staff review them, and an admin approves or rejects each. \
Approving a company creates exactly one provider in the billing service.

At `/docs`, press **Authorize** and sign in to try the staff endpoints. Every error is a problem document (RFC 9457).
"""

TAGS = [
    {"name": "candidates", "description": "Supplier companies: register, list, read, decide."},
    {"name": "approvals", "description": "Approvals that billing has not confirmed yet: list, retry, resolve."},
    {"name": "imports", "description": "Companies from CSV files and workbooks: send, check, register."},
    {"name": "jobs", "description": "Decisions about many candidates at once: start, watch, cancel."},
    {"name": "events", "description": "What happened to candidates, in one order, for other systems."},
    {"name": "deliveries", "description": "Messages about events, with the state of each."},
    {"name": "audit", "description": "Who did what: for auditors and admins."},
    {"name": "statistics", "description": "Registrations and decisions by day, week or month."},
    {"name": "webhooks", "description": "URLs to which events are sent."},
    {"name": "API keys", "description": "Keys with which programs use the API."},
    {"name": "auth", "description": "Sign-in and sessions."},
    {"name": "health", "description": "Monitoring, probes and Prometheus metrics."},
]

BODIES: list[type[BaseModel]] = [
    CandidateRegistration,
    RejectionRequest,
    DecisionRequest,
    DecisionsRequest,
    StartRequest,
    LostLinkRequest,
    ResolutionRequest,
    LoginRequest,
    RefreshRequest,
    WebhookRequest,
    WebhookChangeRequest,
    ReplayRequest,
    ApiKeyRequest,
]

API_ROUTERS = (
    exports_router,
    candidates_router,
    events_router,
    similar_router,
    statistics_router,
    feed_router,
    approvals_router,
    bulk_router,
    imports_router,
    jobs_router,
    deliveries_router,
    webhooks_router,
    auth_router,
    api_keys_router,
    activity_router,
)

LARGE_BODIES = {IMPORTS: MAX_FILE_BYTES, f"{ADMIN_HOME}{IMPORTS}": MAX_FILE_BYTES}

WITHOUT_PAGES = {"admin_pages": False, "public_pages": False, "docs_access": "off"}

ACCESS_CHECKS = {
    "anyone": [],
    "staff": [Depends(require_staff)],
    "token": [Depends(require_scrape_token)],
}
METRICS_REFUSALS = problems("/metrics", NotAuthenticated())


def create_app(settings: Settings, *, api: bool = True) -> Application:
    """Create the application; nothing is opened before its lifespan starts.

    Without `api`, it has only health and metrics, for a process that only works in the background.
    """
    tracing = _tracing(settings)
    if not api:
        settings = settings.model_copy(update={"graphql": False})
    opened = partial(lifespan, settings=settings, tracing=tracing)  # e-mails have links to pages of other processes
    if not api:
        settings = settings.model_copy(update=WITHOUT_PAGES)
    signer, keys, limits, pages = _signer(settings), KnownKeys(), _rate_limits(settings), _pages(settings)
    mailing = Mailing(
        sends=settings.smtp_url is not None,
        offers_links=bool(settings.smtp_url and settings.public_pages and settings.links_begin_with),
    )
    app = Application(
        title="Provider Registration Service",
        version=__version__,
        description=DESCRIPTION,
        contact={"name": "The operator of this service"},
        license_info={"name": "MIT", "identifier": "MIT"},
        lifespan=opened,
        openapi_url=None,  # web.docs serves it, with Swagger UI and ReDoc from installed packages
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        telemetry={"tracing": False, "metrics": False, "logs": False},  # the check costs time in every request
        generate_unique_id_function=lambda route: route.name,  # the name in generated clients
        middleware=_middleware(settings, signer, keys, limits, tracing, pages),
    )
    app.services.add(
        signer,
        keys,
        limits,
        PublicUrl(settings.public_url),
        mailing,
        ScrapeToken(settings.metrics_token.get_secret_value() if settings.metrics_token else ""),
        FlashKey(hmac.digest(settings.jwt_secret_key.get_secret_value().encode(), b"notices", "sha256")),
    )
    # Added to the application's router: with `include_router`, FastAPI would match every path twice.
    for router in (health_router, *(API_ROUTERS if api else ())):
        app.router.routes += router.routes
    graphql = _graphql() if settings.graphql else _GraphQL()
    app.router.routes += graphql.routes
    docs_checks = ACCESS_CHECKS | ({"staff": [Depends(require_reader)]} if settings.admin_pages else {})
    for router, access, checks, refused in (
        (metrics_router, settings.metrics_access, ACCESS_CHECKS, METRICS_REFUSALS),
        (docs_router, settings.docs_access, docs_checks, {}),
        *((explorer, settings.docs_access, docs_checks, {}) for explorer in graphql.explorers),
    ):
        if access != "off":
            app.include_router(router, dependencies=checks[access], responses=refused if checks[access] else {})
    install_error_handlers(app)
    install_document(app, routes=_documented_routes, bodies=BODIES, tags=TAGS, unlimited=UNLIMITED_PATHS)
    if settings.public_pages:
        app.router.routes += status_links_router.routes
        if mailing.offers_links:
            app.router.routes += lost_links_router.routes
        install_applicants(app, offers_links=mailing.offers_links)
    if settings.admin_pages:
        install_admin(app, public_pages=settings.public_pages)
    if pages:
        app.services.add(pages.renderer, StartPage(APPLY if settings.public_pages else ADMIN_HOME))
        app.router.routes += pages_router.routes
    return app


def _documented_routes() -> list[BaseRoute]:
    """Every route of the API, also those that the settings of this deployment disable."""
    documented = APIRouter()
    for router in (*API_ROUTERS, status_links_router, lost_links_router, health_router):
        documented.routes += router.routes
    documented.include_router(metrics_router, dependencies=ACCESS_CHECKS["token"], responses=METRICS_REFUSALS)
    return documented.routes


def _middleware(
    settings: Settings,
    signer: TokenSigner,
    keys: KnownKeys,
    limits: RateLimits,
    tracing: Tracing | None,
    pages: _Pages | None,
) -> list[Middleware]:
    """The middleware, outermost first."""
    error_pages, traces, cross_origin, guards = [], [], [], []
    if pages:
        error_pages = [
            Middleware(
                ErrorPages,
                renderer=pages.renderer,
                root_path=settings.root_path,
                homes=pages.homes,
                translated=APPLICANTS_HOMES,
            )
        ]
        guards = [
            # Not /applications: the pages there have no forms, and CORS_ALLOWED_ORIGINS may use the API there.
            Middleware(CrossSiteGuard, below=[ADMIN_HOME, APPLY], public_url=settings.public_url),
        ]
    if tracing:
        traces = [tracing.middleware()]
    if origins := [origin.strip() for origin in settings.cors_allowed_origins.split(",") if origin.strip()]:
        cross_origin = [
            Middleware(CrossOrigin, origins=origins),
        ]
    return [
        # Turns all errors of the others into pages for browsers, with the request ID.
        *error_pages,
        # The request ID is the trace ID, so the trace starts first.
        *traces,
        # Also counts and logs what the others refuse; adds the request ID and security headers.
        Middleware(RequestMiddleware, root_path=settings.root_path),
        # Lets scripts from other origins read errors too; preflight requests are not rate-limited.
        *cross_origin,
        # Refuses requests over the limit before their body is read.
        Middleware(RateLimitMiddleware, limits=limits, caller_of=partial(_caller, signer, keys)),
        # Refuses forms from other sites before their body is read.
        *guards,
        # Limits the bodies that routes read.
        Middleware(BodyLimit, most_of=_largest_body),
        # Calls direct endpoints; all other requests go on to FastAPI's own layers and its router.
        Middleware(DirectRoutes),
    ]


def _largest_body(scope: Scope) -> int:
    """The most bytes of a body that the routes at the request's path can allow, for authenticated callers."""
    return LARGE_BODIES.get(route_path(scope), MAX_BODY_BYTES)


def _tracing(settings: Settings) -> Tracing | None:
    if not settings.tracing:
        return None
    from provider_registration.observability.tracing import Tracing  # noqa: PLC0415 - its dependencies are an extra

    return Tracing()


@dataclass(frozen=True, slots=True)
class _GraphQL:
    """What GraphQL adds to the application, if it is on."""

    routes: Sequence[BaseRoute] = ()
    explorers: Sequence[APIRouter] = ()


def _graphql() -> _GraphQL:
    from provider_registration.graphql_api import api, explorer  # noqa: PLC0415 - their dependencies are an extra

    return _GraphQL(api.router.routes, [explorer.router])


@dataclass(frozen=True, slots=True)
class _Pages:
    """The renderer of pages, and the start page for each path prefix."""

    renderer: Renderer
    homes: dict[str, str]


def _pages(settings: Settings) -> _Pages | None:
    """The renderer and start pages for the pages that the settings enable."""
    areas: list[Path] = []
    homes: dict[str, str] = {}
    if settings.public_pages:
        areas.append(APPLICANTS_FOLDER)
        homes |= APPLICANTS_HOMES
    if settings.admin_pages:
        areas.append(ADMIN_FOLDER)
        homes |= {ADMIN_HOME: ADMIN_HOME, "/static": ADMIN_HOME}
    return _Pages(Renderer(tuple(areas), TRANSLATIONS), homes) if areas else None


def create_app_from_environment() -> Application:
    """Create the application in a worker process."""
    settings = load_settings(Settings)
    configure_logging(settings.log_level)
    return create_app(settings)


def _signer(settings: Settings) -> TokenSigner:
    previous = settings.jwt_previous_secret_key
    return TokenSigner(
        settings.jwt_secret_key.get_secret_value(), previous.get_secret_value() if previous is not None else None
    )


def _rate_limits(settings: Settings) -> RateLimits:
    storage = settings.rate_limit_storage_url
    return RateLimits(
        storage_url=storage.get_secret_value() if storage else "",
        login=settings.rate_limit_login,
        registration=settings.rate_limit_registration,
        default=settings.rate_limit_default,
    )


def _caller(signer: TokenSigner, keys: KnownKeys, request: Request) -> str:
    """The caller to count a request for: the session of a valid token, a known API key, else the IP address.

    A key is known after its first request: counting needs no query.
    """
    scheme, _, rest = request.headers.get("authorization", "").partition(" ")
    token = rest.strip()  # as FastAPI reads it
    if scheme.lower() == "bearer":
        if program := keys.holder(token):
            return str(program.credential_id)
        try:
            return str(signer.verify(token).credential_id)
        except NotAuthenticated:
            pass
    return network_of_client(request)
