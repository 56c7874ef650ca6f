"""Positions of events, in the order of a feed, and the deliveries of events to others.

Why: neither IDs nor times of events are in the order of their commits, so a reader that continued after the last one
would miss those that were committed later. A trigger puts every event into a queue; one dispatcher at a time numbers
what is committed and makes its deliveries. Earlier events are numbered here, and get no deliveries.
"""

from __future__ import annotations

from alembic import op

from provider_registration.db.index_builds import building_indexes

revision = "021_event_feed"
down_revision = "020_candidate_events"
branch_labels = None
depends_on = None

TABLES = (
    """
    CREATE TABLE IF NOT EXISTS event_queue (
        event_id bigint NOT NULL,
        candidate_id uuid NOT NULL,
        CONSTRAINT pk_event_queue PRIMARY KEY (event_id)
    ) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000)
    """,
    """
    CREATE TABLE IF NOT EXISTS event_positions (
        position bigint NOT NULL,
        event_id bigint NOT NULL,
        candidate_id uuid NOT NULL,
        sequence integer NOT NULL,
        CONSTRAINT pk_event_positions PRIMARY KEY (position),
        CONSTRAINT uq_event_positions_event_id UNIQUE (event_id),
        CONSTRAINT uq_event_positions_candidate_id_sequence UNIQUE (candidate_id, sequence),
        CONSTRAINT fk_event_positions_event_id FOREIGN KEY (event_id)
            REFERENCES candidate_events (id) ON DELETE CASCADE
    )
    """,
    # One row, without which nothing is numbered: it comes last. The process that holds its lock is the dispatcher.
    # pruned_position: events up to it may have been deleted.
    """
    CREATE TABLE IF NOT EXISTS event_dispatcher (
        is_only boolean NOT NULL DEFAULT true,
        last_position bigint NOT NULL,
        pruned_position bigint NOT NULL DEFAULT 0,
        CONSTRAINT pk_event_dispatcher PRIMARY KEY (is_only),
        CONSTRAINT ck_event_dispatcher_is_only CHECK (is_only)
    ) WITH (fillfactor = 10)
    """,
    # data: no personal data. next_attempt_at: when a pending one is due, and when the lease of one under way ends.
    """
    CREATE TABLE IF NOT EXISTS deliveries (
        id bigint GENERATED ALWAYS AS IDENTITY,
        kind text NOT NULL,
        target text NOT NULL,
        event_id bigint,
        state text NOT NULL DEFAULT 'pending',
        attempts integer NOT NULL DEFAULT 0,
        next_attempt_at timestamptz DEFAULT clock_timestamp(),
        last_status integer,
        last_error text,
        data jsonb NOT NULL DEFAULT '{}',
        created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
        updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
        CONSTRAINT pk_deliveries PRIMARY KEY (id),
        CONSTRAINT uq_deliveries_event_id_kind_target UNIQUE (event_id, kind, target),
        CONSTRAINT fk_deliveries_event_id FOREIGN KEY (event_id) REFERENCES candidate_events (id) ON DELETE CASCADE,
        CONSTRAINT ck_deliveries_state CHECK (
            state IN ('pending', 'delivering', 'delivered', 'failed', 'dead', 'unknown')
            AND (next_attempt_at IS NOT NULL) = (state IN ('pending', 'delivering'))
        ),
        CONSTRAINT ck_deliveries_kind CHECK (kind ~ '^[a-z_]{1,40}$')
    ) WITH (fillfactor = 70)
    """,
    """
    CREATE INDEX IF NOT EXISTS ix_deliveries_due ON deliveries (kind, target, next_attempt_at)
    WHERE state IN ('pending', 'delivering')
    """,
    """
    CREATE INDEX IF NOT EXISTS ix_deliveries_waiting ON deliveries (kind, id)
    WHERE state IN ('pending', 'delivering')
    """,
    "CREATE INDEX IF NOT EXISTS ix_deliveries_kind_target_id ON deliveries (kind, target, id)",
    "CREATE INDEX IF NOT EXISTS ix_deliveries_state_id ON deliveries (state, id)",
    "CREATE INDEX IF NOT EXISTS ix_deliveries_updated_at ON deliveries (updated_at)",
)

