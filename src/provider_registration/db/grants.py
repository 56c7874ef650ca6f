"""The privileges of the serving role: only what it needs, and none on the schema."""

from __future__ import annotations

import re
from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from provider_registration.db.database import Database

MAX_NAME_BYTES = 63  # of PostgreSQL's identifiers
# Users are managed by the owner's commands; the service only updates password hashes.
PRIVILEGES = {
    "candidates": "SELECT, INSERT, UPDATE",
    "candidate_counts": "SELECT, INSERT, UPDATE",  # its trigger runs as the role that writes to candidates
    "approval_intents": "SELECT, INSERT, UPDATE, DELETE",
    "approval_events": "SELECT, INSERT",
    "candidate_events": "SELECT, INSERT",
    "candidate_event_details": "SELECT, INSERT",
    "event_queue": "SELECT, DELETE",  # a trigger fills it
    "event_positions": "SELECT, INSERT",
    "event_dispatcher": "SELECT, UPDATE (last_position)",
    "deliveries": "SELECT, INSERT, UPDATE, DELETE",
    "audit_events": "SELECT, INSERT",
    "pruned_sequences": "SELECT",
    "event_retention": "SELECT",  # prune_events deletes nothing younger than the owner has stored there
    "status_links": "SELECT, INSERT, DELETE",
    "candidate_keys": "SELECT, UPDATE (keys), UPDATE (word_keys)",  # triggers add and empty them
    "idempotency_keys": "SELECT, INSERT, UPDATE, DELETE",
    "daily_statistics": "SELECT, INSERT, UPDATE",
    "daily_backlogs": "SELECT, INSERT, UPDATE",
    "statistics_progress": "SELECT, UPDATE (position)",
    "staff_digest": "SELECT, INSERT, UPDATE",
    "broker_positions": "SELECT, INSERT, UPDATE",
    "jobs": "SELECT, INSERT, UPDATE, DELETE",
    "job_items": "SELECT, INSERT, UPDATE, DELETE",
    "imports": "SELECT, INSERT, UPDATE, DELETE",
    "import_rows": "SELECT, INSERT, UPDATE, DELETE",
    "unfinished_approvals": "SELECT, UPDATE",
    "webhooks": "SELECT, INSERT, UPDATE, DELETE",
    "users": "SELECT, UPDATE (password_hash)",
    # Not created_at: the database sets it, and a constraint limits the length of a session from then on.
    "sessions": "SELECT, INSERT (user_id), INSERT (expires_at), UPDATE (revoked_at), DELETE",
    "refresh_tokens": "SELECT, INSERT, UPDATE",
    # Nothing that gives an existing key other rights or another life.
    "api_keys": "SELECT, INSERT, UPDATE (last_used_at), UPDATE (revoked_at)",
    "browser_sessions": "SELECT, INSERT, UPDATE",
    "alembic_version": "SELECT",  # readiness compares the revision with what the code needs
}

# For tools of business intelligence: a view without personal data.
BI_VIEW = "bi_candidates"

# Serialise concurrent grants; otherwise PostgreSQL refuses all but one.
LOCK_GRANTS = text("SELECT pg_advisory_xact_lock(:key)").bindparams(key=int.from_bytes(b"provgrnt", "big"))

# A role, its name quoted for statements without parameters, and whether grants would limit it.
FIND_ROLE = text("""
    SELECT quote_ident(rolname) AS quoted,
           rolsuper OR EXISTS (
               SELECT FROM pg_class WHERE oid = to_regclass('candidates') AND pg_has_role(rolname, relowner, 'MEMBER')
           ) AS is_owner
    FROM pg_roles
    WHERE rolname = :role
""")

# The tables that exist in this revision of the schema, and their columns.
FIND_TABLES = text("""
    SELECT name, ARRAY(
        SELECT CAST(attname AS text) FROM pg_attribute
        WHERE attrelid = to_regclass(name) AND attnum > 0 AND NOT attisdropped
    ) AS columns
    FROM unnest(CAST(:names AS text[])) AS name
    WHERE to_regclass(name) IS NOT NULL
""")
ON_COLUMN = re.compile(r"\((.+)\)")

# This database, if the current role may grant privileges on it.
FIND_DATABASE = text("""
    SELECT quote_ident(datname) FROM pg_database WHERE datname = current_database() AND pg_has_role(datdba, 'MEMBER')
""")

# Temporary tables could hide real ones; every role may create them in a new database. The service creates none.
MAY_CREATE_TEMPORARY_TABLES = text("SELECT has_database_privilege(current_database(), 'TEMPORARY')")

TABLE_PRIVILEGES = ["SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER"]

