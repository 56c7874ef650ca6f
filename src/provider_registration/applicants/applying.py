"""Handles a submitted application form."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from provider_registration.applicants.form import ApplicationForm, FormRefused
from provider_registration.candidates.errors import EmailTaken
from provider_registration.candidates.service import CandidateService
from provider_registration.db.database import DatabaseUnavailable
from provider_registration.errors import ServiceError
from provider_registration.pages.translations import Language, mark
from provider_registration.web.problems import InvalidRequest
from provider_registration.web.rate_limits import RateLimits, TooManyRequests

EMAIL_TAKEN = mark(
    "This e-mail address is already registered. Use the link to your application, or contact us to get a new one."
)
EMAIL_TAKEN_WITH_LINKS = mark(  # the form offers them below
    "This e-mail address is already registered. Use the link to your application, or get a new one by e-mail at the "
    "end of this page."
)
TOO_MANY = mark(
    "Too many applications were sent from your network. You can send yours %(when)s. Your answers are still here."
)
NOT_SAVED = mark("We could not save your application just now. Send it again in a moment. Your answers are still here.")


@dataclass(frozen=True, slots=True)
class Submission:
    """The result of a submission: the secret of the status link, or the form with its errors.

    `is_changed`: the form was sent before with other values; the first ones were kept.
    """

    form: ApplicationForm
    status_secret: str | None = None
    is_changed: bool = False
    refusal: ServiceError | None = None
    errors: Mapping[str, str] = field(default_factory=dict)
    problem: str | None = None


async def apply(
    form: ApplicationForm,
    *,
    language: Language,
    service: CandidateService,
    limits: RateLimits,
    caller: str,
    offers_links: bool,
) -> Submission:
    """Register the company with the API's rules and rate limit.

    A form sent again returns the application that it created first. `offers_links`: the form's page offers new links.
    """
    try:
        company = form.to_company(language)
    except FormRefused as error:
        return Submission(form, refusal=InvalidRequest([]), errors=error.errors)
    secret = form.status_secret(company.contact_email)
    try:
        await limits.count_registration(caller)
        await service.register(company, language=language.tag, status_secret=secret)
    except EmailTaken as error:
        sent = await service.find_application(secret)
        if sent is None:
            problem = language.say(EMAIL_TAKEN_WITH_LINKS if offers_links else EMAIL_TAKEN)
            return Submission(form, refusal=error, errors={"contact_email": problem})
        return Submission(form, status_secret=secret, is_changed=not sent.matches(company))
    except TooManyRequests as error:
        problem = language.say(TOO_MANY, when=language.wait(error.retry_after or 0))
        return Submission(form, refusal=error, problem=problem)
    except DatabaseUnavailable as error:
        return Submission(form, refusal=error, problem=language.say(NOT_SAVED))
    return Submission(form, status_secret=secret)
