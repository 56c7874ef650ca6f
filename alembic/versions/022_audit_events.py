"""A log of what staff do, a role that reads everything, and a function that prunes the logs.

Why: sign-ins, changes of users and exports were recorded nowhere. The serving role may add to the logs, but neither
change nor delete events; it prunes by a function that deletes nothing younger than the owner has allowed.
"""

from __future__ import annotations

from alembic import op

from provider_registration.db.index_builds import replace_indexes

revision = "022_audit_events"
down_revision = "021_event_feed"
branch_labels = None
depends_on = None

# No column has personal data: the users and candidates are named by their IDs.
TABLES = (
    """
    CREATE TABLE IF NOT EXISTS audit_events (
        id bigint GENERATED ALWAYS AS IDENTITY,
        type text NOT NULL,
        at timestamptz NOT NULL DEFAULT clock_timestamp(),
        actor_kind text NOT NULL,
        actor_id uuid,
        subject_kind text,
        subject_id uuid,
        data jsonb NOT NULL DEFAULT '{}',
        CONSTRAINT pk_audit_events PRIMARY KEY (id),
        CONSTRAINT ck_audit_events_type CHECK (type ~ '^[a-z_]{1,40}\\.[a-z_]{1,40}$'),
        CONSTRAINT ck_audit_events_actor CHECK (
            actor_kind IN ('user', 'api_key', 'service')
            AND (actor_id IS NOT NULL) = (actor_kind IN ('user', 'api_key'))
        ),
        CONSTRAINT ck_audit_events_subject CHECK (
            subject_kind ~ '^[a-z_]{1,40}$' AND (subject_id IS NOT NULL) = (subject_kind IS NOT NULL)
        )
    )
    """,
    "CREATE INDEX IF NOT EXISTS ix_audit_events_at ON audit_events (at, id)",
    "CREATE INDEX IF NOT EXISTS ix_audit_events_type ON audit_events (type, at, id)",
    """
    CREATE INDEX IF NOT EXISTS ix_audit_events_actor_id ON audit_events (actor_id, type, at, id)
    WHERE actor_id IS NOT NULL
    """,
    # One failed sign-in per account and hour, and one per hour for all unknown ones: strangers cannot fill the table.
    """
    CREATE UNIQUE INDEX IF NOT EXISTS uq_audit_events_session_failed
    ON audit_events (subject_id, date_trunc('hour', at AT TIME ZONE 'UTC')) NULLS NOT DISTINCT
    WHERE type = 'session.failed'
    """,
    # At most one row, which the owner writes; without it, nothing is pruned.
    """
    CREATE TABLE IF NOT EXISTS event_retention (
        only_one boolean NOT NULL DEFAULT true,
        minimum_days integer NOT NULL,
        CONSTRAINT pk_event_retention PRIMARY KEY (only_one),
        CONSTRAINT ck_event_retention_only_one CHECK (only_one),
        CONSTRAINT ck_event_retention_minimum_days CHECK (minimum_days BETWEEN 1 AND 36500)
    )
    """,
    # The highest sequence of the events of a candidate that were deleted: numbers are not given twice.
    """
    CREATE TABLE IF NOT EXISTS pruned_sequences (
        candidate_id uuid NOT NULL,
        sequence integer NOT NULL,
        CONSTRAINT pk_pruned_sequences PRIMARY KEY (candidate_id)
    )
    """,
)

# For the filters of both logs. Registrations, the most common writes, cost nothing more.
INDEXES = {
    "ix_candidate_events_type": "(type, at, id) WHERE type <> 'candidate.registered'",
    "ix_candidate_events_actor_id": "(actor_id, type, at, id) WHERE actor_id IS NOT NULL",
}

