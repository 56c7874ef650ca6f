"""The application form as typed, and its validation errors as sentences."""

from __future__ import annotations

import hmac
import re
import secrets
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Self

from pydantic import ValidationError

from provider_registration.applicants.questions import QUESTIONS, sentence
from provider_registration.candidates.company import NUMBERS
from provider_registration.candidates.schemas import CandidateRegistration
from provider_registration.pages.forms import Form
from provider_registration.pages.translations import Language, mark
from provider_registration.web.text import canonical_email, whole_number

TEXTS = tuple(fact for fact in QUESTIONS if fact not in (*NUMBERS, "products"))
HONEYPOT = "website"  # hidden from people; spam bots fill it in
SPAM_CHECK = mark("Leave this empty (spam check)")
KEY_BYTES = 32
_KEY = re.compile(r"[A-Za-z0-9_-]{43}")


class FormRefused(Exception):
    """The form is invalid; `errors` has a sentence for each field."""

    def __init__(self, errors: Mapping[str, str]) -> None:
        self.errors = errors


@dataclass(frozen=True, slots=True)
class ApplicationForm:
    """The fields as typed. `key` stays the same when a form is sent again."""

    key: str
    typed: Mapping[str, str]
    products: list[str]

    @classmethod
    def blank(cls) -> Self:
        """A new form."""
        return cls(secrets.token_urlsafe(KEY_BYTES), dict.fromkeys((*TEXTS, *NUMBERS, HONEYPOT), ""), [])

    @classmethod
    def of(cls, form: Form) -> Self:
        """The submitted form."""
        key = form.get("key")
        typed = {name: form.get(name) for name in (*TEXTS, *NUMBERS, HONEYPOT)}
        return cls(key if _KEY.fullmatch(key) else secrets.token_urlsafe(KEY_BYTES), typed, form.all("products"))

    @property
    def is_blank(self) -> bool:
        """Whether all fields are empty."""
        return not any(self.typed.values()) and not self.products

    def to_company(self, language: Language) -> CandidateRegistration:
        """Validate the form with the API's rules.

        Raises:
            FormRefused: the form is invalid; its sentences are in `language`.
        """
        fields: dict[str, Any] = {name: text for name in TEXTS if (text := self.typed[name]).strip()}
        fields |= {name: whole_number(text) for name in NUMBERS if (text := self.typed[name].strip())}
        if self.products:
            fields["products"] = self.products
        errors: dict[str, str] = {}
        try:
            registration = CandidateRegistration.model_validate(fields)
        except ValidationError as error:
            for fault in error.errors(include_url=False, include_input=False):
                errors.setdefault(str(fault["loc"][0]), sentence(fault, language))
        if self.typed[HONEYPOT]:
            errors[HONEYPOT] = language.say(SPAM_CHECK)
        if errors:
            raise FormRefused({name: errors[name] for name in (*QUESTIONS, HONEYPOT) if name in errors})
        return registration

    def status_secret(self, contact_email: str) -> str:
        """The secret of the status link, the same each time that this form is sent.

        A second click therefore redirects to the application that the first click created.
        """
        digest = hmac.digest(self.key.encode(), canonical_email(contact_email).encode(), sha256)
        return urlsafe_b64encode(digest).rstrip(b"=").decode()
