"""Pages of somebody who is signed in: what is the same on each of them."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from fastapi import Request
from starlette.responses import RedirectResponse, Response

from provider_registration.admin.decisions import Outcome
from provider_registration.auth.models import BrowserUser
from provider_registration.pages.forms import form_token
from provider_registration.pages.notices import Notice, leave_notice
from provider_registration.pages.rendering import Renderer


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
        **values,
    )


def lead_to(
    request: Request, path: str, outcome: Outcome | None, link: str | None = None, link_text: str = ""
) -> Response:
    """Lead to a page that says what came of a decision, if there was one, and where to go on."""
    root = request.scope.get("root_path", "")
    response = RedirectResponse(root + path, HTTPStatus.SEE_OTHER)
    if outcome is not None:
        leave_notice(response, Notice(outcome.kind, outcome.text, f"{root}{link}" if link else None, link_text))
    return response
