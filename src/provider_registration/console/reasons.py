"""The reason for a rejection: one of the common ones, or free text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from provider_registration.candidates.models import STANDARD_REASONS
from provider_registration.candidates.schemas import RejectionRequest
from provider_registration.pages.forms import Form

# The groups of the statistics, by code.
REASON_NAMES = {
    **STANDARD_REASONS,
    "other": "Another reason",
    "none": "No reason",
    "erased": "The data was erased",
}
COMMON_REASONS = tuple(STANDARD_REASONS.values())
OTHER, NO_REASON = "own", "none"
MESSAGES = {  # by pydantic's error type
    "too_long": "Reason must be {max_length:,} characters or fewer",
    "control_character": "Remove control characters",
}
REASON_OF_CHOICE = {str(number): reason for number, reason in enumerate(COMMON_REASONS)}


@dataclass(frozen=True, slots=True)
class ParsedReason:
    """The selected or entered reason; `error` says why it is invalid."""

    reason: str | None = None
    error: str | None = None


def reason_values(parsed: ParsedReason | None = None, typed: Form | None = None) -> dict[str, Any]:
    """The template values of a page with the reason form, at first or after an error."""
    return {"reasons": COMMON_REASONS, "parsed": parsed or ParsedReason(), "typed": typed or Form({})}


def parse_reason(form: Form) -> ParsedReason:
    """Validate the reason of a form by the rules of the API."""
    choice = form.get("choice")
    if choice == NO_REASON:
        return ParsedReason()
    if choice in REASON_OF_CHOICE:
        return ParsedReason(REASON_OF_CHOICE[choice])
    if choice != OTHER:
        return ParsedReason(error="Select a reason")
    try:
        reason = RejectionRequest.model_validate({"reason": " ".join(form.get("reason").splitlines())}).reason
    except ValidationError as error:
        [wrong] = error.errors(include_url=False, include_input=False)
        return ParsedReason(error=MESSAGES[wrong["type"]].format_map(wrong.get("ctx", {})))
    return ParsedReason(reason) if reason else ParsedReason(error="Enter a reason")
