"""What the console's pages have in common: their addresses, the frame around each, and how one leads to another."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import Depends, Request
from starlette.responses import RedirectResponse, Response

from provider_registration.auth.models import BrowserUser
from provider_registration.billing.client import BillingClient
from provider_registration.billing.port import BreakerState
from provider_registration.candidates.models import Candidate
from provider_registration.console.decisions import Outcome
from provider_registration.console.dependencies import BrowserUserDep
from provider_registration.pages.notices import Notice, leave_notice
from provider_registration.pages.rendering import Renderer
from provider_registration.pages.router import RendererDep
from provider_registration.web.services import services_of

# Where the pages are, below the gateway's prefix.
HOME = "/admin"
SIGN_IN = f"{HOME}/sign-in"
SIGN_OUT = f"{HOME}/sign-out"
NEXT = f"{HOME}/next"
CANDIDATES = f"{HOME}/candidates"
CANDIDATE = f"{CANDIDATES}/{{candidate_id}}"
MARKED = f"{CANDIDATES}/marked"
APPROVALS = f"{HOME}/approvals"

AGAIN = "again"  # the field of a form that is to be shown as it was typed, and not carried out

# Pages of the console, and the documents that it opens: nobody is led to another host after signing in.
_TARGET = re.compile(r"/admin(/[A-Za-z0-9-]+)*(\?[A-Za-z0-9_=&%.+~*-]*)?|/docs|/redoc|/openapi\.json")
_CANDIDATE = re.compile(f"{CANDIDATES}/[0-9a-f-]{{36}}(?=/)")
MAX_TARGET_LENGTH = 1000


def safe_target(address: str) -> str:
    """The address if it is one of the console's pages or of the documents, else the first page."""
    is_ours = len(address) <= MAX_TARGET_LENGTH and _TARGET.fullmatch(address)
    return address if is_ours and not address.startswith((SIGN_IN, SIGN_OUT)) else HOME


def page_above(path: str) -> str:
    """The candidate's page if a path below it was asked for, else the first page."""
    match = _CANDIDATE.match(path)
    return match[0] if match else HOME


def page_of(candidate: Candidate) -> str:
    """The path of a candidate's page."""
    return f"{CANDIDATES}/{candidate.candidate_id}"


@dataclass(frozen=True, slots=True)
class Pause:
    """Billing is not asked before an instant, as far as this process knows: each has a breaker of its own."""

    until: datetime
    is_over: bool  # the next call finds out whether billing answers again


@dataclass(frozen=True, slots=True)
class Layout:
    """Answers somebody who is signed in: with a page, or by leading to one."""

    request: Request
    renderer: Renderer
    signed_in: BrowserUser

    def page(
        self,
        template: str,
        *,
        status: int = HTTPStatus.OK,
        **values: Any,  # noqa: ANN401 - whatever the template shows
    ) -> Response:
        """Answer with one of the console's templates."""
        return self.renderer.page(
            self.request,
            f"console/{template}",
            status=status,
            signed_in=self.signed_in,
            billing_pause=self._billing_pause(),
            **values,
        )

    def lead_to(
        self, path: str, outcome: Outcome | None = None, link: str | None = None, link_text: str = ""
    ) -> Response:
        """Lead to a page that says what came of a decision, if there was one, and where to go on."""
        root = self.request.scope.get("root_path", "")
        response = RedirectResponse(root + path, HTTPStatus.SEE_OTHER)
        if outcome is not None:
            notice = Notice(outcome.kind, outcome.text, f"{root}{link}" if link else None, link_text)
            leave_notice(self.request, response, notice)
        return response

    def _billing_pause(self) -> Pause | None:
        breaker = services_of(self.request).get(BillingClient).breaker
        if breaker.state is BreakerState.CLOSED:
            return None
        until = datetime.now(UTC) + timedelta(seconds=breaker.retry_after)
        return Pause(until, is_over=breaker.state is BreakerState.HALF_OPEN)


async def get_layout(request: Request, renderer: RendererDep, signed_in: BrowserUserDep) -> Layout:
    """The layout for whoever is signed in."""
    return Layout(request, renderer, signed_in)


LayoutDep = Annotated[Layout, Depends(get_layout)]
