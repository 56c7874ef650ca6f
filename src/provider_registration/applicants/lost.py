"""The page where a company asks for its lost link."""

from __future__ import annotations

from http import HTTPStatus

from fastapi import APIRouter, Request
from pydantic import ValidationError
from starlette.responses import RedirectResponse, Response

from provider_registration.applicants.questions import sentence
from provider_registration.db.database import DatabaseUnavailable
from provider_registration.errors import ServiceError
from provider_registration.notifications.dependencies import LostLinksDep, mailing_of
from provider_registration.notifications.schemas import LostLinkRequest
from provider_registration.pages.forms import FormDep
from provider_registration.pages.rendering import Renderer
from provider_registration.pages.router import RendererDep
from provider_registration.pages.translations import Languages, mark
from provider_registration.web.problems import InvalidRequest, headers_of, status_of
from provider_registration.web.rate_limits import TooManyRequests

router = APIRouter(include_in_schema=False)

APPLY = "/apply"
LOST = f"{APPLY}/lost"
SENT = f"{LOST}/sent"
FIELD = "contact_email"
TOO_MANY = mark("Too many links were asked for. You can ask again %(when)s.")
NOT_SENT = mark("We could not do this just now. Try again in a moment.")


def lost_page(request: Request, languages: Languages) -> str | None:
    """The path of the page; None if no e-mail can be sent."""
    return languages.keep_choice(request, LOST) if mailing_of(request).offers_links else None


@router.get(LOST)
async def show_form(request: Request, renderer: RendererDep) -> Response:
    """Ask for the e-mail address."""
    return _form_page(request, renderer)


@router.post(LOST)
async def post_form(form: FormDep, lost: LostLinksDep, renderer: RendererDep, request: Request) -> Response:
    """Have the link sent, and say the same for every e-mail address."""
    language, typed = renderer.languages.of(request), form.get(FIELD)
    try:
        asked = LostLinkRequest.model_validate({FIELD: typed} if typed.strip() else {})
    except ValidationError as error:
        [fault, *_] = error.errors(include_url=False, include_input=False)
        wrong = sentence(fault, language)
        return _form_page(request, renderer, typed=typed, error=wrong, refusal=InvalidRequest([]))
    try:
        await lost.request(asked.contact_email)
    except TooManyRequests as error:
        problem = language.say(TOO_MANY, when=language.wait(error.retry_after or 0))
        return _form_page(request, renderer, typed=typed, problem=problem, refusal=error)
    except DatabaseUnavailable as error:
        return _form_page(request, renderer, typed=typed, problem=language.say(NOT_SENT), refusal=error)
    path = f"{request.scope.get('root_path', '')}{SENT}"
    return RedirectResponse(renderer.languages.keep_choice(request, path), HTTPStatus.SEE_OTHER)


@router.get(SENT)
async def show_sent(request: Request, renderer: RendererDep) -> Response:
    """Say that the link was sent, if there is an application."""
    return renderer.page(request, "applicants/lost_sent.html", language=renderer.languages.of(request))


def _form_page(
    request: Request,
    renderer: Renderer,
    *,
    typed: str = "",
    error: str | None = None,
    problem: str | None = None,
    refusal: ServiceError | None = None,
) -> Response:
    return renderer.page(
        request,
        "applicants/lost.html",
        status=status_of(refusal) if refusal else HTTPStatus.OK,
        headers=headers_of(refusal) if refusal else {},
        language=renderer.languages.of(request),
        action=renderer.languages.keep_choice(request, LOST),
        typed=typed,
        error=error,
        problem=problem,
    )