# Delete at most `batch` events of each log that are older than `days` and than the owner has stored; return how many.
# Orphaned providers stay, since somebody has to remove them in billing, and so do unfinished approvals, and events that
# are not in the feed or not delivered yet. Details, positions and deliveries of an event are deleted with it.
PRUNE = """
    CREATE OR REPLACE FUNCTION prune_events(days integer, batch integer) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER AS $$
    DECLARE
        kept_days integer := (SELECT greatest(minimum_days, least(days, 36500)) FROM event_retention);
        kept_since timestamptz := now() - make_interval(days => kept_days);
        old bigint[];
        deleted bigint;
        total bigint := 0;
    BEGIN
        -- Every role may call a function: only those that write the logs may prune them.
        IF NOT has_table_privilege(session_user, 'audit_events', 'INSERT') THEN
            RAISE insufficient_privilege USING MESSAGE = 'permission denied for function prune_events';
        END IF;
        DELETE FROM audit_events WHERE id IN (
            SELECT id FROM audit_events WHERE at < kept_since ORDER BY at, id LIMIT batch FOR UPDATE SKIP LOCKED
        );
        GET DIAGNOSTICS deleted = ROW_COUNT;
        total := total + deleted;
        SELECT array_agg(id) INTO old FROM (
            SELECT id FROM candidate_events AS event
            WHERE at < kept_since
              AND type <> 'candidate.provider_orphaned'
              AND NOT EXISTS (SELECT FROM approval_intents WHERE candidate_id = event.candidate_id)
              AND NOT EXISTS (SELECT FROM event_queue WHERE event_id = event.id)
              AND NOT EXISTS (
                  SELECT FROM deliveries WHERE event_id = event.id AND state IN ('pending', 'delivering')
              )
            ORDER BY at, id
            LIMIT batch
            FOR UPDATE SKIP LOCKED
        ) AS oldest;
        UPDATE event_dispatcher SET pruned_position = position
        FROM (SELECT max(position) AS position FROM event_positions WHERE event_id = ANY(old)) AS pruned
        WHERE position > pruned_position;
        INSERT INTO pruned_sequences AS kept (candidate_id, sequence)
        SELECT candidate_id, max(sequence) FROM event_positions WHERE event_id = ANY(old)
        GROUP BY candidate_id ORDER BY candidate_id
        ON CONFLICT (candidate_id) DO UPDATE SET sequence = greatest(kept.sequence, excluded.sequence);
        DELETE FROM candidate_events WHERE id = ANY(old);
        GET DIAGNOSTICS deleted = ROW_COUNT;
        total := total + deleted;
        -- The copies for the previous release.
        DELETE FROM approval_events WHERE id IN (
            SELECT id FROM approval_events AS copy
            WHERE at < kept_since
              AND event <> 'orphaned'
              AND NOT EXISTS (SELECT FROM approval_intents WHERE candidate_id = copy.candidate_id)
            ORDER BY id
            LIMIT batch
            FOR UPDATE SKIP LOCKED
        );
        GET DIAGNOSTICS deleted = ROW_COUNT;
        RETURN total + deleted;
    END;
    $$
"""
SET_SEARCH_PATH = """
    DO $$
    BEGIN
        EXECUTE format(
            'ALTER FUNCTION prune_events(integer, integer) SET search_path = %I, pg_temp', current_schema()
        );
    END
    $$
"""

CHECK_ROLE = """
    ALTER TABLE users
        -- squawk-ignore ban-drop-constraint
        DROP CONSTRAINT IF EXISTS ck_users_role,
        ADD CONSTRAINT ck_users_role CHECK (role::text IN ({roles})) NOT VALID
"""
VALIDATE_ROLE = "ALTER TABLE users VALIDATE CONSTRAINT ck_users_role"


def upgrade() -> None:
    """Create the tables and the function, allow the role, and build the indexes concurrently."""
    for statement in TABLES:
        op.execute(statement)
    op.execute(PRUNE)
    op.execute(SET_SEARCH_PATH)
    with op.get_context().autocommit_block():
        op.execute(CHECK_ROLE.format(roles="'admin', 'auditor', 'viewer'"))
        op.execute(VALIDATE_ROLE)
    replace_indexes("candidate_events", (), INDEXES)


def downgrade() -> None:
    """Drop the log, its retention and the indexes; auditors become viewers, whom the older release knows."""
    replace_indexes("candidate_events", INDEXES, {})
    op.execute("DROP FUNCTION IF EXISTS prune_events(integer, integer)")
    op.execute("DROP TABLE IF EXISTS pruned_sequences")
    op.execute("DROP TABLE IF EXISTS event_retention")
    op.execute("DROP TABLE IF EXISTS audit_events")
    op.execute("UPDATE users SET role = 'viewer' WHERE role = 'auditor'")
    op.execute(CHECK_ROLE.format(roles="'admin', 'viewer'"))
    op.execute(VALIDATE_ROLE)
