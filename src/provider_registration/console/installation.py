"""Putting the console into the application."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlencode

from fastapi import APIRouter, FastAPI, Request
from starlette.responses import RedirectResponse, Response

from provider_registration.auth.errors import NotAuthenticated
from provider_registration.console import paths
from provider_registration.console.approvals_router import router as approvals_router
from provider_registration.console.bulk_router import router as bulk_router
from provider_registration.console.candidate_router import router as candidate_router
from provider_registration.console.errors import SignInNeeded
from provider_registration.console.kept import Kept
from provider_registration.console.overview_router import router as overview_router
from provider_registration.console.queue_router import router as queue_router
from provider_registration.console.session_router import router as session_router
from provider_registration.console.session_router import sign_in_page
from provider_registration.console.status_link_router import router as status_link_router
from provider_registration.errors import ServiceError
from provider_registration.pages.forms import read_form
from provider_registration.pages.notices import Notice, leave_notice
from provider_registration.pages.rendering import Renderer
from provider_registration.web.problems import problem_response
from provider_registration.web.services import services_of

ADMIN_ROOM = Path(__file__).parent
ADMIN_HOME = paths.HOME
NOTHING_DONE = Notice("warning", "You were not signed in any more, so nothing was done. Sign in, and do it again.")
ROUTERS: list[APIRouter] = [
    session_router,
    overview_router,
    queue_router,
    bulk_router,
    candidate_router,
    approvals_router,
]


def install_admin(app: FastAPI, *, public_pages: bool) -> None:
    """Add the console's pages; who is not signed in is led to the page for that, programs are told so."""
    for router in ROUTERS:
        app.include_router(router)
    if public_pages:
        app.include_router(status_link_router)
    app.add_exception_handler(SignInNeeded, _sign_in_first)


async def _sign_in_first(request: Request, _error: Exception) -> Response:
    if "text/html" not in request.headers.get("accept", ""):
        return problem_response(NotAuthenticated(), request)
    root = request.scope.get("root_path", "")
    path = request.url.path.removeprefix(root)
    asked_for = f"{path}?{request.url.query}" if request.url.query else path
    target = paths.own_page(asked_for) if request.method == "GET" else paths.page_above(path)
    if request.method == "POST" and (kept := await _kept_of(request, path)):
        return sign_in_page(request, services_of(request).get(Renderer), target=target, kept=kept)
    response = RedirectResponse(f"{root}{paths.SIGN_IN}?{urlencode({'next': target})}", 303)
    if request.method != "GET":
        leave_notice(request, response, NOTHING_DONE)
    return response


async def _kept_of(request: Request, path: str) -> Kept | None:
    try:
        return Kept.of(path, await read_form(request))
    except ServiceError:  # it is no form, or another site's
        return None
