"""Old events stay until the statistics have counted them, as they stay until the broker has them.

Why: if counting stood still for as long as events are kept, what they say was missing from the statistics for ever.
"""

from __future__ import annotations

from alembic import op

revision = "035_uncounted_events"
down_revision = "034_imports"
branch_labels = None
depends_on = None

# As in 026_event_retention, but for the position after which events are needed.
PRUNE = """
    CREATE OR REPLACE FUNCTION prune_events(days integer, batch integer) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER AS $$
    DECLARE
        kept_days integer := (SELECT greatest(minimum_days, least(days, 36500)) FROM event_retention);
        kept_since timestamptz := now() - make_interval(days => kept_days);
        {declaration}
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
              AND NOT EXISTS (
                  SELECT FROM event_positions WHERE event_id = event.id AND position > {needed}
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
            ORDER BY at, id
            LIMIT batch
            FOR UPDATE SKIP LOCKED
        );
        GET DIAGNOSTICS deleted = ROW_COUNT;
        RETURN total + deleted;
    END;
    $$
"""
# least() ignores NULL: no broker.
NEEDED = {
    "needed": "needed_after",
    "declaration": """needed_after bigint := least(
            (SELECT min(position) FROM broker_positions WHERE used_at > now() - interval '7 days'),
            (SELECT position FROM statistics_progress)
        );""",
}
BEFORE = {
    "needed": "unpublished",
    "declaration": """unpublished bigint := (
            SELECT min(position) FROM broker_positions WHERE used_at > now() - interval '7 days'
        );""",
}
SET_SEARCH_PATH = """
    DO $$
    BEGIN
        EXECUTE format(
            'ALTER FUNCTION prune_events(integer, integer) SET search_path = %I, pg_temp', current_schema()
        );
    END
    $$
"""


def upgrade() -> None:
    """Replace the function."""
    with op.get_context().autocommit_block():  # as in every migration: one statement at a time
        op.execute(PRUNE.format(**NEEDED))
        op.execute(SET_SEARCH_PATH)


def downgrade() -> None:
    """Restore the function."""
    op.execute(PRUNE.format(**BEFORE))
    op.execute(SET_SEARCH_PATH)
