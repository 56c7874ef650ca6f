"""Sign-in, refresh, sign-out and browser sessions."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar
from uuid import UUID

from sqlalchemy import RowMapping
from sqlalchemy.ext.asyncio import AsyncSession

from provider_registration.audit.models import SERVICE, Actor
from provider_registration.auth import queries
from provider_registration.auth.errors import InvalidCredentials, InvalidRefreshToken, LoginsBusy, NotAuthenticated
from provider_registration.auth.keys import KeyVerifier, is_api_key
from provider_registration.auth.models import BrowserUser, Caller, Program, Role, User
from provider_registration.auth.passwords import CheckClient, PasswordCheck, PasswordHasher
from provider_registration.auth.revocations import RevocationWatch
from provider_registration.auth.tokens import TokenSigner
from provider_registration.db.database import Database
from provider_registration.observability.metrics import LOGINS, REFRESHES
from provider_registration.web.rate_limits import RateLimits, RateLimitsUnavailable, TooManyRequests
from provider_registration.web.text import canonical_email

SESSION_SECONDS = 7 * 24 * 3600  # then the user must sign in again
IDLE_SECONDS = 12 * 3600  # lifetime of an unused refresh token
GRACE_SECONDS = 10  # in which a refresh whose response was lost may be repeated
REFRESH_TOKEN_BYTES = 32
BROWSER_SESSION_SECONDS = 12 * 3600  # one working day; then the user must sign in again
BROWSER_IDLE_SECONDS = 30 * 60  # without a request; then the session ends
BROWSER_SECRET_BYTES = 32
API_SESSION: dict[str, object] = {"kind": "api", "session_seconds": SESSION_SECONDS}
BROWSER_SESSION: dict[str, object] = {"kind": "browser", "session_seconds": BROWSER_SESSION_SECONDS}

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Tokens:
    """The tokens of a session: one for requests, one for the next refresh."""

    access_token: str
    refresh_token: str


class AuthService:
    """Issues tokens for passwords and refresh tokens; finds the caller of a token, API key or browser secret."""

    def __init__(
        self,
        database: Database,
        hasher: PasswordHasher,
        signer: TokenSigner,
        revocations: RevocationWatch,
        limits: RateLimits,
        keys: KeyVerifier,
    ) -> None:
        self._database = database
        self._hasher = hasher
        self._signer = signer
        self._revocations = revocations
        self._limits = limits
        self._keys = keys

    async def login(self, username: str, password: str, *, address: str, check_client: CheckClient) -> Tokens:
        """Begin a session of the user with this e-mail address, in any spelling.

        `address` is the caller's IP network. Failures are counted by account and network, so that an attacker elsewhere
        cannot lock the owner out, and before the password is checked; a correct password resets the count.
        `check_client` raises if the caller has disconnected: then no password is checked.

        Raises:
            InvalidCredentials: the same error, after the same time, for whatever was wrong.
            TooManyRequests, RateLimitsUnavailable, LoginsBusy: try again later.
        """
        return await self._begin(username, password, address, check_client, API_SESSION, self._first_tokens)

    async def sign_in(self, username: str, password: str, *, address: str, check_client: CheckClient) -> str:
        """Begin a browser session and return the secret for its cookie. Otherwise as for `login`."""
        return await self._begin(username, password, address, check_client, BROWSER_SESSION, self._new_browser)

    async def _begin(
        self,
        username: str,
        password: str,
        address: str,
        check_client: CheckClient,
        kind: dict[str, object],
        then: Callable[[AsyncSession, User], Awaitable[Result]],
    ) -> Result:
        """Check a password and begin a session of a kind; `then` creates its tokens or secret."""
        parameters = {"email": username, "email_canonical": canonical_email(username)}
        try:
            # Before the attempt is counted: a database failure must not use up attempts.
            async with self._database.statement() as session:
                found = (await session.execute(queries.FIND_CREDENTIALS, parameters)).mappings().one()
            account = hashlib.sha256(parameters["email_canonical"].encode()).hexdigest()
            async with self._limits.guard_login(account, address):
                with self._hasher.queue(address):  # after the rate limit, so that refused attempts take no place
                    check = await self._hasher.verify(password, found["password_hash"], check_client=check_client)
                    result = await self._begin_checked(found, check, kind, then)
        except InvalidCredentials:
            LOGINS.labels("failed").inc()
            async with self._database.statement() as session:
                await session.execute(queries.RECORD_FAILURE, {"user_id": found["id"]})
            raise
        except TooManyRequests:
            LOGINS.labels("limited").inc()
            raise
        except (LoginsBusy, RateLimitsUnavailable):
            LOGINS.labels("unavailable").inc()
            raise
        LOGINS.labels("succeeded").inc()
        return result

    async def _begin_checked(
        self,
        row: RowMapping,
        check: PasswordCheck,
        kind: dict[str, object],
        then: Callable[[AsyncSession, User], Awaitable[Result]],
    ) -> Result:
        if not check.is_correct or row["disabled_at"]:
            raise InvalidCredentials
        parameters = {
            "user_id": row["id"],
            "role": row["role"],
            "password_hash": row["password_hash"],
            **kind,
        }
        async with self._database.transaction() as session:
            session_id: UUID | None = await session.scalar(queries.BEGIN_SESSION, parameters)
            if session_id is None:
                raise InvalidCredentials
            result = await then(session, User(row["id"], session_id, role=Role(row["role"])))
        if check.new_hash:  # in its own transaction: two sign-ins that hold FOR SHARE and then update would deadlock
            async with self._database.statement() as session:
                await session.execute(queries.UPGRADE_HASH, parameters | {"new_hash": check.new_hash})
        return result

    async def refresh(self, refresh_token: str) -> Tokens:
        """Issue the next tokens of a session. Reuse may mean theft, and ends the session (RFC 9700, 4.14.2).

        Within GRACE_SECONDS of its use, and until its successor is used, the token may be sent again, because the
        response may have been lost: the same successor is returned.

        Raises:
            InvalidRefreshToken: it is unknown, already used or expired, or its session has ended.
        """
        parameters = {"token_hash": _hash(refresh_token), "grace_seconds": GRACE_SECONDS}
        successors = self._signer.successors(refresh_token)
        async with self._database.transaction() as session:
            row = (await session.execute(queries.LOCK_REFRESH_TOKEN, parameters)).mappings().one_or_none()
            if row is None:
                REFRESHES.labels("unknown").inc()
                raise InvalidRefreshToken
            user = User(row["user_id"], row["session_id"], role=Role(row["role"]))
            if row["is_good"] and not row["used_at"]:
                await session.execute(queries.USE_REFRESH_TOKEN, parameters)
                tokens = await self._next_tokens(session, user, successors[0])
                REFRESHES.labels("succeeded").inc()
                return tokens
            if row["is_good"] and row["was_just_used"]:
                hashes = {_hash(successor): successor for successor in successors}
                unused = await session.scalar(queries.FIND_UNUSED_REFRESH_TOKEN, {"token_hashes": list(hashes)})
                if unused is not None:
                    REFRESHES.labels("repeated").inc()
                    return Tokens(self._signer.issue(user), hashes[unused])
        REFRESHES.labels("reused" if row["used_at"] else "expired").inc()
        await self._end(user, SERVICE, reason="token_reused" if row["used_at"] else "expired")
        raise InvalidRefreshToken

    async def logout(self, user: User) -> None:
        """End the session: its tokens become invalid."""
        await self._end(user, user.actor, reason="signed_out")

    async def _end(self, user: User, actor: Actor, *, reason: str) -> None:
        parameters = {
            "session_id": user.session_id,
            "actor_kind": str(actor.kind),
            "actor_id": actor.id,
            "reason": reason,
        }
        async with self._database.statement() as session:
            await session.execute(queries.REVOKE_SESSION, parameters)
        self._revocations.note(user.session_id)

    async def authenticate(self, token: str) -> Caller:
        """The user of an access token, or the program of an API key.

        Raises:
            NotAuthenticated: the token or key is not valid, or its session has ended.
            DatabaseUnavailable: unknown.
        """
        if is_api_key(token):
            return await self._authenticate_program(token)
        user = self._signer.verify(token)
        if await self._revocations.is_revoked(user.session_id):
            raise NotAuthenticated
        return user

    async def _authenticate_program(self, key: str) -> Program:
        program = await self._keys.find(key)
        if program is None:
            raise NotAuthenticated
        if await self._revocations.is_revoked(program.api_key_id):
            self._keys.forget(key)
            raise NotAuthenticated
        self._keys.note_use(program)
        return program

    async def has_ended(self, caller: Caller) -> bool:
        """Whether the session of a user was ended, or the key of a program was revoked or has expired.

        Raises:
            DatabaseUnavailable: unknown.
        """
        return caller.has_expired or await self._revocations.is_revoked(caller.credential_id)

    def note_revoked(self, credential_id: UUID) -> None:
        """Refuse a key that this process just revoked; others learn of it within a second."""
        self._revocations.note(credential_id)

    async def may_decide(self, actor: Actor) -> bool:
        """Whether who requested something may still approve and reject.

        Raises:
            DatabaseUnavailable: unknown.
        """
        parameters = {"actor_kind": str(actor.kind), "actor_id": actor.id}
        async with self._database.statement() as session:
            return bool(await session.scalar(queries.MAY_DECIDE, parameters))

    async def find_browser(self, secret: str, *, is_use: bool = True) -> BrowserUser | None:
        """The user of a browser's secret; looked up for every request, so that revocation takes effect at once.

        Without `is_use`, the session stays idle, since its user did nothing.
        """
        parameters = {"secret_hash": _hash(secret), "idle_seconds": BROWSER_IDLE_SECONDS, "is_use": is_use}
        async with self._database.statement() as session:
            row = (await session.execute(queries.FIND_BROWSER_SESSION, parameters)).one_or_none()
        if row is None:
            return None
        return BrowserUser(User(row.user_id, row.session_id, role=Role(row.role)), row.email, secret)

    async def _new_browser(self, session: AsyncSession, user: User) -> str:
        secret = secrets.token_urlsafe(BROWSER_SECRET_BYTES)
        parameters = {"secret_hash": _hash(secret), "session_id": user.session_id}
        await session.execute(queries.INSERT_BROWSER_SESSION, parameters)
        return secret

    async def _first_tokens(self, session: AsyncSession, user: User) -> Tokens:
        return await self._next_tokens(session, user, secrets.token_urlsafe(REFRESH_TOKEN_BYTES))

    async def _next_tokens(self, session: AsyncSession, user: User, refresh_token: str) -> Tokens:
        parameters = {
            "token_hash": _hash(refresh_token),
            "session_id": user.session_id,
            "idle_seconds": IDLE_SECONDS,
        }
        await session.execute(queries.INSERT_REFRESH_TOKEN, parameters)
        return Tokens(self._signer.issue(user), refresh_token)


def _hash(secret: str) -> bytes:
    """A fast hash is enough: the secret is random and cannot be guessed."""
    return hashlib.sha256(secret.encode()).digest()
