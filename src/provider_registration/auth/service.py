"""Logging in, and keeping the list of users."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import TextClause

from provider_registration.auth import queries
from provider_registration.auth.errors import InvalidCredentials, NotAuthenticated, UserExists, UserNotFound
from provider_registration.auth.models import Role, User
from provider_registration.auth.passwords import PasswordHasher
from provider_registration.auth.tokens import TokenSigner
from provider_registration.database import Database
from provider_registration.errors import ServiceError


class AuthService:
    """Turns passwords into tokens and tokens into users."""

    def __init__(self, database: Database, hasher: PasswordHasher, signer: TokenSigner) -> None:
        self._database = database
        self._hasher = hasher
        self._signer = signer

    async def login(self, username: str, password: str) -> str:
        """Access token of the user with this e-mail address, in any letter case.

        Raises:
            InvalidCredentials: after the same time, whatever was wrong.
        """
        async with self._database.transaction() as session:
            row = (await session.execute(queries.FIND_CREDENTIALS, {"email": username})).mappings().one_or_none()
        verified = await self._hasher.verify(password, row["password_hash"] if row else None)
        if row is None or not verified or row["disabled_at"]:
            raise InvalidCredentials
        user = User.from_row(row)
        return self._signer.issue(user.user_id, user.role)

    async def authenticate(self, token: str) -> User:
        """The user a token speaks for, as the user is now.

        Raises:
            NotAuthenticated: the token is not valid, or its user is gone or disabled.
        """
        access = self._signer.verify(token)
        async with self._database.transaction() as session:
            row = (await session.execute(queries.FIND_USER, {"user_id": access.user_id})).mappings().one_or_none()
        if row is None or row["disabled_at"]:
            raise NotAuthenticated
        return User.from_row(row)


class UserDirectory:
    """The list of users, as the command line keeps it."""

    def __init__(self, database: Database, hasher: PasswordHasher) -> None:
        self._database = database
        self._hasher = hasher

    async def create(self, email: str, password: str, role: Role) -> UUID:
        """Add a user.

        Raises:
            UserExists: the address is taken, in any letter case.
            UnacceptablePassword: the password is too short or too long.
        """
        password_hash = await self._hasher.hash(password)
        return await self._write(
            queries.INSERT_USER, UserExists, email=email, password_hash=password_hash, role=str(role)
        )

    async def create_first_admin(self, email: str, password: str) -> bool:
        """Add an admin if there is no user at all; whether there was none."""
        async with self._database.transaction() as session:
            if await session.scalar(queries.ANY_USER_EXISTS):
                return False
        password_hash = await self._hasher.hash(password)
        async with self._database.transaction() as session:
            parameters = {"email": email, "password_hash": password_hash}
            return (await session.execute(queries.INSERT_FIRST_ADMIN, parameters)).one_or_none() is not None

    async def set_password(self, email: str, password: str) -> UUID:
        """Give a user another password.

        Raises:
            UserNotFound: nobody has this address.
            UnacceptablePassword: the password is too short or too long.
        """
        password_hash = await self._hasher.hash(password)
        return await self._write(queries.UPDATE_PASSWORD, UserNotFound, email=email, password_hash=password_hash)

    async def disable(self, email: str) -> UUID:
        """Take a user's access away; tokens already issued stop working too.

        Raises:
            UserNotFound: nobody has this address.
        """
        return await self._write(queries.DISABLE_USER, UserNotFound, email=email)

    async def _write(self, statement: TextClause, when_no_row: type[ServiceError], **parameters: str) -> UUID:
        async with self._database.transaction() as session:
            row = (await session.execute(statement, parameters)).one_or_none()
        if row is None:
            raise when_no_row
        user_id: UUID = row.id
        return user_id
