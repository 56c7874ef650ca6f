"""What was found in billing of an approval in doubt."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import ValidationError

from provider_registration.approvals.schemas import ResolutionRequest
from provider_registration.pages.forms import Form

MAX_DIGITS = 10  # of the largest number that a provider can have


@dataclass(frozen=True, slots=True)
class ReadResolution:
    """The provider to link, or None to let the approval go; `error` says what is wrong with what was typed."""

    provider_id: int | None = None
    error: str | None = None


def read_resolution(form: Form) -> ReadResolution:
    """The answer that a form gives, by the rules of the API."""
    resolution, typed = form.get("resolution"), form.get("provider_id").strip()
    if resolution == "link" and not (typed.isdecimal() and len(typed) <= MAX_DIGITS):
        return ReadResolution(error="Type the provider's number in billing")
    try:
        request = ResolutionRequest.model_validate(
            {"resolution": resolution, "provider_id": int(typed) if resolution == "link" else None}
        )
    except ValidationError:
        sentence = (
            "There is no provider with such a number" if resolution == "link" else "Say what you found in billing"
        )
        return ReadResolution(error=sentence)
    return ReadResolution(request.provider_id)
