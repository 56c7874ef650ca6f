"""Shared by tests with a service: settings, users and registrations."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import ClassVar
from uuid import uuid4

import asyncpg

from provider_registration.auth.directory import UserDirectory
from provider_registration.auth.models import Role, User
from provider_registration.auth.passwords import PasswordHasher
from provider_registration.auth.tokens import TokenSigner
from provider_registration.db.database import Database
from provider_registration.settings import DatabaseSettings, Settings
from tests.pgbouncer import database_settings

JWT_SECRET = uuid4().hex + uuid4().hex
SECRETS_KEY = uuid4().hex + uuid4().hex
PASSWORD = "correct horse battery staple"


# No mail server: for routes that exist only with e-mail.
MAIL = {"smtp_url": "smtp://127.0.0.1:9?starttls=off", "mail_from": "supply@supply.example"}


def make_settings(database_url: str, billing_url: str, /, kind: type[Settings] = Settings, **more: object) -> Settings:
    """Settings of a service under test, with the pages for companies."""
    values = {
        **database_settings(database_url),
        "jwt_secret_key": JWT_SECRET,
        "secrets_key": SECRETS_KEY,
        "billing_service_url": billing_url,
        "rate_limit_login": "",  # all tests use one IP address
        "rate_limit_registration": "",
        "rate_limit_default": "",
        "public_pages": True,
        "database_timeout_seconds": 10,  # a machine that is busy with tests may block for a second
        **more,
    }
    return kind(_env_file=None, **values)


class _RememberingHasher(PasswordHasher):
    """Hashes each password once, for all users with it: hashing takes 40 ms."""

    _hashes: ClassVar[dict[str, str]] = {}

    async def hash(self, password: str) -> str:
        if password not in self._hashes:
            self._hashes[password] = await super().hash(password)
        return self._hashes[password]


@asynccontextmanager
async def user_directory(database_url: str) -> AsyncIterator[UserDirectory]:
    """The user directory that the command line uses."""
    url = DatabaseSettings(_env_file=None, database_url=database_url).database_url
    database, hasher = Database(url, pool_size=1), _RememberingHasher()
    yield UserDirectory(database, hasher)
    hasher.close()
    await database.close()


async def token_of_admin(database: asyncpg.Connection) -> str:
    """The access token of a new admin, who has not signed in: that takes 0.1 s of processor time."""
    email = f"{uuid4().hex}@supply.example"
    user_id = await database.fetchval(
        "INSERT INTO users (email, email_canonical, password_hash, role) VALUES ($1, $2, '', $3) RETURNING id",
        *(email, email, Role.ADMIN),
    )
    return TokenSigner(JWT_SECRET).issue(User(user_id, uuid4(), role=Role.ADMIN))


def a_registration(**changes: object) -> dict[str, object]:
    """A valid registration that no other test uses."""
    unique = uuid4().hex
    return {
        "company_name": f"Obsthof {unique}",
        "contact_email": f"{unique}@obsthof.example",
        "phone": "+49 221 5550 100",
        "products": ["apples", "grapes"],
        "truck_count": 7,
        "capacity_tons_per_day": 40,
        "location": "Köln, Deutschland",
        **changes,
    }
