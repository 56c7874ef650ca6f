"""Old events stay until the broker has them, and removing them reads few rows.

Why: events were removed although a broker that was down had not got them; and the copies of events of approvals have no
index on the time, so that the function read all of them, up to the time limit of the service.
"""

from __future__ import annotations

from alembic import op

from provider_registration.db.index_builds import building_indexes

revision = "026_event_retention"
down_revision = "025_broker"
branch_labels = None
depends_on = None

# When a process that publishes last used the position: one that nobody has used for a week keeps no events.
ADD_USE = """
    ALTER TABLE broker_positions ADD COLUMN IF NOT EXISTS used_at timestamptz NOT NULL DEFAULT now()
"""
DROP_USE = "ALTER TABLE broker_positions DROP COLUMN IF EXISTS used_at"

# As in 022_audit_events, but for the three additions.
PRUNE = """
    CREATE OR REPLACE FUNCTION prune_events(days integer, batch integer) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER AS $$
    DECLARE
        kept_days integer := (SELECT greatest(minimum_days, least(days, 36500)) FROM event_retention);
        kept_since timestamptz := now() - make_interval(days => kept_days);
        {unpublished}old bigint[];
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
{is_published}            ORDER BY at, id
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
            ORDER BY {order}
            LIMIT batch
            FOR UPDATE SKIP LOCKED
        );
        GET DIAGNOSTICS deleted = ROW_COUNT;
        RETURN total + deleted;
    END;
    $$
"""
ADDITIONS = {
    "unpublished": """unpublished bigint := (
            SELECT min(position) FROM broker_positions WHERE used_at > now() - interval '7 days'
        );
        """,
    "is_published": """              AND NOT EXISTS (
                  SELECT FROM event_positions WHERE event_id = event.id AND position > unpublished
              )
""",
    "order": "at, id",
}
BEFORE = {"unpublished": "", "is_published": "", "order": "id"}
SET_SEARCH_PATH = """
    DO $$
    BEGIN
        EXECUTE format(
            'ALTER FUNCTION prune_events(integer, integer) SET search_path = %I, pg_temp', current_schema()
        );
    END
    $$
"""

INDEX = "ix_approval_events_at"
DROP_INDEX = f"DROP INDEX CONCURRENTLY IF EXISTS {INDEX}"  # an interrupted run may have left an invalid one


def upgrade() -> None:
    """Add the column and replace the function, then build the index concurrently."""
    with op.get_context().autocommit_block():  # one statement at a time, so that locks of tables in use are short
        op.execute(ADD_USE)
        op.execute(PRUNE.format(**ADDITIONS))
        op.execute(SET_SEARCH_PATH)
        with building_indexes():
            op.execute(DROP_INDEX)
            op.execute(f"CREATE INDEX CONCURRENTLY IF NOT EXISTS {INDEX} ON approval_events (at, id)")


def downgrade() -> None:
    """Restore the function, and drop the index and the column."""
    op.execute(PRUNE.format(**BEFORE))
    op.execute(SET_SEARCH_PATH)
    op.execute(DROP_USE)
    with op.get_context().autocommit_block(), building_indexes():
        op.execute(DROP_INDEX)
