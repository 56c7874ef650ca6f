"""Access tokens: JWTs signed with HS256. The only module that uses python-jose."""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
import uuid
from functools import lru_cache
from uuid import UUID

from jose import JOSEError, jwt

from provider_registration.auth.errors import NotAuthenticated
from provider_registration.auth.models import Role, User

ALGORITHM = "HS256"
ISSUER = "provider-registration-service"
AUDIENCE = "provider-registration-api"
ACCESS_TOKEN_SECONDS = 30 * 60
MAX_TOKEN_LENGTH = 2048
REQUIRED_CLAIMS = ("iss", "aud", "sub", "iat", "exp", "jti")
# What reading a token can raise: python-jose raises more than its own errors.
REFUSALS = (
    JOSEError,
    KeyError,  # unknown key id, or missing claim
    ValueError,  # not a UUID, or not a role
    TypeError,  # for example, a key ID or time that is a list
    AttributeError,  # a session ID that is not a string
    OverflowError,  # an infinite time
    RecursionError,  # deeply nested claims
)
MAX_REMEMBERED = 4096  # tokens; each is used many times in its 30 minutes


class TokenSigner:
    """Signs with the current key, and accepts the previous one during a key rotation."""

    def __init__(self, current_key: str, previous_key: str | None = None) -> None:
        self._current = key_id(current_key)
        self._keys = {key_id(key): key for key in (current_key, previous_key) if key}
        self._remembered = lru_cache(MAX_REMEMBERED)(self._read)  # rejected tokens are not remembered

    def issue(self, user: User) -> str:
        """Issue a token that is valid for ACCESS_TOKEN_SECONDS."""
        now = int(time.time())
        claims = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": str(user.user_id),
            "role": str(user.role),
            "sid": str(user.session_id),
            "iat": now,
            "exp": now + ACCESS_TOKEN_SECONDS,
            "jti": uuid.uuid4().hex,
        }
        key = self._keys[self._current]
        return str(jwt.encode(claims, key, algorithm=ALGORITHM, headers={"kid": self._current}))

    def successors(self, refresh_token: str) -> list[str]:
        """The successor of a refresh token under each key, the current key first.

        It is derived with the key, so it can be derived again for a caller who lost it.
        """
        return self.derive("refresh", refresh_token)

    def derive(self, purpose: str, text: str) -> list[str]:
        """A secret made of a text for one purpose (a word) under each key, the current key first."""
        keys = [self._keys[self._current], *(key for kid, key in self._keys.items() if kid != self._current)]
        digests = (hmac.new(key.encode(), f"{purpose} {text}".encode(), hashlib.sha256) for key in keys)
        return [base64.urlsafe_b64encode(digest.digest()).rstrip(b"=").decode() for digest in digests]

    def verify(self, token: str) -> User:
        """Verify a token and return its user.

        Raises:
            NotAuthenticated: it is not one of ours, malformed, or expired.
        """
        user, expires_at = self._remembered(token)
        if expires_at <= time.time():  # RFC 7519 section 4.1.4
            raise NotAuthenticated
        return user

    def _read(self, token: str) -> tuple[User, int]:
        """The user of a token, and when it expires."""
        if len(token) > MAX_TOKEN_LENGTH:
            raise NotAuthenticated
        try:
            header = jwt.get_unverified_header(token)
            claims = jwt.decode(
                token,
                self._keys[header["kid"]],
                algorithms=[ALGORITHM],
                audience=AUDIENCE,
                issuer=ISSUER,
                options={f"require_{claim}": True for claim in REQUIRED_CLAIMS},
            )
            user = User(UUID(claims["sub"]), UUID(claims["sid"]), role=Role(claims["role"]))
            expires_at = int(claims["exp"])
        except REFUSALS:
            raise NotAuthenticated from None
        # RFC 7515 section 4.1.11: unknown critical extensions are rejected.
        if "crit" in header or header.get("typ") != "JWT":
            raise NotAuthenticated
        return user, expires_at


def key_id(key: str) -> str:
    """An identifier of a key that reveals nothing about it: the `kid` of tokens signed with it."""
    return hashlib.sha256(b"kid:" + key.encode()).hexdigest()[:16]
