"""The SQL of API keys."""

from __future__ import annotations

from sqlalchemy import DateTime, bindparam, text

from provider_registration.db.statements import statement

_COLUMNS = """
    api_keys.id, api_keys.name, api_keys.prefix, api_keys.role, api_keys.created_at, api_keys.created_by,
    users.email AS created_by_name, api_keys.expires_at, api_keys.revoked_at, api_keys.last_used_at
"""

# Add a key and record who did. No row if it would have expired.
INSERT = statement(
    """
    WITH added AS (
        INSERT INTO api_keys (name, key_hash, prefix, role, created_by, expires_at)
        SELECT :name, :key_hash, :prefix, :role, CASE :actor_kind WHEN 'user' THEN CAST(:actor_id AS uuid) END,
               :expires_at
        WHERE :expires_at IS NULL OR :expires_at > clock_timestamp()
        RETURNING *
    ), recorded AS (
        INSERT INTO audit_events (type, actor_kind, actor_id, subject_kind, subject_id, data)
        SELECT 'api_key.created', CAST(:actor_kind AS text), CAST(:actor_id AS uuid), 'api_key', id,
               jsonb_build_object('role', role)
        FROM added
    )
    SELECT {columns}
    FROM added AS api_keys
    LEFT JOIN users ON users.id = api_keys.created_by
    """,
    columns=_COLUMNS,
).bindparams(bindparam("expires_at", type_=DateTime(timezone=True)))

# One page of the keys, newest first.
LIST = statement(
    """
    SELECT {columns}
    FROM api_keys
    LEFT JOIN users ON users.id = api_keys.created_by
    WHERE (api_keys.created_at, api_keys.id) < (:after, :after_id)
    ORDER BY api_keys.created_at DESC, api_keys.id DESC
    LIMIT :limit OFFSET :offset
    """,
    columns=_COLUMNS,
).bindparams(bindparam("after", type_=DateTime(timezone=True)))

COUNT = text("SELECT count(*) FROM api_keys")

# One key.
FIND = statement(
    """
    SELECT {columns}
    FROM api_keys
    LEFT JOIN users ON users.id = api_keys.created_by
    WHERE api_keys.id = :api_key_id
    """,
    columns=_COLUMNS,
)

# Revoke a key, once, and record who did; false if there is none.
REVOKE = text("""
    WITH revoked AS (
        UPDATE api_keys SET revoked_at = clock_timestamp() WHERE id = :api_key_id AND revoked_at IS NULL
        RETURNING id
    ), recorded AS (
        INSERT INTO audit_events (type, actor_kind, actor_id, subject_kind, subject_id)
        SELECT 'api_key.revoked', CAST(:actor_kind AS text), CAST(:actor_id AS uuid), 'api_key', id
        FROM revoked
    )
    SELECT EXISTS (SELECT FROM api_keys WHERE id = :api_key_id)
""")
