"""What the role that serves may do in the database: as little as it needs, and nothing to the schema."""

from __future__ import annotations

from sqlalchemy import text

from provider_registration.database import Database

# Accounts are kept by the owner's commands; the service itself stores nothing there but a better hash.
PRIVILEGES = {
    "candidates": "SELECT, INSERT, UPDATE",
    "candidate_counts": "SELECT, INSERT, UPDATE",  # its trigger counts as whoever writes to candidates
    "approval_intents": "SELECT, INSERT, UPDATE, DELETE",
    "approval_events": "SELECT, INSERT",
    "unfinished_approvals": "SELECT, UPDATE",
    "users": "SELECT, UPDATE (password_hash)",
    "sessions": "SELECT, INSERT, UPDATE, DELETE",
    "refresh_tokens": "SELECT, INSERT, UPDATE",
    "browser_sessions": "SELECT, INSERT, UPDATE",
    "alembic_version": "SELECT",  # readiness compares the revision with what the code needs
}

# Processes that grant at the same time take turns, or PostgreSQL refuses all but one.
TAKE_TURN = text("SELECT pg_advisory_xact_lock(:key)").bindparams(key=int.from_bytes(b"provgrnt", "big"))

# A role, its name quoted for statements that take no parameters, and whether grants would limit it.
FIND_ROLE = text("""
    SELECT quote_ident(rolname) AS quoted,
           rolsuper OR EXISTS (
               SELECT FROM pg_class WHERE oid = to_regclass('candidates') AND pg_has_role(rolname, relowner, 'MEMBER')
           ) AS is_owner
    FROM pg_roles
    WHERE rolname = :role
""")

# Those of the tables that this revision of the schema has.
FIND_TABLES = text("SELECT name FROM unnest(CAST(:names AS text[])) AS name WHERE to_regclass(name) IS NOT NULL")


class GrantError(Exception):
    """The role was given nothing; the message is a sentence for whoever asked."""


async def grant_service(database: Database, role: str) -> None:
    """Give `role` exactly PRIVILEGES; what else it had on these tables is taken away.

    Raises:
        GrantError: there is no such role, or it owns the tables, so that grants would limit nothing.
    """
    async with database.transaction() as session:
        await session.execute(TAKE_TURN)
        found = (await session.execute(FIND_ROLE, {"role": role})).one_or_none()
        if found is None:
            raise GrantError(f"There is no role {role}; make it first: CREATE ROLE {role} LOGIN PASSWORD …")
        if found.is_owner:
            raise GrantError(f"{role} owns the tables or is a superuser; the service needs a role of its own.")
        for table in (await session.scalars(FIND_TABLES, {"names": list(PRIVILEGES)})).all():
            await session.execute(text(f"REVOKE ALL ON {table} FROM {found.quoted}"))
            await session.execute(text(f"GRANT {PRIVILEGES[table]} ON {table} TO {found.quoted}"))
