"""Dependencies that authenticate the caller: `user: AdminDep`."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import OAuth2PasswordBearer

from provider_registration.auth.errors import NotAuthenticated, RoleNotAllowed
from provider_registration.auth.models import Role, User
from provider_registration.auth.service import AuthService
from provider_registration.db.database import DatabaseUnavailable
from provider_registration.pages.cookies import read_cookie
from provider_registration.web.openapi import refuses
from provider_registration.web.services import provide

SESSION_COOKIE = "session"  # of the console

bearer = OAuth2PasswordBearer(
    tokenUrl="auth/login",  # relative, so that it is correct behind a gateway's prefix
    auto_error=False,
    description="E-mail address and password of a user, as in `POST /auth/login`.",
)

AUDITOR_OR_ADMIN = f"{Role.AUDITOR} or {Role.ADMIN}"

AuthServiceDep = Annotated[AuthService, Depends(provide(AuthService, DatabaseUnavailable()))]


@refuses(NotAuthenticated())
async def require_staff(request: Request, token: Annotated[str | None, Depends(bearer)], auth: AuthServiceDep) -> User:
    """The authenticated user, of any role; the request's log line has their ID."""
    if token is None:
        raise NotAuthenticated
    user = await auth.authenticate(token)
    request.state.user_id = user.user_id
    return user


StaffDep = Annotated[User, Depends(require_staff)]


@refuses(RoleNotAllowed(AUDITOR_OR_ADMIN))
async def require_auditor(user: StaffDep) -> User:
    """The authenticated user, who must be an auditor or an admin."""
    if not user.may_audit:
        raise RoleNotAllowed(AUDITOR_OR_ADMIN)
    return user


AuditorDep = Annotated[User, Depends(require_auditor)]


@refuses(RoleNotAllowed(Role.ADMIN))
async def require_admin(user: StaffDep) -> User:
    """The authenticated user, who must be an admin."""
    if not user.may_decide:
        raise RoleNotAllowed(Role.ADMIN)
    return user


AdminDep = Annotated[User, Depends(require_admin)]


@refuses(NotAuthenticated(), RoleNotAllowed(AUDITOR_OR_ADMIN))
async def require_follower(
    request: Request, token: Annotated[str | None, Depends(bearer)], auth: AuthServiceDep
) -> User:
    """An auditor or admin with an access token or, since browsers send none by themselves, a console session."""
    if token is not None:
        return await require_auditor(await require_staff(request, token, auth))
    secret = read_cookie(request, SESSION_COOKIE)
    signed_in = await auth.find_browser(secret, is_use=False) if secret else None
    if signed_in is None:
        raise NotAuthenticated
    request.state.user_id = signed_in.user.user_id
    return await require_auditor(signed_in.user)


FollowerDep = Annotated[User, Depends(require_follower)]
