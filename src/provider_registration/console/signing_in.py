"""Signing in: what was typed into a session, or into a sentence that says why not."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import ValidationError

from provider_registration.auth.errors import InvalidCredentials
from provider_registration.auth.passwords import StillWanted
from provider_registration.auth.schemas import LoginRequest
from provider_registration.auth.service import AuthService
from provider_registration.errors import ServiceError


@dataclass(frozen=True, slots=True)
class SignIn:
    """A try to sign in: the new session's secret, or what stood in the way."""

    secret: str | None = None
    refusal: ServiceError | None = None


async def sign_in(
    auth: AuthService, username: str, password: str, *, address: str, still_wanted: StillWanted
) -> SignIn:
    """Try it; what cannot be a name or a password is as wrong as a wrong one."""
    try:
        typed = LoginRequest(username=username, password=password)
    except ValidationError:
        return SignIn(refusal=InvalidCredentials())
    try:
        return SignIn(
            secret=await auth.sign_in(typed.username, typed.password, address=address, still_wanted=still_wanted)
        )
    except ServiceError as error:
        return SignIn(refusal=error)
