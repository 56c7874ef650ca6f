"""The pages for deciding about several candidates at once."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import Response

from provider_registration.candidates.dependencies import CandidateServiceDep
from provider_registration.console import paths
from provider_registration.console.bulk import MOST, decide_all, read_marks
from provider_registration.console.candidate_router import DecisionsDep
from provider_registration.console.decisions import Outcome
from provider_registration.console.dependencies import DecidingUserDep, OwnFormDep
from provider_registration.console.navigation import lead_to, own_page
from provider_registration.console.rejection import asking_for_reason, read_reason
from provider_registration.pages.router import RendererDep

router = APIRouter(include_in_schema=False)

MARKED = f"{paths.CANDIDATES}/marked"
NOBODY_MARKED = Outcome("info", "Nobody is marked: mark candidates in the list first.")


@router.post(MARKED)
async def ask_about_marked(
    signed_in: DecidingUserDep,
    form: OwnFormDep,
    service: CandidateServiceDep,
    renderer: RendererDep,
    request: Request,
) -> Response:
    """Name the marked companies, and ask whether it is they who are meant."""
    marked = await read_marks(form, service.browsing)
    if not marked:
        return lead_to(request, paths.CANDIDATES, NOBODY_MARKED)
    return own_page(
        renderer,
        request,
        "marked.html",
        signed_in,
        marked=marked,
        most=MOST,
        is_approval=form.get("decision") == "approve",
        **asking_for_reason(typed=form),
    )


@router.post(f"{MARKED}/approve")
async def approve_marked(
    signed_in: DecidingUserDep,
    form: OwnFormDep,
    service: CandidateServiceDep,
    decisions: DecisionsDep,
    renderer: RendererDep,
    request: Request,
) -> Response:
    """Approve each of them, and tell what came of it."""
    user_id = signed_in.user.user_id
    results = await decide_all(
        await read_marks(form, service.browsing),
        lambda marked: decisions.approve(marked.candidate, user_id=user_id, version=marked.version),
    )
    return own_page(renderer, request, "results.html", signed_in, results=results)


@router.post(f"{MARKED}/reject")
async def reject_marked(
    signed_in: DecidingUserDep,
    form: OwnFormDep,
    service: CandidateServiceDep,
    decisions: DecisionsDep,
    renderer: RendererDep,
    request: Request,
) -> Response:
    """Reject each of them for one reason, and tell what came of it; or ask for the reason again."""
    marked = await read_marks(form, service.browsing)
    read = read_reason(form)
    if read.error:
        return own_page(
            renderer,
            request,
            "marked.html",
            signed_in,
            status=422,
            marked=marked,
            most=MOST,
            is_approval=False,
            **asking_for_reason(read, form),
        )
    results = await decide_all(
        marked,
        lambda one: decisions.reject(
            one.candidate, user_id=signed_in.user.user_id, reason=read.reason, version=one.version
        ),
    )
    return own_page(renderer, request, "results.html", signed_in, results=results)
