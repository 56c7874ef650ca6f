"""Keys with which programs use the API, and approvals that programs request.

Why: a program had to sign in with the password of a person. `requested_by` of an approval is now the ID of a user or of
an API key, and no longer a foreign key: releases before this one, which read and write it, know no keys.
"""

from __future__ import annotations

from alembic import op

revision = "029_api_keys"
down_revision = "028_candidate_keys"
branch_labels = None
depends_on = None

TABLE = (
    """
    CREATE TABLE IF NOT EXISTS api_keys (
        id uuid NOT NULL DEFAULT gen_random_uuid(),
        name text NOT NULL,
        key_hash bytea NOT NULL,
        prefix text NOT NULL,
        role text NOT NULL,
        created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
        created_by uuid,
        expires_at timestamptz,
        revoked_at timestamptz,
        last_used_at timestamptz,
        CONSTRAINT pk_api_keys PRIMARY KEY (id),
        CONSTRAINT uq_api_keys_key_hash UNIQUE (key_hash),
        CONSTRAINT fk_api_keys_created_by FOREIGN KEY (created_by) REFERENCES users (id),
        CONSTRAINT ck_api_keys_name CHECK (char_length(name) BETWEEN 1 AND 100),
        CONSTRAINT ck_api_keys_key_hash CHECK (octet_length(key_hash) = 32),
        CONSTRAINT ck_api_keys_role CHECK (role IN ('viewer', 'auditor', 'admin')),
        CONSTRAINT ck_api_keys_expires_at CHECK (expires_at > created_at)
    )
    """,
    "CREATE INDEX IF NOT EXISTS ix_api_keys_created_at ON api_keys (created_at, id)",
    "CREATE INDEX IF NOT EXISTS ix_api_keys_revoked_at ON api_keys (revoked_at) WHERE revoked_at IS NOT NULL",
)

# The default is for earlier releases, which write approvals of users only.
REQUESTERS = (
    "ALTER TABLE approval_intents ADD COLUMN IF NOT EXISTS requested_by_kind text NOT NULL DEFAULT 'user'",
    """
    DO $$
    BEGIN
        ALTER TABLE approval_intents ADD CONSTRAINT ck_approval_intents_requested_by_kind
            CHECK (requested_by_kind IN ('user', 'api_key')) NOT VALID;
    EXCEPTION WHEN duplicate_object THEN
    END
    $$
    """,
    "ALTER TABLE approval_intents VALIDATE CONSTRAINT ck_approval_intents_requested_by_kind",
    "ALTER TABLE approval_intents DROP CONSTRAINT IF EXISTS fk_approval_intents_requested_by",
)

# The copy of an event for the release before 020_candidate_events, whose table names users only. With its search_path
# from the start: it is in use. `user_id` is the condition under which an event has one.
COPY_CANDIDATE_EVENT = """
    DO $do$
    BEGIN
        EXECUTE format($format$
    CREATE OR REPLACE FUNCTION candidate_events_copy() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = %I, pg_temp AS $$
    DECLARE
        event_there text := CASE NEW.type
            WHEN 'candidate.approval_requested' THEN 'requested'
            WHEN 'candidate.approval_retried' THEN 'retry_requested'
            WHEN 'candidate.approval_failed' THEN 'failed'
            WHEN 'candidate.approval_in_doubt' THEN 'in_doubt'
            WHEN 'candidate.approval_linked' THEN 'linked'
            WHEN 'candidate.approval_released' THEN 'let_go'
            WHEN 'candidate.approved' THEN CASE WHEN NEW.data ? 'linked' THEN NULL ELSE 'approved' END
            WHEN 'candidate.provider_orphaned' THEN 'orphaned'
        END;
    BEGIN
        IF event_there IS NOT NULL THEN
            INSERT INTO approval_events (candidate_id, idempotency_key, event, at, user_id, provider_id, detail)
            VALUES (
                NEW.candidate_id, CAST(NEW.data ->> 'idempotency_key' AS uuid), event_there, NEW.at,
                CASE WHEN {has_user} THEN NEW.actor_id END,
                CAST(NEW.data ->> 'provider_id' AS integer),
                (SELECT details ->> 'error' FROM candidate_event_details WHERE event_id = NEW.id)
            );
        END IF;
        RETURN NULL;
    END;
    $$
        $format$, current_schema());
    END
    $do$
"""
OF_ANY_ACTOR = "event_there <> 'approved'"
OF_USERS = "event_there <> 'approved' AND NEW.actor_kind = 'user'"

# Approvals that keys requested stay: only new rows are checked until the last of them has finished.
FOREIGN_KEY = (
    """
    ALTER TABLE approval_intents ADD CONSTRAINT fk_approval_intents_requested_by
        FOREIGN KEY (requested_by) REFERENCES users (id) NOT VALID
    """,
    """
    DO $$
    BEGIN
        IF NOT EXISTS (SELECT FROM approval_intents WHERE requested_by_kind <> 'user') THEN
            ALTER TABLE approval_intents VALIDATE CONSTRAINT fk_approval_intents_requested_by;
        END IF;
    END
    $$
    """,
)

# The index is of a new table, each statement can be repeated, and the constraint is replaced by a weaker one.
IGNORED = "-- squawk-ignore require-concurrent-index-creation, prefer-robust-stmts, ban-drop-constraint"


def upgrade() -> None:
    """Create the table of keys; let approvals and the copies of their events be of keys."""
    with op.get_context().autocommit_block():  # one statement at a time, so that locks of tables in use are short
        copy = COPY_CANDIDATE_EVENT.format(has_user=OF_USERS)
        for statement in (*TABLE, copy, *REQUESTERS):
            op.execute(f"{IGNORED}\n{statement.strip()}")


def downgrade() -> None:
    """Drop them. Events keep the IDs of the keys."""
    for statement in FOREIGN_KEY:
        op.execute(statement)
    op.execute("ALTER TABLE approval_intents DROP COLUMN IF EXISTS requested_by_kind")
    op.execute(COPY_CANDIDATE_EVENT.format(has_user=OF_ANY_ACTOR))
    op.execute("DROP TABLE IF EXISTS api_keys")
