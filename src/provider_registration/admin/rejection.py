"""Why a candidate is rejected: one of the usual reasons, or words of one's own."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import ValidationError

from provider_registration.candidates.schemas import RejectionRequest
from provider_registration.pages.forms import Form
from provider_registration.web.problems import field_errors

# Whoever applied may read them.
USUAL_REASONS = (
    "We have enough suppliers of these products at present.",
    "The capacity is too small for our routes.",
    "We could not verify the company.",
    "The details are incomplete or contradict each other.",
    "The company is registered already.",
)
OWN_WORDS, NO_REASON = "own", "none"


@dataclass(frozen=True, slots=True)
class ReadReason:
    """What was chosen or typed; `error` says what is wrong with it."""

    reason: str | None = None
    error: str | None = None


def read_reason(form: Form) -> ReadReason:
    """The reason that a form gives, by the rules of the API."""
    choice = form.get("choice")
    if choice == NO_REASON:
        return ReadReason()
    if choice.isdecimal() and int(choice[:3]) < len(USUAL_REASONS):
        return ReadReason(USUAL_REASONS[int(choice)])
    if choice != OWN_WORDS:
        return ReadReason(error="Choose a reason, your own words, or no reason")
    try:
        reason = RejectionRequest(reason=form.get("reason")).reason
    except ValidationError as error:
        [wrong] = field_errors(error.errors(include_url=False, include_input=False), location="body")
        return ReadReason(error=wrong.detail)
    return ReadReason(reason) if reason else ReadReason(error="Write the reason, or choose another answer")
