"""Applying, and what stood in the way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from provider_registration.applicants.form import ApplicationForm, FormRefused
from provider_registration.candidates.errors import EmailTaken
from provider_registration.candidates.service import CandidateService
from provider_registration.db.database import DatabaseUnavailable
from provider_registration.errors import ServiceError
from provider_registration.pages.rendering import duration
from provider_registration.web.problems import InvalidRequest
from provider_registration.web.rate_limits import RateLimits, TooManyRequests

EMAIL_TAKEN = (
    "A company has already applied with this e-mail address. If it was yours, its page shows where it stands; "
    "if you have lost that, ask us for a new address, writing from this e-mail address"
)


@dataclass(frozen=True, slots=True)
class Attempt:
    """A try to apply: the secret of the application's page, or the form with what is wrong, by field or in all.

    `is_changed`: the form was sent before, and says something else now, which is not taken.
    """

    form: ApplicationForm
    status_secret: str | None = None
    is_changed: bool = False
    refusal: ServiceError | None = None
    errors: Mapping[str, str] = field(default_factory=dict)
    problem: str | None = None


async def apply(form: ApplicationForm, *, service: CandidateService, limits: RateLimits, caller: str) -> Attempt:
    """Register the company as the API does, with the same rules and counted together with it.

    Sent a second time, a form leads to the application that it made the first time.
    """
    try:
        company = form.to_company()
    except FormRefused as error:
        return Attempt(form, refusal=InvalidRequest([]), errors=error.errors)
    secret = form.status_secret(company.contact_email)
    try:
        await limits.count_registration(caller)
        await service.register(company, status_secret=secret)
    except EmailTaken as error:
        sent = await service.find_application(secret)
        if sent is None:
            return Attempt(form, refusal=error, errors={"contact_email": EMAIL_TAKEN})
        return Attempt(form, status_secret=secret, is_changed=not sent.says(company))
    except TooManyRequests as error:
        wait = duration(error.retry_after)
        problem = f"Too many applications came from your network. Send this one again in {wait}: it is kept below."
        return Attempt(form, refusal=error, problem=problem)
    except DatabaseUnavailable as error:
        problem = "We could not keep your application just now. Send it again in a moment: what you typed is below."
        return Attempt(form, refusal=error, problem=problem)
    return Attempt(form, status_secret=secret)
