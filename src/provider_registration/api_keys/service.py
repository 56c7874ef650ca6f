"""The operations on API keys."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from uuid import UUID

from provider_registration.api_keys import queries
from provider_registration.api_keys.errors import ApiKeyNotFound, ExpiryInThePast
from provider_registration.api_keys.models import ApiKey, ApiKeyPage, CreatedKey
from provider_registration.audit.models import Actor
from provider_registration.auth.keys import new_key
from provider_registration.auth.models import Role
from provider_registration.db.database import Database
from provider_registration.web.pagination import NEWEST_END, Page, Position


class ApiKeyService:
    """Creates, lists and revokes API keys."""

    def __init__(self, database: Database, *, on_revoked: Callable[[UUID], None] = lambda _: None) -> None:
        """`on_revoked` gets the ID of a key that was revoked."""
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

    async def page(self, page: Page[Position]) -> ApiKeyPage:
        """One page of the keys, newest first; revoked ones stay."""
        start = page.after or NEWEST_END
        parameters = {
            "limit": page.limit + 1,  # one more shows whether there is a next page
            "offset": page.offset,
            "after": start.at,
            "after_id": start.id,
        }
        async with self._database.transaction() as session:
            total = await session.scalar(queries.COUNT)
            rows = (await session.execute(queries.LIST, parameters)).mappings().all()
        api_keys = [ApiKey.from_row(row) for row in rows[: page.limit]]
        has_more = len(rows) > page.limit
        position = Position(api_keys[-1].created_at, api_keys[-1].api_key_id) if has_more else None
        return ApiKeyPage(api_keys, total or 0, position)

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
