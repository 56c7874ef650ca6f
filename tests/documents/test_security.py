"""SECURITY.md: its numbers are those of the code."""

from __future__ import annotations

import pytest

from provider_registration import database, settings
from provider_registration.auth import passwords, tokens
from provider_registration.billing import client
from provider_registration.web import body

from .markdown import section


@pytest.mark.parametrize(
    "claim",
    [
        f"Passwords have {passwords.MIN_LENGTH} to {passwords.MAX_LENGTH} characters",
        f"valid for {tokens.ACCESS_TOKEN_SECONDS // 60} minutes",
        f"tokens over {tokens.MAX_TOKEN_LENGTH // 1024} KiB are refused",
        f"shorter than {settings.MIN_SECRET_BYTES} bytes",
        f"Bodies over {body.MAX_BODY_BYTES // 1024} KiB",
        f"answers over {client.MAX_ANSWER_BYTES // 1024} KiB are refused",
        f"Statements end after {database.SERVER_SETTINGS['statement_timeout'].removesuffix('s')} s",
        f"waiting for a lock after {database.SERVER_SETTINGS['lock_timeout'].removesuffix('s')} s",
    ],
)
def test_the_claim_is_true_and_made(claim: str) -> None:
    assert claim in " ".join(section("SECURITY.md", "In place").text.split())
