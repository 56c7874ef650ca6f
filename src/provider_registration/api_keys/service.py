"""The operations on API keys."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any
from uuid import UUID

from provider_registration.api_keys import queries
from provider_registration.api_keys.errors import ApiKeyNotFound, ExpiryInThePast
from provider_registration.api_keys.models import ApiKey, CreatedKey
from provider_registration.audit.models import Actor
from provider_registration.auth.keys import new_key
from provider_registration.auth.models import Role
from provider_registration.db.database import Database
from provider_registration.web.pagination import Page


class ApiKeyService:
    """Creates, lists and revokes API keys."""

    def __init__(self, database: Database, *, on_revoked: Callable[[UUID], None] = lambda _: None) -> None:
        """`on_revoked` is told the ID of a key that was revoked."""
        self._database = database
        self._on_revoked = on_revoked

    async def create(self, name: str, role: Role, expires_at: datetime | None, *, actor: Actor) -> CreatedKey:
        """Create a key; only its hash is stored.

        Raises:
            ExpiryInThePast: it would have expired.
        """
        new = new_key()
        parameters = {
            "name": name,
            "key_hash": new.key_hash,
            "prefix": new.prefix,
            "role": str(role),
            "expires_at": expires_at,
            "actor_kind": str(actor.kind),
            "actor_id": actor.id,
        }
        async with self._database.statement() as session:
            row = (await session.execute(queries.INSERT, parameters)).mappings().one_or_none()
        if row is None:
            raise ExpiryInThePast
        return CreatedKey(ApiKey.from_row(row), new.key)

    async def page(self, page: Page[Any]) -> tuple[list[ApiKey], int]:
        """One page of the keys, newest first, and their total; revoked ones stay."""
        async with self._database.transaction() as session:
            total = await session.scalar(queries.COUNT)
            rows = await session.execute(queries.LIST, {"limit": page.limit, "offset": page.offset})
        return [ApiKey.from_row(row) for row in rows.mappings()], total or 0

    async def get(self, api_key_id: UUID) -> ApiKey:
        """One key.

        Raises:
            ApiKeyNotFound: there is none.
        """
        async with self._database.statement() as session:
            row = (await session.execute(queries.FIND, {"api_key_id": api_key_id})).mappings().one_or_none()
        if row is None:
            raise ApiKeyNotFound(api_key_id)
        return ApiKey.from_row(row)

    async def revoke(self, api_key_id: UUID, *, actor: Actor) -> None:
        """Revoke a key, unless it is revoked already: every process refuses it within a second.

        Raises:
            ApiKeyNotFound: there is none.
        """
        parameters = {"api_key_id": api_key_id, "actor_kind": str(actor.kind), "actor_id": actor.id}
        async with self._database.statement() as session:
            exists = await session.scalar(queries.REVOKE, parameters)
        if not exists:
            raise ApiKeyNotFound(api_key_id)
        self._on_revoked(api_key_id)
