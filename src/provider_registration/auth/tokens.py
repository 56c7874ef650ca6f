"""Access tokens: JWTs signed with HS256. The only module that touches python-jose."""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass
from uuid import UUID

from jose import jwt

from provider_registration.auth.errors import NotAuthenticated
from provider_registration.auth.models import Role

ALGORITHM = "HS256"
ISSUER = "provider-registration-service"
AUDIENCE = "provider-registration-api"
ACCESS_TOKEN_SECONDS = 30 * 60
MAX_TOKEN_LENGTH = 2048
REQUIRED_CLAIMS = ("iss", "aud", "sub", "role", "iat", "exp", "jti")


@dataclass(frozen=True, slots=True)
class AccessToken:
    """What a verified token says."""

    user_id: UUID
    role: Role


class TokenSigner:
    """Issues and verifies access tokens with one secret key."""

    def __init__(self, secret_key: str) -> None:
        self._key = secret_key

    def issue(self, user_id: UUID, role: Role) -> str:
        """Make a token that is valid for ACCESS_TOKEN_SECONDS."""
        now = int(time.time())
        claims = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": str(user_id),
            "role": str(role),
            "iat": now,
            "exp": now + ACCESS_TOKEN_SECONDS,
            "jti": uuid.uuid4().hex,
        }
        return str(jwt.encode(claims, self._key, algorithm=ALGORITHM))

    def verify(self, token: str) -> AccessToken:
        """Read a token.

        Raises:
            NotAuthenticated: it is not one of ours, not whole, or expired.
        """
        if len(token) > MAX_TOKEN_LENGTH:
            raise NotAuthenticated
        try:
            header = jwt.get_unverified_header(token)
            claims = jwt.decode(
                token,
                self._key,
                algorithms=[ALGORITHM],
                audience=AUDIENCE,
                issuer=ISSUER,
                options={f"require_{claim}": True for claim in REQUIRED_CLAIMS},
            )
            access = AccessToken(UUID(claims["sub"]), Role(claims["role"]))
        except Exception:  # noqa: BLE001 - python-jose leaks RecursionError, OverflowError and others
            raise NotAuthenticated from None
        if "crit" in header:  # RFC 7515 section 4.1.11: extensions that are not understood are refused
            raise NotAuthenticated
        return access