# Whichever process writes the event, including one of the previous release.
QUEUE = """
    CREATE OR REPLACE FUNCTION candidate_events_queue() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER AS $$
    BEGIN
        INSERT INTO event_queue (event_id, candidate_id) SELECT id, candidate_id FROM new_rows;
        RETURN NULL;
    END;
    $$
"""
TRIGGER = """
    CREATE OR REPLACE TRIGGER tr_candidate_events_queue
    AFTER INSERT ON candidate_events REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION candidate_events_queue()
"""
# The schema of the tables, whatever its name.
SET_SEARCH_PATH = """
    DO $$
    BEGIN
        EXECUTE format('ALTER FUNCTION candidate_events_queue() SET search_path = %I, pg_temp', current_schema());
    END
    $$
"""

# In the order of time, in batches, each committed; what the trigger queued is left to the dispatcher, which starts
# when its row is there. All of it can be repeated.
NUMBER_EXISTING = """
    DO $$
    DECLARE
        batch bigint[];
        counted bigint;
        done_at timestamptz := '-infinity';
        done_id bigint := 0;
        last bigint := 0;
    BEGIN
        IF EXISTS (SELECT FROM event_dispatcher) THEN
            RETURN;
        END IF;
        DELETE FROM event_positions;
        COMMIT;
        LOOP
            SELECT array_agg(id ORDER BY at, id) INTO batch
            FROM (
                SELECT id, at FROM candidate_events
                WHERE (at, id) > (done_at, done_id)
                ORDER BY at, id
                LIMIT 2000
            ) AS following;
            EXIT WHEN batch IS NULL;
            INSERT INTO event_positions (position, event_id, candidate_id, sequence)
            SELECT last + row_number() OVER (ORDER BY event.at, event.id), event.id, event.candidate_id,
                   (
                       SELECT count(*) FROM candidate_events AS earlier
                       WHERE earlier.candidate_id = event.candidate_id
                         AND (earlier.at, earlier.id) <= (event.at, event.id)
                         AND NOT EXISTS (SELECT FROM event_queue WHERE event_id = earlier.id)
                   )
            FROM candidate_events AS event
            WHERE event.id = ANY(batch)
              AND NOT EXISTS (SELECT FROM event_queue WHERE event_id = event.id);
            GET DIAGNOSTICS counted = ROW_COUNT;
            last := last + counted;
            SELECT at, id INTO done_at, done_id FROM candidate_events WHERE id = batch[cardinality(batch)];
            COMMIT;
        END LOOP;
        INSERT INTO event_dispatcher (last_position) VALUES (last);
    END
    $$
"""


def upgrade() -> None:
    """Create the tables and the trigger, then number the earlier events, in batches."""
    with op.get_context().autocommit_block():
        with building_indexes():
            # Also for lists of all events by time. An interrupted run may have left an invalid one.
            op.execute("DROP INDEX CONCURRENTLY IF EXISTS ix_candidate_events_at_id")
            op.execute("CREATE INDEX CONCURRENTLY IF NOT EXISTS ix_candidate_events_at_id ON candidate_events (at, id)")
        for statement in (*TABLES, QUEUE, SET_SEARCH_PATH, TRIGGER):  # each commits: locks of tables in use are short
            op.execute(f"-- squawk-ignore require-concurrent-index-creation\n{statement.strip()}")  # of new tables
        op.execute(NUMBER_EXISTING)


def downgrade() -> None:
    """Drop positions and deliveries; what is not delivered yet is lost."""
    op.execute("LOCK TABLE candidate_events, event_queue, event_positions, deliveries IN ACCESS EXCLUSIVE MODE")
    op.execute("DROP TRIGGER IF EXISTS tr_candidate_events_queue ON candidate_events")
    op.execute("DROP FUNCTION IF EXISTS candidate_events_queue()")
    for table in ("deliveries", "event_dispatcher", "event_positions", "event_queue"):
        op.execute(f"DROP TABLE IF EXISTS {table}")
    op.execute("DROP INDEX IF EXISTS ix_candidate_events_at_id")
