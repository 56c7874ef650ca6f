"""The pages for companies: the form, and where an application stands."""

from __future__ import annotations

from http import HTTPStatus

from fastapi import APIRouter, Request
from starlette.responses import RedirectResponse, Response

from provider_registration.applicants.applying import Attempt, apply
from provider_registration.applicants.form import ApplicationForm
from provider_registration.candidates.company import Product
from provider_registration.candidates.dependencies import CandidateServiceDep, RateLimitsDep
from provider_registration.candidates.links import APPLICATIONS, status_url
from provider_registration.pages.forms import FormDep
from provider_registration.pages.notices import Notice, leave_notice
from provider_registration.pages.rendering import Renderer
from provider_registration.pages.router import RendererDep
from provider_registration.web.problems import headers_of, status_of
from provider_registration.web.rate_limit_middleware import address_of

router = APIRouter(include_in_schema=False)

APPLY = "/apply"
# The address of the page is the secret: not even our own static files are told of it.
TELL_NOBODY = {"Referrer-Policy": "no-referrer"}
# Going back shows this very form, so that what is sent then is known to be the same application. It holds nothing
# personal, and is requested again in every other case.
KEPT_FOR_GOING_BACK = {"Cache-Control": "private, no-cache"}
SENT_BEFORE = Notice(
    "warning",
    "You had sent this application before, and what you sent first is what we have. If something in it has to change, "
    "write to us from the e-mail address in it.",
)


@router.get(APPLY)
async def show_form(request: Request, renderer: RendererDep) -> Response:
    """The form."""
    page = _form_page(request, renderer, Attempt(ApplicationForm.blank()))
    page.headers.update(KEPT_FOR_GOING_BACK)
    return page


@router.post(APPLY)
async def post_form(
    form: FormDep, service: CandidateServiceDep, limits: RateLimitsDep, renderer: RendererDep, request: Request
) -> Response:
    """Register the company and lead to its own page, or show the form again with what was wrong."""
    attempt = await apply(ApplicationForm.of(form), service=service, limits=limits, caller=address_of(request))
    if attempt.status_secret:
        response = RedirectResponse(status_url(request, attempt.status_secret), HTTPStatus.SEE_OTHER)
        if attempt.is_changed:
            leave_notice(request, response, SENT_BEFORE)
        return response
    return _form_page(request, renderer, attempt)


def _form_page(request: Request, renderer: Renderer, attempt: Attempt) -> Response:
    status, headers = HTTPStatus.OK, {}
    if attempt.refusal is not None:
        status, headers = status_of(attempt.refusal), headers_of(attempt.refusal)
    return renderer.page(
        request, "applicants/apply.html", status=status, headers=headers, attempt=attempt, products=list(Product)
    )


@router.get(f"{APPLICATIONS}/{{secret}}")
async def show_application(
    secret: str, service: CandidateServiceDep, renderer: RendererDep, request: Request
) -> Response:
    """Where an application stands, for whoever has its link."""
    application = await service.find_application(secret)
    if application is None:
        return renderer.page(
            request, "applicants/unknown.html", status=HTTPStatus.NOT_FOUND, headers=TELL_NOBODY, apply=APPLY
        )
    return renderer.page(request, "applicants/application.html", headers=TELL_NOBODY, application=application)
