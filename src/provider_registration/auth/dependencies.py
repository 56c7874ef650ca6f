"""Dependencies that authenticate the caller: `user: AdminDep`."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request
from fastapi.openapi.models import HTTPBearer
from fastapi.security import OAuth2PasswordBearer
from fastapi.security.base import SecurityBase

from provider_registration.auth.errors import NotAuthenticated, PersonRequired, RoleNotAllowed
from provider_registration.auth.models import Caller, Program, Role, User
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


class ApiKeyScheme(SecurityBase):
    """Documents that API keys are accepted wherever access tokens are; `bearer` reads both."""

    def __init__(self) -> None:
        self.scheme_name = "APIKey"
        self.model = HTTPBearer(bearerFormat="prk_…", description="An API key, as in `POST /api-keys`.")

    async def __call__(self) -> None:
        """Read nothing."""


async def read_token(
    token: Annotated[str | None, Depends(bearer)], _scheme: Annotated[None, Depends(ApiKeyScheme())]
) -> str | None:
    """The access token or API key of the request, if any."""
    return token


TokenDep = Annotated[str | None, Depends(read_token)]


@refuses(NotAuthenticated())
async def require_staff(request: Request, token: TokenDep, auth: AuthServiceDep) -> Caller:
    """The authenticated user or program, of any role; the request's log line has the ID."""
    if token is None:
        raise NotAuthenticated
    caller = await auth.authenticate(token)
    match caller:
        case User():
            request.state.user_id = caller.user_id
        case Program():
            request.state.api_key_id = caller.api_key_id
    return caller


StaffDep = Annotated[Caller, Depends(require_staff)]


@refuses(PersonRequired())
async def require_person(caller: StaffDep) -> User:
    """The authenticated user, of any role, but no program with an API key."""
    if not isinstance(caller, User):
        raise PersonRequired
    return caller


PersonDep = Annotated[User, Depends(require_person)]


@refuses(RoleNotAllowed(AUDITOR_OR_ADMIN))
async def require_auditor(user: StaffDep) -> Caller:
    """The authenticated user or program, which must be an auditor or an admin."""
    if not user.may_audit:
        raise RoleNotAllowed(AUDITOR_OR_ADMIN)
    return user


AuditorDep = Annotated[Caller, Depends(require_auditor)]


@refuses(RoleNotAllowed(Role.ADMIN))
async def require_admin(user: StaffDep) -> Caller:
    """The authenticated user or program, which must be an admin."""
    if not user.may_decide:
        raise RoleNotAllowed(Role.ADMIN)
    return user


AdminDep = Annotated[Caller, Depends(require_admin)]


async def require_admin_in_person(user: PersonDep, _admin: AdminDep) -> User:
    """The authenticated user, who must be an admin."""
    return user


AdminInPersonDep = Annotated[User, Depends(require_admin_in_person)]


@refuses(NotAuthenticated(), RoleNotAllowed(AUDITOR_OR_ADMIN))
async def require_follower(request: Request, token: TokenDep, auth: AuthServiceDep) -> Caller:
    """An auditor or admin with an access token, an API key or, since browsers send neither, a console session."""
    if token is not None:
        return await require_auditor(await require_staff(request, token, auth))
    secret = read_cookie(request, SESSION_COOKIE)
    signed_in = await auth.find_browser(secret, is_use=False) if secret else None
    if signed_in is None:
        raise NotAuthenticated
    request.state.user_id = signed_in.user.user_id
    return await require_auditor(signed_in.user)


FollowerDep = Annotated[Caller, Depends(require_follower)]
