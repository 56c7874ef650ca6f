"""The page for signing in, which keeps what somebody had typed when their session ended; signing out."""

from __future__ import annotations

import re
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import urlencode

from fastapi import APIRouter, Request
from pydantic import ValidationError
from starlette.responses import RedirectResponse, Response

from provider_registration.auth.dependencies import AuthServiceDep
from provider_registration.auth.errors import InvalidCredentials, NotAuthenticated
from provider_registration.auth.schemas import LoginRequest
from provider_registration.auth.service import AuthService
from provider_registration.console.dependencies import SESSION_COOKIE, BrowserUserDep, FoundUserDep
from provider_registration.console.errors import CookieMissing
from provider_registration.console.layout import AGAIN, CANDIDATES, MARKED, SIGN_IN, SIGN_OUT, page_above, safe_target
from provider_registration.errors import ServiceError
from provider_registration.pages.cookies import delete_cookie, read_cookie, set_cookie
from provider_registration.pages.forms import Form, FormDep, read_form
from provider_registration.pages.notices import Notice, leave_notice
from provider_registration.pages.rendering import Renderer
from provider_registration.pages.router import RendererDep
from provider_registration.web.body import form_fields
from provider_registration.web.disconnects import still_wanted
from provider_registration.web.problems import InvalidRequest, headers_of, problem_response, status_of
from provider_registration.web.rate_limit_middleware import address_of
from provider_registration.web.services import services_of

router = APIRouter(include_in_schema=False)

# Comes with the form for signing in; where it does not come back, the browser would not keep the session's either.
VISIT_COOKIE = "visit"

NOTHING_DONE = Notice("warning", "You were not signed in any more, so nothing was done. Sign in, and do it again.")
SIGNED_OUT = Notice("success", "You are signed out.")

MAX_KEPT_LENGTH = 16 * 1024  # characters, encoded
_TYPED_INTO = re.compile(f"{CANDIDATES}/[0-9a-f-]{{36}}/(?:reject|approval/resolve)|{MARKED}")
_MARKED = re.compile(f"({MARKED})/(approve|reject)")


@dataclass(frozen=True, slots=True)
class Kept:
    """The fields of a form, and the path that it is sent to so that its page shows them."""

    path: str
    fields: list[tuple[str, str]]

    @classmethod
    def of(cls, path: str, form: Form) -> Kept | None:
        """What is worth keeping of a form that was sent to a path; None if nothing is, or too much."""
        fields = [(name, value) for name, values in form.fields.items() for value in values]
        if match := _MARKED.fullmatch(path):
            path, fields = match[1], [("decision", match[2]), *fields]
        kept = cls(path, fields)
        return kept if _TYPED_INTO.fullmatch(path) and len(kept.to_text()) <= MAX_KEPT_LENGTH else None

    @classmethod
    def from_text(cls, path: str, text: str) -> Kept | None:
        """What a sign-in form carries."""
        if not text or len(text) > MAX_KEPT_LENGTH or not _TYPED_INTO.fullmatch(path):
            return None
        try:
            return cls(path, form_fields(text.encode()))
        except InvalidRequest:
            return None

    def to_text(self) -> str:
        """For one hidden field of the sign-in form."""
        return urlencode(self.fields)


async def sign_in_first(request: Request, _error: Exception) -> Response:
    """Lead people who are not signed in to the page for that, with what they had typed; tell programs so."""
    if "text/html" not in request.headers.get("accept", ""):
        return problem_response(NotAuthenticated(), request)
    root = request.scope.get("root_path", "")
    path = request.url.path.removeprefix(root)
    asked_for = f"{path}?{request.url.query}" if request.url.query else path
    target = safe_target(asked_for) if request.method == "GET" else page_above(path)
    if request.method == "POST" and (kept := await _kept_of(request, path)):
        return _sign_in_page(request, services_of(request).get(Renderer), target=target, kept=kept)
    response = RedirectResponse(f"{root}{SIGN_IN}?{urlencode({'next': target})}", HTTPStatus.SEE_OTHER)
    if request.method != "GET":
        leave_notice(request, response, NOTHING_DONE)
    return response


async def _kept_of(request: Request, path: str) -> Kept | None:
    try:
        return Kept.of(path, await read_form(request))
    except ServiceError:  # it is no form
        return None


@router.get(SIGN_IN)
async def show_sign_in(request: Request, renderer: RendererDep) -> Response:
    """The form."""
    return _sign_in_page(request, renderer, target=safe_target(request.query_params.get("next", "")))


@router.post(SIGN_IN)
async def post_sign_in(
    form: FormDep, signed_in: FoundUserDep, auth: AuthServiceDep, renderer: RendererDep, request: Request
) -> Response:
    """Begin a session, or show the form again with what was wrong; lead on who signed in on another page meanwhile."""
    keeps_cookies = read_cookie(request, VISIT_COOKIE) is not None
    target, username = safe_target(form.get("next")), form.get("username")
    kept = Kept.from_text(target, form.get("kept"))
    if not keeps_cookies and signed_in is not None:
        return _lead_on(request, renderer, target, kept)
    if not keeps_cookies:
        return _sign_in_page(request, renderer, target=target, kept=kept, username=username, refusal=CookieMissing())
    try:
        secret = await _sign_in(auth, username, form.get("password"), request)
    except ServiceError as error:
        return _sign_in_page(request, renderer, target=target, kept=kept, username=username, refusal=error)
    response = _lead_on(request, renderer, target, kept)
    delete_cookie(response, VISIT_COOKIE)
    set_cookie(response, SESSION_COOKIE, secret)
    return response


async def _sign_in(auth: AuthService, username: str, password: str, request: Request) -> str:
    """The new session's secret.

    Raises:
        ServiceError: what stood in the way; what cannot be a name or a password is as wrong as a wrong one.
    """
    try:
        typed = LoginRequest(username=username, password=password)
    except ValidationError:
        raise InvalidCredentials from None
    return await auth.sign_in(
        typed.username, typed.password, address=address_of(request), still_wanted=still_wanted(request)
    )


def _sign_in_page(
    request: Request,
    renderer: Renderer,
    *,
    target: str,
    kept: Kept | None = None,
    username: str = "",
    refusal: ServiceError | None = None,
) -> Response:
    """The form, which leads to `target` or, with what was `kept`, to that."""
    shown = refusal or (NotAuthenticated() if kept else None)
    page = renderer.page(
        request,
        "console/sign_in.html",
        status=status_of(shown) if shown else HTTPStatus.OK,
        headers=headers_of(shown) if shown else None,
        target=kept.path if kept else target,
        kept=kept,
        username=username,
        refusal=refusal,
    )
    set_cookie(page, VISIT_COOKIE, "1")
    return page


def _lead_on(request: Request, renderer: Renderer, target: str, kept: Kept | None) -> Response:
    """Lead to the page that was asked for; who had typed something is asked to send it once more, to see it again."""
    if kept is None:
        return RedirectResponse(request.scope.get("root_path", "") + target, HTTPStatus.SEE_OTHER)
    return renderer.page(request, "console/go_on.html", kept=kept, again=AGAIN)


@router.post(SIGN_OUT)
async def sign_out(signed_in: BrowserUserDep, auth: AuthServiceDep, request: Request) -> Response:
    """End the session, here and now."""
    await auth.logout(signed_in.user)
    response = RedirectResponse(request.scope.get("root_path", "") + SIGN_IN, HTTPStatus.SEE_OTHER)
    delete_cookie(response, SESSION_COOKIE)
    leave_notice(request, response, SIGNED_OUT)
    return response
