"""Dependencies of the console's routes."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import Depends, Request

from provider_registration.approvals.dependencies import ApprovalServiceDep
from provider_registration.auth.dependencies import (
    AUDITOR_OR_ADMIN,
    SESSION_COOKIE,
    AuthServiceDep,
    TokenDep,
    require_staff,
)
from provider_registration.auth.errors import RoleNotAllowed
from provider_registration.auth.models import BrowserUser, Role
from provider_registration.candidates.dependencies import CandidateServiceDep
from provider_registration.candidates.models import Candidate
from provider_registration.console.decisions import Decisions
from provider_registration.console.errors import SignInNeeded
from provider_registration.events.dependencies import EventServiceDep
from provider_registration.pages.cookies import read_cookie


async def find_browser_user(request: Request, auth: AuthServiceDep) -> BrowserUser | None:
    """The signed-in user, if any; the request's log line names them."""
    secret = read_cookie(request, SESSION_COOKIE)
    signed_in = await auth.find_browser(secret) if secret else None
    if signed_in is not None:
        request.state.user_id = signed_in.user.user_id
    return signed_in


FoundUserDep = Annotated[BrowserUser | None, Depends(find_browser_user)]


async def require_browser_user(signed_in: FoundUserDep) -> BrowserUser:
    """The signed-in user, of any role."""
    if signed_in is None:
        raise SignInNeeded
    return signed_in


BrowserUserDep = Annotated[BrowserUser, Depends(require_browser_user)]


async def require_reader(request: Request, token: TokenDep, signed_in: FoundUserDep, auth: AuthServiceDep) -> None:
    """Accept an access token, an API key or a browser session: browsers send no token to open a page."""
    if token is not None:
        await require_staff(request, token, auth)
    elif signed_in is None:
        raise SignInNeeded


async def require_auditing_user(signed_in: BrowserUserDep) -> BrowserUser:
    """The signed-in user, auditor or admin only."""
    if not signed_in.may_audit:
        raise RoleNotAllowed(AUDITOR_OR_ADMIN)
    return signed_in


AuditingUserDep = Annotated[BrowserUser, Depends(require_auditing_user)]


async def require_deciding_user(signed_in: BrowserUserDep) -> BrowserUser:
    """The signed-in user, admin only."""
    if not signed_in.may_decide:
        raise RoleNotAllowed(Role.ADMIN)
    return signed_in


DecidingUserDep = Annotated[BrowserUser, Depends(require_deciding_user)]


async def find_candidate(candidate_id: UUID, _signed_in: BrowserUserDep, service: CandidateServiceDep) -> Candidate:
    """The candidate in the path, for signed-in users."""
    return await service.browsing.candidate(candidate_id)


CandidateDep = Annotated[Candidate, Depends(find_candidate)]


async def get_decisions(
    service: CandidateServiceDep, approvals: ApprovalServiceDep, events: EventServiceDep
) -> Decisions:
    """The service that carries out decisions."""
    return Decisions(service, approvals, events)


DecisionsDep = Annotated[Decisions, Depends(get_decisions)]
