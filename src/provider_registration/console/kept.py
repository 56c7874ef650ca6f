"""What a user had typed when their session ended: it goes through the sign-in page, and back into its form."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlencode

from provider_registration.console import paths
from provider_registration.pages.forms import TOKEN_FIELD, Form
from provider_registration.web.body import form_fields
from provider_registration.web.problems import InvalidRequest

FIELD = "kept"  # of the sign-in form
AGAIN = "again"  # of a form that is to be shown as it was typed, and not carried out
MAX_LENGTH = 16 * 1024  # characters, encoded

_TYPED_INTO = re.compile(f"{paths.CANDIDATES}/(?:[0-9a-f-]{{36}}/(?:reject|approval/resolve)|marked)")
_MARKED = re.compile(f"({paths.CANDIDATES}/marked)/(approve|reject)")


@dataclass(frozen=True, slots=True)
class Kept:
    """The fields of a form, and the path that it is sent to so that its page shows them."""

    path: str
    fields: list[tuple[str, str]]

    @classmethod
    def of(cls, path: str, form: Form) -> Kept | None:
        """What is worth keeping of a form that was sent to a path; None if nothing is, or too much."""
        fields = [(name, value) for name, values in form.fields.items() if name != TOKEN_FIELD for value in values]
        if match := _MARKED.fullmatch(path):
            path, fields = match[1], [("decision", match[2]), *fields]
        kept = cls(path, fields)
        return kept if _TYPED_INTO.fullmatch(path) and len(kept.to_text()) <= MAX_LENGTH else None

    @classmethod
    def from_text(cls, path: str, text: str) -> Kept | None:
        """What a sign-in form carries."""
        if not text or len(text) > MAX_LENGTH or not _TYPED_INTO.fullmatch(path):
            return None
        try:
            return cls(path, form_fields(text.encode()))
        except InvalidRequest:
            return None

    def to_text(self) -> str:
        """For one hidden field of the sign-in form."""
        return urlencode(self.fields)
