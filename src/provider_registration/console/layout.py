"""Shared by the console's pages: their paths, their layout, and redirects."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import Depends, Request
from pydantic import BeforeValidator
from starlette.responses import RedirectResponse, Response

from provider_registration.auth.models import BrowserUser
from provider_registration.billing.client import BillingClient
from provider_registration.billing.models import BreakerState
from provider_registration.candidates.company import LABELS
from provider_registration.candidates.models import Candidate
from provider_registration.console.decisions import Outcome
from provider_registration.console.dependencies import BrowserUserDep
from provider_registration.notifications.dependencies import mailing_of
from provider_registration.pages.cookies import read_cookie
from provider_registration.pages.flash import FlashMessage, set_flash
from provider_registration.pages.rendering import Renderer
from provider_registration.pages.router import RendererDep
from provider_registration.web.services import services_of
from provider_registration.webhooks.service import WebhookService

# Paths of the pages, below the gateway's prefix.
HOME = "/admin"
SIGN_IN = f"{HOME}/sign-in"
SIGN_OUT = f"{HOME}/sign-out"
NEXT = f"{HOME}/next"
CANDIDATES = f"{HOME}/candidates"
CANDIDATE = f"{CANDIDATES}/{{candidate_id}}"
SELECTED = f"{CANDIDATES}/marked"
APPROVALS = f"{HOME}/approvals"
ACTIVITY = f"{HOME}/activity"
JOBS = f"{HOME}/jobs"
JOB = f"{JOBS}/{{job_id}}"
IMPORTS = f"{HOME}/imports"
IMPORT = f"{IMPORTS}/{{import_id}}"
WEBHOOKS = f"{HOME}/webhooks"
WEBHOOK = f"{WEBHOOKS}/{{webhook_id}}"
API_KEYS = f"{HOME}/api-keys"
API_KEY = f"{API_KEYS}/{{api_key_id}}"

LIST_COOKIE = "list"  # the query string of the list of candidates that this browser showed last
AGAIN = "again"  # form field: show the form again with its values and do nothing else

# Pages of the console and the API documents: a sign-in never redirects to another host.
_TARGET = re.compile(r"/admin(/[A-Za-z0-9-]+)*(\?[A-Za-z0-9_=&%.+~*-]*)?|/docs|/redoc|/openapi\.json")
_CANDIDATE = re.compile(f"{CANDIDATES}/[0-9a-f-]{{36}}(?=/)")
MAX_TARGET_LENGTH = 1000

# A form sends its empty fields too.
EmptyIsAbsent = BeforeValidator(lambda value: None if value == "" else value)


def safe_target(target: str) -> str:
    """The target if it is a page of the console or an API document, else the overview."""
    is_ours = len(target) <= MAX_TARGET_LENGTH and _TARGET.fullmatch(target)
    return target if is_ours and not target.startswith((SIGN_IN, SIGN_OUT)) else HOME


def page_above(path: str) -> str:
    """The candidate's page for a path below it, else the overview."""
    match = _CANDIDATE.match(path)
    return match[0] if match else HOME


def page_of(candidate: Candidate) -> str:
    """The path of a candidate's page."""
    return f"{CANDIDATES}/{candidate.candidate_id}"


@dataclass(frozen=True, slots=True)
class Pause:
    """The circuit breaker of this process is open: it does not call billing before `until`."""

    until: datetime
    is_over: bool  # the next call is a probe


@dataclass(frozen=True, slots=True)
class Layout:
    """Responds to a signed-in user with a page or a redirect."""

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
        """Render one of the console's templates."""
        return self.renderer.page(
            self.request,
            f"console/{template}",
            status=status,
            signed_in=self.signed_in,
            billing_pause=self._billing_pause(),
            labels=LABELS,
            sends_mail=mailing_of(self.request).sends,
            list_url=self.request.scope.get("root_path", "") + self.list_path,
            has_webhooks=services_of(self.request).get(WebhookService).is_on,
            **values,
        )

    @property
    def list_path(self) -> str:
        """The list of candidates as this browser showed it last, with its filters and order."""
        target = safe_target(f"{CANDIDATES}?{read_cookie(self.request, LIST_COOKIE) or ''}").removesuffix("?")
        return target if target.startswith(CANDIDATES) else CANDIDATES

    def redirect(
        self, path: str, outcome: Outcome | None = None, link: str | None = None, link_text: str = ""
    ) -> Response:
        """Redirect to a page, which shows the outcome of a decision and a link, if given, as a flash message."""
        root = self.request.scope.get("root_path", "")
        response = RedirectResponse(root + path, HTTPStatus.SEE_OTHER)
        if outcome is not None:
            message = FlashMessage(outcome.kind, outcome.text, f"{root}{link}" if link else None, link_text)
            set_flash(self.request, response, message)
        return response

    def _billing_pause(self) -> Pause | None:
        breaker = services_of(self.request).get(BillingClient).breaker
        if breaker.state is BreakerState.CLOSED:
            return None
        until = datetime.now(UTC) + timedelta(seconds=breaker.retry_after)
        return Pause(until, is_over=breaker.state is BreakerState.HALF_OPEN)


async def get_layout(request: Request, renderer: RendererDep, signed_in: BrowserUserDep) -> Layout:
    """The layout for the signed-in user."""
    return Layout(request, renderer, signed_in)


LayoutDep = Annotated[Layout, Depends(get_layout)]
