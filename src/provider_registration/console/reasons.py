"""Why a candidate is rejected: one of the usual reasons, or words of one's own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from provider_registration.candidates.schemas import RejectionRequest
from provider_registration.pages.forms import Form

# Whoever applied may read them.
USUAL_REASONS = (
    "We have enough suppliers of these products at present.",
    "The capacity is too small for our routes.",
    "We could not verify the company.",
    "The details are incomplete or contradict each other.",
    "The company is registered already.",
)
OWN_WORDS, NO_REASON = "own", "none"
SENTENCES = {  # by pydantic's type of error
    "too_long": "A reason can have {max_length:,} characters at most",
    "control_character": "Remove characters that cannot be printed",
}
REASON_OF_CHOICE = {str(number): reason for number, reason in enumerate(USUAL_REASONS)}


@dataclass(frozen=True, slots=True)
class ReadReason:
    """What was chosen or typed; `error` says what is wrong with it."""

    reason: str | None = None
    error: str | None = None


def asking_for_reason(read: ReadReason | None = None, typed: Form | None = None) -> dict[str, Any]:
    """What a page needs that asks for the reason, for the first time or after something was wrong."""
    return {"reasons": USUAL_REASONS, "read": read or ReadReason(), "typed": typed or Form({})}


def read_reason(form: Form) -> ReadReason:
    """The reason that a form gives, by the rules of the API."""
    choice = form.get("choice")
    if choice == NO_REASON:
        return ReadReason()
    if choice in REASON_OF_CHOICE:
        return ReadReason(REASON_OF_CHOICE[choice])
    if choice != OWN_WORDS:
        return ReadReason(error="Choose a reason, your own words, or no reason")
    try:
        reason = RejectionRequest(reason=" ".join(form.get("reason").splitlines())).reason
    except ValidationError as error:
        [wrong] = error.errors(include_url=False, include_input=False)
        return ReadReason(error=SENTENCES[wrong["type"]].format_map(wrong.get("ctx", {})))
    return ReadReason(reason) if reason else ReadReason(error="Write the reason, or choose another answer")
