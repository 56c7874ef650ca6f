"""The pages for signing in and out."""

from __future__ import annotations

import secrets

from fastapi import APIRouter, Request
from starlette.responses import RedirectResponse, Response

from provider_registration.admin import paths
from provider_registration.admin.dependencies import SESSION_COOKIE, BrowserUserDep, FoundUserDep, OwnFormDep
from provider_registration.admin.signing_in import sign_in
from provider_registration.auth.dependencies import AuthServiceDep
from provider_registration.pages.cookies import delete_cookie, read_cookie, set_cookie
from provider_registration.pages.forms import TOKEN_FIELD, FormDep, check_form_token, form_token
from provider_registration.pages.notices import Notice, leave_notice
from provider_registration.pages.router import RendererDep
from provider_registration.web.problems import headers_of, status_of
from provider_registration.web.rate_limit_middleware import address_of

router = APIRouter(include_in_schema=False)

# Nobody is signed in yet, so the form is bound to a secret of its own: else a stranger could sign somebody in as
# another user, and read what they then type.
VISIT_COOKIE = "visit"
VISIT_BYTES = 32


@router.get(paths.SIGN_IN)
async def show_sign_in(request: Request, renderer: RendererDep) -> Response:
    """The form."""
    visit = read_cookie(request, VISIT_COOKIE) or secrets.token_urlsafe(VISIT_BYTES)
    page = renderer.page(
        request,
        "admin/sign_in.html",
        token=form_token(visit),
        target=paths.own_page(request.query_params.get("next", "")),
        username="",
        refusal=None,
    )
    set_cookie(page, VISIT_COOKIE, visit)
    return page


@router.post(paths.SIGN_IN)
async def post_sign_in(
    form: FormDep, signed_in: FoundUserDep, auth: AuthServiceDep, renderer: RendererDep, request: Request
) -> Response:
    """Begin a session, or show the form again with what was wrong; lead on who signed in on another page meanwhile."""
    visit = read_cookie(request, VISIT_COOKIE)
    target = paths.own_page(form.get("next"))
    if visit is None and signed_in is not None:
        return RedirectResponse(request.scope.get("root_path", "") + target, 303)
    check_form_token(form, visit)
    attempt = await sign_in(auth, form.get("username"), form.get("password"), address=address_of(request))
    if attempt.refusal is not None:
        return renderer.page(
            request,
            "admin/sign_in.html",
            status=status_of(attempt.refusal),
            headers=headers_of(attempt.refusal),
            token=form.get(TOKEN_FIELD),
            target=target,
            username=form.get("username"),
            refusal=attempt.refusal,
        )
    response = RedirectResponse(request.scope.get("root_path", "") + target, 303)
    delete_cookie(response, VISIT_COOKIE)
    set_cookie(response, SESSION_COOKIE, str(attempt.secret))
    return response


@router.post(paths.SIGN_OUT)
async def sign_out(_form: OwnFormDep, signed_in: BrowserUserDep, auth: AuthServiceDep, request: Request) -> Response:
    """End the session, here and now."""
    await auth.logout(signed_in.user)
    response = RedirectResponse(f"{request.scope.get('root_path', '')}{paths.SIGN_IN}", 303)
    delete_cookie(response, SESSION_COOKIE)
    leave_notice(response, Notice("success", "You are signed out."))
    return response
