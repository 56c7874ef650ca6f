"""Pages of somebody who is signed in: what is the same on each of them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Any

from fastapi import Request
from starlette.responses import RedirectResponse, Response

from provider_registration.auth.models import BrowserUser
from provider_registration.billing.client import BillingClient
from provider_registration.billing.protection import BreakerState
from provider_registration.console.decisions import Outcome
from provider_registration.pages.forms import form_token
from provider_registration.pages.notices import Notice, leave_notice
from provider_registration.pages.rendering import Renderer
from provider_registration.web.services import services_of


def own_page(
    renderer: Renderer,
    request: Request,
    template: str,
    signed_in: BrowserUser,
    *,
    status: int = HTTPStatus.OK,
    **values: Any,  # noqa: ANN401 - whatever the template shows
) -> Response:
    """Answer with one of the console's pages."""
    return renderer.page(
        request,
        f"admin/{template}",
        status=status,
        signed_in=signed_in,
        token=form_token(signed_in.secret),
        billing_pause=_billing_pause(request),
        **values,
    )


@dataclass(frozen=True, slots=True)
class Pause:
    """Billing is not asked before an instant, as far as this process knows: each has a breaker of its own."""

    until: datetime
    is_over: bool  # the next call finds out whether billing answers again


def _billing_pause(request: Request) -> Pause | None:
    breaker = services_of(request).get(BillingClient).breaker
    if breaker.state is BreakerState.CLOSED:
        return None
    until = datetime.now(UTC) + timedelta(seconds=breaker.retry_after)
    return Pause(until, is_over=breaker.state is BreakerState.HALF_OPEN)


def lead_to(
    request: Request, path: str, outcome: Outcome | None, link: str | None = None, link_text: str = ""
) -> Response:
    """Lead to a page that says what came of a decision, if there was one, and where to go on."""
    root = request.scope.get("root_path", "")
    response = RedirectResponse(root + path, HTTPStatus.SEE_OTHER)
    if outcome is not None:
        leave_notice(
            request, response, Notice(outcome.kind, outcome.text, f"{root}{link}" if link else None, link_text)
        )
    return response