# The privileges of the current role: on a whole table, or on which of its columns.
FIND_HELD = text("""
    SELECT name, privilege, has_table_privilege(name, privilege) AS on_table, ARRAY(
               SELECT CAST(attname AS text) FROM pg_attribute
               WHERE attrelid = to_regclass(name) AND attnum > 0 AND NOT attisdropped
                 AND CASE WHEN privilege IN ('SELECT', 'INSERT', 'UPDATE', 'REFERENCES')
                          THEN has_column_privilege(attrelid, attnum, privilege) END
           ) AS columns
    FROM unnest(CAST(:tables AS text[])) AS name, unnest(CAST(:privileges AS text[])) AS privilege
    WHERE to_regclass(name) IS NOT NULL
    ORDER BY name, privilege
""")


class GrantError(Exception):
    """Nothing was granted; the message is for the operator."""


def check_name(role: str, *, option: str = "--grant-to") -> None:
    """Check a name, given with this option, without a database.

    Raises:
        GrantError: no role can have it.
    """
    if not (role.isprintable() and 0 < len(role.encode()) <= MAX_NAME_BYTES):  # invalid UTF-8 is unprintable
        raise GrantError(f"{option} must be the name of a role: 1 to {MAX_NAME_BYTES} bytes of UTF-8 text.")


async def grant_service(database: Database, role: str) -> None:
    """Grant `role` PRIVILEGES, as far as the schema has the tables and columns; revoke its others on these tables.

    Revoke the privilege to create temporary tables from all roles.

    Raises:
        GrantError: the role does not exist, or owns the tables, so grants would not limit it.
    """
    async with database.transaction() as session:
        quoted = await _find_other_role(session, role)
        for table, columns in (await session.execute(FIND_TABLES, {"names": list(PRIVILEGES)})).all():
            privileges = ", ".join(
                each
                for each in PRIVILEGES[table].split(", ")
                if not (column := ON_COLUMN.search(each)) or column[1] in columns
            )
            await session.execute(text(f"REVOKE ALL ON {table} FROM {quoted}"))
            await session.execute(text(f"GRANT {privileges} ON {table} TO {quoted}"))
        if name := await session.scalar(FIND_DATABASE):
            await session.execute(text(f"GRANT CONNECT ON DATABASE {name} TO {quoted}"))
            await session.execute(text(f"REVOKE TEMPORARY ON DATABASE {name} FROM PUBLIC, {quoted}"))


async def grant_bi(database: Database, role: str) -> None:
    """Grant `role` to read BI_VIEW, and nothing else.

    Raises:
        GrantError: the role does not exist, or owns the tables, so it could read everything.
    """
    async with database.transaction() as session:
        quoted = await _find_other_role(session, role)
        await session.execute(text(f"GRANT SELECT ON {BI_VIEW} TO {quoted}"))
        if name := await session.scalar(FIND_DATABASE):
            await session.execute(text(f"GRANT CONNECT ON DATABASE {name} TO {quoted}"))


async def _find_other_role(session: AsyncSession, role: str) -> str:
    """The quoted name of a role that does not own the tables; one transaction at a time goes on from here."""
    await session.execute(LOCK_GRANTS)
    found = (await session.execute(FIND_ROLE, {"role": role})).one_or_none()
    if found is None:
        raise GrantError(f"There is no role {role}; create it first: CREATE ROLE {role} LOGIN PASSWORD …")
    if found.is_owner:
        raise GrantError(f"{role} owns the tables or is a superuser; use a separate role.")
    return str(found.quoted)


@dataclass(frozen=True, slots=True)
class Deviations:
    """Differences between a role's privileges and PRIVILEGES, such as `INSERT on users`."""

    missing: list[str]
    excess: list[str]


async def find_deviations(connection: AsyncConnection) -> Deviations:
    """Compare the privileges of the connection's role on existing tables with PRIVILEGES."""
    missing, excess = [], []
    for found in await connection.execute(FIND_HELD, {"tables": list(PRIVILEGES), "privileges": TABLE_PRIVILEGES}):
        on_columns = {f"{found.privilege} ({column})" for column in found.columns}
        held = {found.privilege} if found.on_table else on_columns
        wanted = {each for each in PRIVILEGES[found.name].split(", ") if each.partition(" ")[0] == found.privilege}
        missing += [f"{each} on {found.name}" for each in sorted(wanted - held) if not found.on_table]
        excess += [f"{each} on {found.name}" for each in sorted(held - wanted)]
    if await connection.scalar(MAY_CREATE_TEMPORARY_TABLES):
        excess.append("TEMPORARY on the database")
    return Deviations(missing, excess)
