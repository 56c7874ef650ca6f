"""Management of users, for the command line."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import TextClause
from sqlalchemy.ext.asyncio import AsyncSession

from provider_registration.auth import queries
from provider_registration.auth.errors import UserExists, UserNotFound
from provider_registration.auth.models import Role
from provider_registration.auth.passwords import PasswordHasher
from provider_registration.db.database import Database
from provider_registration.email_addresses import fill_users_with
from provider_registration.errors import ServiceError
from provider_registration.web.text import canonical_email


class UserDirectory:
    """Adds and changes users. Changing a password or role, or disabling a user, ends the user's sessions."""

    def __init__(self, database: Database, hasher: PasswordHasher) -> None:
        self._database = database
        self._hasher = hasher

    async def create(self, email: str, password: str, role: Role) -> UUID:
        """Add a user.

        Raises:
            UserExists: a user has this e-mail address, in any spelling.
            UnacceptablePassword: the password is too short, too long or too common.
        """
        password_hash = await self._hasher.hash(password)
        return await self._write(
            queries.INSERT_USER, UserExists, email, email=email, password_hash=password_hash, role=str(role)
        )

    async def create_first_admin(self, email: str, password: str) -> bool:
        """Add an admin if there are no users; return whether it was added.

        Raises:
            UnacceptablePassword: the password is too short, too long or too common.
        """
        async with self._database.transaction() as session:
            if await session.scalar(queries.ANY_USER_EXISTS):
                return False
        password_hash = await self._hasher.hash(password)
        async with self._database.transaction() as session:
            parameters = {
                "email": email,
                "email_canonical": canonical_email(email),
                "password_hash": password_hash,
            }
            return (await session.execute(queries.INSERT_FIRST_ADMIN, parameters)).one_or_none() is not None

    async def set_password(self, email: str, password: str) -> UUID:
        """Change a user's password.

        Raises:
            UserNotFound: no user has this e-mail address.
            UnacceptablePassword: the password is too short, too long or too common.
        """
        password_hash = await self._hasher.hash(password)
        return await self._update_and_end_sessions(
            queries.UPDATE_PASSWORD, email, reason="password_changed", password_hash=password_hash
        )

    async def set_role(self, email: str, role: Role) -> UUID:
        """Change a user's role.

        Raises:
            UserNotFound: no user has this e-mail address.
        """
        return await self._update_and_end_sessions(queries.UPDATE_ROLE, email, reason="role_changed", role=str(role))

    async def disable(self, email: str) -> UUID:
        """Disable a user.

        Raises:
            UserNotFound: no user has this e-mail address.
        """
        return await self._update_and_end_sessions(queries.DISABLE_USER, email, reason="disabled")

    async def enable(self, email: str) -> UUID:
        """Enable a disabled user.

        Raises:
            UserNotFound: no user has this e-mail address.
        """
        return await self._write(queries.ENABLE_USER, UserNotFound, email)

    async def has_admin(self) -> bool:
        """Whether there is an admin who is not disabled."""
        async with self._database.transaction() as session:
            return bool(await session.scalar(queries.ANY_ADMIN_EXISTS))

    async def end_all_sessions(self) -> int:
        """End the sessions of all users; return how many there were."""
        async with self._database.transaction() as session:
            return await end_sessions(session, None, reason="command")

    async def _update_and_end_sessions(
        self, statement: TextClause, address: str, *, reason: str, **parameters: str
    ) -> UUID:
        parameters["email_canonical"] = canonical_email(address)
        async with self._database.transaction() as session:
            await fill_users_with(session, parameters["email_canonical"])
            user_id: UUID | None = await session.scalar(statement, parameters)
            if user_id is None:
                raise UserNotFound
            await end_sessions(session, user_id, reason=reason)
        return user_id

    async def _write(
        self, statement: TextClause, when_no_row: type[ServiceError], address: str, **parameters: str
    ) -> UUID:
        parameters["email_canonical"] = canonical_email(address)
        async with self._database.transaction() as session:
            await fill_users_with(session, parameters["email_canonical"])
            row = (await session.execute(statement, parameters)).one_or_none()
        if row is None:
            raise when_no_row
        user_id: UUID = row.id
        return user_id


async def end_sessions(session: AsyncSession, user_id: UUID | None, *, reason: str) -> int:
    """End the sessions of a user, or of all users; return how many had not expired.

    If the transaction has changed the user's row, no session can start in the meantime.
    """
    await session.execute(queries.LOCK_SESSIONS, {"user_id": user_id})
    return int(await session.scalar(queries.END_SESSIONS, {"user_id": user_id, "reason": reason}) or 0)
