"""The routes of the pages for companies: the form and the status page."""

from __future__ import annotations

from http import HTTPStatus

from fastapi import APIRouter, Request
from starlette.responses import RedirectResponse, Response

from provider_registration.applicants.applying import Submission, apply
from provider_registration.applicants.form import ApplicationForm
from provider_registration.applicants.lost import APPLY, lost_page
from provider_registration.applicants.questions import QUESTIONS, SECTIONS, products_in
from provider_registration.candidates.company import REQUIRED
from provider_registration.candidates.dependencies import CandidateServiceDep, RateLimitsDep
from provider_registration.candidates.links import APPLICATIONS, status_url
from provider_registration.notifications.dependencies import mailing_of
from provider_registration.pages.flash import FlashMessage, set_flash
from provider_registration.pages.forms import FormDep
from provider_registration.pages.rendering import Renderer
from provider_registration.pages.router import RendererDep
from provider_registration.pages.translations import Language, mark
from provider_registration.web.problems import headers_of, status_of
from provider_registration.web.rate_limit_middleware import network_of_client

router = APIRouter(include_in_schema=False)

# The URL is a secret, so no request sends it as Referer, not even those for our static files.
NO_REFERRER = {"Referrer-Policy": "no-referrer"}
# Lets the Back button show the same form with its key, so that sending it again does not create a second application.
# An empty form has no personal data.
REVALIDATED = {"Cache-Control": "private, no-cache"}
ALREADY_SENT = mark("You have already sent this application. We kept your first version. To change it, contact us.")
SWITCH = "switch"  # name of the buttons that show the form in another language and keep what was typed


@router.get(APPLY)
async def show_form(request: Request, renderer: RendererDep) -> Response:
    """Show an empty form."""
    page = _form_page(request, renderer, renderer.languages.of(request), Submission(ApplicationForm.blank()))
    page.headers.update(REVALIDATED)
    return page


@router.post(APPLY)
async def post_form(
    form: FormDep, service: CandidateServiceDep, limits: RateLimitsDep, renderer: RendererDep, request: Request
) -> Response:
    """Register the company and redirect to its status page, or show the form again with its errors."""
    language, typed = renderer.languages.of(request), ApplicationForm.of(form)
    if form.get(SWITCH) and typed.is_blank:  # a URL that can be reloaded and bookmarked
        path = f"{request.scope.get('root_path', '')}{APPLY}"
        return RedirectResponse(renderer.languages.keep_choice(request, path), HTTPStatus.SEE_OTHER)
    if form.get(SWITCH):
        return _form_page(request, renderer, language, Submission(typed))
    sent = await apply(
        typed,
        language=language,
        service=service,
        limits=limits,
        caller=network_of_client(request),
        offers_links=mailing_of(request).offers_links,
    )
    if sent.status_secret:
        location = status_url(request, sent.status_secret)
        if sent.is_changed:  # it may have been sent in another language before
            location = renderer.languages.keep_choice(request, location)
        response = RedirectResponse(location, HTTPStatus.SEE_OTHER)
        if sent.is_changed:
            set_flash(request, response, FlashMessage("warning", language.say(ALREADY_SENT)))
        return response
    return _form_page(request, renderer, language, sent)


def _form_page(request: Request, renderer: Renderer, language: Language, submission: Submission) -> Response:
    status, headers = HTTPStatus.OK, {}
    if submission.refusal is not None:
        status, headers = status_of(submission.refusal), headers_of(submission.refusal)
    return renderer.page(
        request,
        "applicants/apply.html",
        status=status,
        headers=headers,
        language=language,
        submission=submission,
        sections=SECTIONS,
        questions=QUESTIONS,
        required=REQUIRED,
        products=products_in(language),
        lost=lost_page(request, renderer.languages),
    )


@router.get(f"{APPLICATIONS}/{{secret}}")
async def show_application(
    secret: str, service: CandidateServiceDep, renderer: RendererDep, request: Request
) -> Response:
    """Show the status of an application to anyone who has its link."""
    application, languages = await service.find_application(secret), renderer.languages
    if application is None:
        return renderer.page(
            request,
            "applicants/unknown.html",
            status=HTTPStatus.NOT_FOUND,
            headers=NO_REFERRER,
            language=languages.of(request),
            apply=languages.keep_choice(request, APPLY),
            lost=lost_page(request, languages),
        )
    language = languages.of(request, application.language)
    return renderer.page(
        request,
        "applicants/application.html",
        headers=NO_REFERRER,
        language=language,
        application=application,
        questions=QUESTIONS,
        products=products_in(language),
        lost=lost_page(request, languages),
    )
