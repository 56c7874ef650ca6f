"""The pages for signing in and out."""

from __future__ import annotations

import re
import secrets
from http import HTTPStatus

from fastapi import APIRouter, Request
from starlette.responses import RedirectResponse, Response

from provider_registration.auth.dependencies import AuthServiceDep
from provider_registration.auth.errors import NotAuthenticated
from provider_registration.console import paths
from provider_registration.console.dependencies import SESSION_COOKIE, BrowserUserDep, FoundUserDep, OwnFormDep
from provider_registration.console.errors import CookieMissing
from provider_registration.console.kept import AGAIN, Kept
from provider_registration.console.kept import FIELD as KEPT_FIELD
from provider_registration.console.signing_in import sign_in
from provider_registration.errors import ServiceError
from provider_registration.pages.cookies import delete_cookie, read_cookie, set_cookie
from provider_registration.pages.forms import FormDep, check_form_token, form_token
from provider_registration.pages.notices import Notice, leave_notice
from provider_registration.pages.rendering import Renderer
from provider_registration.pages.router import RendererDep
from provider_registration.web.disconnects import still_wanted
from provider_registration.web.problems import headers_of, status_of
from provider_registration.web.rate_limit_middleware import address_of

router = APIRouter(include_in_schema=False)

# Nobody is signed in yet, so the form is bound to a secret of its own: else a stranger could sign somebody in as
# another user, and read what they then type.
VISIT_COOKIE = "visit"
VISIT_BYTES = 32
VISIT = re.compile(r"[A-Za-z0-9_-]{43}")  # what VISIT_BYTES are in a cookie; it is sent back, so nothing else will do


@router.get(paths.SIGN_IN)
async def show_sign_in(request: Request, renderer: RendererDep) -> Response:
    """The form."""
    return sign_in_page(request, renderer, target=paths.own_page(request.query_params.get("next", "")))


@router.post(paths.SIGN_IN)
async def post_sign_in(
    form: FormDep, signed_in: FoundUserDep, auth: AuthServiceDep, renderer: RendererDep, request: Request
) -> Response:
    """Begin a session, or show the form again with what was wrong; lead on who signed in on another page meanwhile."""
    visit = read_cookie(request, VISIT_COOKIE)
    target, username = paths.own_page(form.get("next")), form.get("username")
    kept = Kept.from_text(target, form.get(KEPT_FIELD))
    if visit is None and signed_in is not None:
        return _lead_on(request, renderer, target, kept, signed_in.secret)
    if visit is None:
        return sign_in_page(request, renderer, target=target, kept=kept, username=username, refusal=CookieMissing())
    check_form_token(form, visit)
    attempt = await sign_in(
        *(auth, username, form.get("password")), address=address_of(request), still_wanted=still_wanted(request)
    )
    if attempt.secret is None:
        return sign_in_page(request, renderer, target=target, kept=kept, username=username, refusal=attempt.refusal)
    response = _lead_on(request, renderer, target, kept, attempt.secret)
    delete_cookie(response, VISIT_COOKIE)
    set_cookie(response, SESSION_COOKIE, attempt.secret)
    return response


def sign_in_page(
    request: Request,
    renderer: Renderer,
    *,
    target: str,
    kept: Kept | None = None,
    username: str = "",
    refusal: ServiceError | None = None,
) -> Response:
    """The form, which leads to `target` or, with what was `kept`, to that."""
    visit = read_cookie(request, VISIT_COOKIE) or ""
    if not VISIT.fullmatch(visit):
        visit = secrets.token_urlsafe(VISIT_BYTES)
    shown = refusal or (NotAuthenticated() if kept else None)
    page = renderer.page(
        request,
        "admin/sign_in.html",
        status=status_of(shown) if shown else HTTPStatus.OK,
        headers=headers_of(shown) if shown else None,
        token=form_token(visit),
        target=kept.path if kept else target,
        kept=kept,
        username=username,
        refusal=refusal,
    )
    set_cookie(page, VISIT_COOKIE, visit)
    return page


def _lead_on(request: Request, renderer: Renderer, target: str, kept: Kept | None, secret: str) -> Response:
    """Lead to the page that was asked for; who had typed something is asked to send it once more, to see it again."""
    if kept is None:
        return RedirectResponse(request.scope.get("root_path", "") + target, 303)
    return renderer.page(request, "admin/go_on.html", token=form_token(secret), kept=kept, again=AGAIN)


@router.post(paths.SIGN_OUT)
async def sign_out(_form: OwnFormDep, signed_in: BrowserUserDep, auth: AuthServiceDep, request: Request) -> Response:
    """End the session, here and now."""
    await auth.logout(signed_in.user)
    response = RedirectResponse(f"{request.scope.get('root_path', '')}{paths.SIGN_IN}", 303)
    delete_cookie(response, SESSION_COOKIE)
    leave_notice(request, response, Notice("success", "You are signed out."))
    return response
