"""The sign-in page, which keeps a form that was sent after the session ended; sign-out."""

from __future__ import annotations

import re
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import urlencode

from fastapi import APIRouter, Request
from pydantic import ValidationError
from starlette.responses import RedirectResponse, Response

from provider_registration.auth.dependencies import SESSION_COOKIE, AuthServiceDep
from provider_registration.auth.errors import InvalidCredentials, NotAuthenticated
from provider_registration.auth.schemas import LoginRequest
from provider_registration.auth.service import AuthService
from provider_registration.console.dependencies import BrowserUserDep, FoundUserDep
from provider_registration.console.errors import CookieMissing
from provider_registration.console.layout import (
    AGAIN,
    CANDIDATES,
    LIST_COOKIE,
    SELECTED,
    SIGN_IN,
    SIGN_OUT,
    page_above,
    safe_target,
)
from provider_registration.errors import ServiceError
from provider_registration.pages.cookies import delete_cookie, read_cookie, set_cookie
from provider_registration.pages.flash import FlashMessage, set_flash
from provider_registration.pages.forms import Form, FormDep, read_form
from provider_registration.pages.rendering import Renderer
from provider_registration.pages.router import RendererDep
from provider_registration.web.body import form_fields
from provider_registration.web.disconnects import client_check
from provider_registration.web.problems import InvalidRequest, headers_of, problem_response, status_of
from provider_registration.web.rate_limit_middleware import network_of_client
from provider_registration.web.services import services_of

router = APIRouter(include_in_schema=False)

# Set with the sign-in form; a browser that does not send it back would not keep the session cookie either.
VISIT_COOKIE = "visit"

SESSION_ENDED = FlashMessage("warning", "Your session has ended and nothing was saved. Sign in to continue.")
SIGNED_OUT = FlashMessage("success", "You are signed out.")

MAX_KEPT_LENGTH = 16 * 1024  # characters, encoded
_KEPT_FORMS = re.compile(f"{CANDIDATES}/[0-9a-f-]{{36}}/(?:reject|approval/resolve)|{SELECTED}")
_SELECTED = re.compile(f"({SELECTED})/(approve|reject)")


@dataclass(frozen=True, slots=True)
class KeptForm:
    """The fields of a form, and the path whose page shows them again."""

    path: str
    fields: list[tuple[str, str]]

    @classmethod
    def of(cls, path: str, form: Form) -> KeptForm | None:
        """The fields of a form sent to a path; None if that form is not kept or is too long."""
        fields = [(name, value) for name, values in form.fields.items() for value in values]
        if match := _SELECTED.fullmatch(path):
            path, fields = match[1], [("decision", match[2]), *fields]
        kept = cls(path, fields)
        return kept if _KEPT_FORMS.fullmatch(path) and len(kept.to_text()) <= MAX_KEPT_LENGTH else None

    @classmethod
    def from_text(cls, path: str, text: str) -> KeptForm | None:
        """Read the hidden field of the sign-in form."""
        if not text or len(text) > MAX_KEPT_LENGTH or not _KEPT_FORMS.fullmatch(path):
            return None
        try:
            return cls(path, form_fields(text.encode()))
        except InvalidRequest:
            return None

    def to_text(self) -> str:
        """For one hidden field of the sign-in form."""
        return urlencode(self.fields)


async def sign_in_first(request: Request, _error: Exception) -> Response:
    """Redirect browsers to the sign-in page, keeping the form they sent; other clients get 401."""
    if "text/html" not in request.headers.get("accept", ""):
        return problem_response(NotAuthenticated(), request)
    root = request.scope.get("root_path", "")
    path = request.url.path.removeprefix(root)
    requested = f"{path}?{request.url.query}" if request.url.query else path
    target = safe_target(requested) if request.method == "GET" else page_above(path)
    if request.method == "POST" and (kept := await _kept_of(request, path)):
        return _sign_in_page(request, services_of(request).get(Renderer), target=target, kept=kept)
    response = RedirectResponse(f"{root}{SIGN_IN}?{urlencode({'next': target})}", HTTPStatus.SEE_OTHER)
    if request.method != "GET":
        set_flash(request, response, SESSION_ENDED)
    return response


async def _kept_of(request: Request, path: str) -> KeptForm | None:
    try:
        return KeptForm.of(path, await read_form(request))
    except ServiceError:  # not a form
        return None


@router.get(SIGN_IN)
async def show_sign_in(request: Request, renderer: RendererDep) -> Response:
    """Show the sign-in form."""
    return _sign_in_page(request, renderer, target=safe_target(request.query_params.get("next", "")))


@router.post(SIGN_IN)
async def post_sign_in(
    form: FormDep, signed_in: FoundUserDep, auth: AuthServiceDep, renderer: RendererDep, request: Request
) -> Response:
    """Start a session, or show the form again with the error; redirect if the browser is already signed in."""
    keeps_cookies = read_cookie(request, VISIT_COOKIE) is not None
    target, username = safe_target(form.get("next")), form.get("username")
    kept = KeptForm.from_text(target, form.get("kept"))
    if not keeps_cookies and signed_in is not None:
        return _redirect(request, renderer, target, kept)
    if not keeps_cookies:
        return _sign_in_page(request, renderer, target=target, kept=kept, username=username, refusal=CookieMissing())
    try:
        secret = await _sign_in(auth, username, form.get("password"), request)
    except ServiceError as error:
        return _sign_in_page(request, renderer, target=target, kept=kept, username=username, refusal=error)
    response = _redirect(request, renderer, target, kept)
    delete_cookie(response, VISIT_COOKIE)
    set_cookie(response, SESSION_COOKIE, secret)
    return response


async def _sign_in(auth: AuthService, username: str, password: str, request: Request) -> str:
    """Return the secret of a new session.

    Raises:
        ServiceError: signing in failed; a malformed e-mail address or password counts as a wrong one.
    """
    try:
        typed = LoginRequest(username=username, password=password)
    except ValidationError:
        raise InvalidCredentials from None
    return await auth.sign_in(
        typed.username, typed.password, address=network_of_client(request), check_client=client_check(request)
    )


def _sign_in_page(
    request: Request,
    renderer: Renderer,
    *,
    target: str,
    kept: KeptForm | None = None,
    username: str = "",
    refusal: ServiceError | None = None,
) -> Response:
    """The form, which redirects to `target` or, if a form was `kept`, back to that form."""
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


def _redirect(request: Request, renderer: Renderer, target: str, kept: KeptForm | None) -> Response:
    """Redirect to the requested page; a kept form is shown again through a POST that the user confirms."""
    if kept is None:
        return RedirectResponse(request.scope.get("root_path", "") + target, HTTPStatus.SEE_OTHER)
    return renderer.page(request, "console/kept_form.html", kept=kept, again=AGAIN)


@router.post(SIGN_OUT)
async def sign_out(signed_in: BrowserUserDep, auth: AuthServiceDep, request: Request) -> Response:
    """End the session immediately."""
    await auth.logout(signed_in.user)
    response = RedirectResponse(request.scope.get("root_path", "") + SIGN_IN, HTTPStatus.SEE_OTHER)
    delete_cookie(response, SESSION_COOKIE)
    delete_cookie(response, LIST_COOKIE)
    set_flash(request, response, SIGNED_OUT)
    return response
