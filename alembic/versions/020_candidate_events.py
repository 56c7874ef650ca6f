"""One log of what happens to candidates.

Why: a decision was recorded in approval_events, in candidates.rejected_by or nowhere, so that no history was complete.
The service writes candidate_events in the statement that changes a candidate. While the previous release may still run,
triggers copy the events of approvals from each table to the other, and record what a statement changed without an
event. A later revision drops approval_events and the copies.
"""

from __future__ import annotations

from alembic import op

revision = "020_candidate_events"
down_revision = "019_language"
branch_labels = None
depends_on = None

# No column has personal data: `data` has names, codes and IDs. What may name a person is in the details, which erasure
# deletes. `approval_event_id`: the event was copied from there.
TABLES = (
    """
    CREATE TABLE IF NOT EXISTS candidate_events (
        id bigint GENERATED ALWAYS AS IDENTITY,
        candidate_id uuid NOT NULL,
        type text NOT NULL,
        at timestamptz NOT NULL DEFAULT clock_timestamp(),
        actor_kind text NOT NULL,
        actor_id uuid,
        version integer,
        data jsonb NOT NULL DEFAULT '{}',
        approval_event_id bigint,
        CONSTRAINT pk_candidate_events PRIMARY KEY (id),
        CONSTRAINT fk_candidate_events_candidate_id FOREIGN KEY (candidate_id)
            REFERENCES candidates (id) ON DELETE RESTRICT,
        CONSTRAINT ck_candidate_events_type CHECK (type ~ '^candidate\\.[a-z_]{1,40}$'),
        CONSTRAINT ck_candidate_events_actor CHECK (
            actor_kind IN ('applicant', 'user', 'api_key', 'service')
            AND (actor_id IS NOT NULL) = (actor_kind IN ('user', 'api_key'))
        )
    )
    """,
    "CREATE INDEX IF NOT EXISTS ix_candidate_events_candidate_id ON candidate_events (candidate_id, at, id)",
    """
    CREATE INDEX IF NOT EXISTS ix_candidate_events_provider_orphaned ON candidate_events (candidate_id)
    WHERE type = 'candidate.provider_orphaned'
    """,
    """
    CREATE UNIQUE INDEX IF NOT EXISTS uq_candidate_events_approval_event_id ON candidate_events (approval_event_id)
    WHERE approval_event_id IS NOT NULL
    """,
    """
    CREATE TABLE IF NOT EXISTS candidate_event_details (
        event_id bigint NOT NULL,
        candidate_id uuid NOT NULL,
        details jsonb NOT NULL,
        CONSTRAINT pk_candidate_event_details PRIMARY KEY (event_id),
        CONSTRAINT fk_candidate_event_details_event_id FOREIGN KEY (event_id)
            REFERENCES candidate_events (id) ON DELETE CASCADE
    )
    """,
    """
    CREATE INDEX IF NOT EXISTS ix_candidate_event_details_candidate_id ON candidate_event_details (candidate_id)
    """,
)

# From approval_events: an event of the previous release. 'approved' names no user: take the last who requested it.
COPY_APPROVAL_EVENT = """
    CREATE OR REPLACE FUNCTION copy_approval_event(source_id bigint) RETURNS void
    LANGUAGE plpgsql AS $$
    DECLARE
        source record;
        actor uuid;
        version_now integer;
        copied bigint;
    BEGIN
        SELECT * INTO source FROM approval_events WHERE id = source_id;
        actor := source.user_id;
        IF actor IS NULL AND source.event = 'approved' THEN
            SELECT user_id INTO actor
            FROM approval_events
            WHERE candidate_id = source.candidate_id AND id < source.id AND event IN ('requested', 'retry_requested')
            ORDER BY id DESC
            LIMIT 1;
        END IF;
        SELECT CASE WHEN pg_trigger_depth() > 0 THEN version END INTO version_now
        FROM candidates WHERE id = source.candidate_id;
        INSERT INTO candidate_events
            (candidate_id, type, at, actor_kind, actor_id, version, data, approval_event_id)
        VALUES (
            source.candidate_id,
            CASE source.event
                WHEN 'requested' THEN 'candidate.approval_requested'
                WHEN 'retry_requested' THEN 'candidate.approval_retried'
                WHEN 'failed' THEN 'candidate.approval_failed'
                WHEN 'in_doubt' THEN 'candidate.approval_in_doubt'
                WHEN 'linked' THEN 'candidate.approval_linked'
                WHEN 'let_go' THEN 'candidate.approval_released'
                WHEN 'approved' THEN 'candidate.approved'
                WHEN 'orphaned' THEN 'candidate.provider_orphaned'
            END,
            source.at,
            CASE WHEN actor IS NULL THEN 'service' ELSE 'user' END,
            actor,
            version_now,
            jsonb_strip_nulls(jsonb_build_object(
                'idempotency_key', source.idempotency_key, 'provider_id', source.provider_id
            )),
            source.id
        )
        ON CONFLICT DO NOTHING
        RETURNING id INTO copied;
        IF copied IS NOT NULL AND source.detail IS NOT NULL THEN
            INSERT INTO candidate_event_details (event_id, candidate_id, details)
            VALUES (copied, source.candidate_id, jsonb_build_object('error', source.detail));
        END IF;
        IF copied IS NOT NULL AND source.event = 'linked' THEN
            INSERT INTO candidate_events (candidate_id, type, at, actor_kind, actor_id, version, data)
            SELECT candidate_id, 'candidate.approved', at, actor_kind, actor_id, version, data || '{"linked": true}'
            FROM candidate_events WHERE id = copied;
        END IF;
    END;
    $$
"""
COPY_NEW_APPROVAL_EVENT = """
    CREATE OR REPLACE FUNCTION approval_events_copy() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER AS $$
    BEGIN
        PERFORM copy_approval_event(NEW.id);
        RETURN NULL;
    END;
    $$
"""

# To approval_events, where the previous release reads the events of approvals.
COPY_CANDIDATE_EVENT = """
    CREATE OR REPLACE FUNCTION candidate_events_copy() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER AS $$
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
                CASE WHEN event_there <> 'approved' THEN NEW.actor_id END,
                CAST(NEW.data ->> 'provider_id' AS integer),
                (SELECT details ->> 'error' FROM candidate_event_details WHERE event_id = NEW.id)
            );
        END IF;
        RETURN NULL;
    END;
    $$
"""

# Changes without an event, made by the previous release or by hand. The trigger runs at the end of the statement, and
# sees the events that it wrote.
RECORD_MISSING = """
    CREATE OR REPLACE FUNCTION candidates_record_missing_events() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER AS $$
    BEGIN
        IF TG_OP = 'INSERT' THEN
            INSERT INTO candidate_events (candidate_id, type, at, actor_kind, version, data)
            SELECT id, 'candidate.registered', created_at, 'applicant', 1, '{"backfilled": true}'
            FROM new_rows
            WHERE NOT EXISTS (SELECT FROM candidate_events AS event WHERE event.candidate_id = new_rows.id);
            IF NOT FOUND THEN
                RETURN NULL;
            END IF;
            INSERT INTO candidate_events (candidate_id, type, at, actor_kind, actor_id, version, data)
            SELECT id, 'candidate.' || status, updated_at,
                   CASE WHEN rejected_by IS NULL THEN 'service' ELSE 'user' END, rejected_by, version,
                   jsonb_strip_nulls(jsonb_build_object('backfilled', true, 'provider_id', provider_id))
            FROM new_rows
            WHERE status <> 'pending';
        ELSE
            INSERT INTO candidate_events (candidate_id, type, actor_kind, actor_id, version, data)
            SELECT changed.id, 'candidate.' || changed.status,
                   CASE WHEN changed.rejected_by IS NULL THEN 'service' ELSE 'user' END, changed.rejected_by,
                   changed.version,
                   jsonb_strip_nulls(jsonb_build_object('backfilled', true, 'provider_id', changed.provider_id))
            FROM new_rows AS changed
            JOIN old_rows USING (id)
            WHERE changed.status <> old_rows.status
              AND changed.status <> 'pending'
              AND NOT EXISTS (
                  SELECT FROM candidate_events AS event
                  WHERE event.candidate_id = changed.id
                    AND event.type IN ('candidate.' || changed.status, 'candidate.erased')
                    AND event.version = changed.version
              )
              AND NOT EXISTS (
                  SELECT FROM approval_events AS event
                  WHERE event.candidate_id = changed.id
                    AND event.event IN ('approved', 'linked')
                    AND event.provider_id = changed.provider_id
              );
        END IF;
        RETURN NULL;
    END;
    $$
"""

# pg_trigger_depth() = 0: the statement of a client, not of the other copy.
TRIGGERS = {
    "tr_approval_events_copy": """
        AFTER INSERT ON approval_events FOR EACH ROW WHEN (pg_trigger_depth() = 0)
        EXECUTE FUNCTION approval_events_copy()
    """,
    "tr_candidate_events_copy": """
        AFTER INSERT ON candidate_events FOR EACH ROW
        WHEN (NEW.data ? 'idempotency_key' AND pg_trigger_depth() = 0 AND NEW.approval_event_id IS NULL)
        EXECUTE FUNCTION candidate_events_copy()
    """,
    "tr_candidates_record_inserted": """
        AFTER INSERT ON candidates REFERENCING NEW TABLE AS new_rows
        FOR EACH STATEMENT EXECUTE FUNCTION candidates_record_missing_events()
    """,
    "tr_candidates_record_updated": """
        AFTER UPDATE ON candidates REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
        FOR EACH STATEMENT EXECUTE FUNCTION candidates_record_missing_events()
    """,
}
FUNCTIONS = {
    "copy_approval_event(bigint)": COPY_APPROVAL_EVENT,
    "approval_events_copy()": COPY_NEW_APPROVAL_EVENT,
    "candidate_events_copy()": COPY_CANDIDATE_EVENT,
    "candidates_record_missing_events()": RECORD_MISSING,
}

# The schema of the functions and tables, whatever its name.
SET_SEARCH_PATH = """
    DO $$
    BEGIN
        EXECUTE format('ALTER FUNCTION {function} SET search_path = %I, pg_temp', current_schema());
    END
    $$
"""

# In batches, each committed. All of it can be repeated. Rows that change meanwhile are recorded by the triggers.
COPY_EXISTING = """
    DO $$
    DECLARE
        done bigint := 0;
        last bigint;
    BEGIN
        LOOP
            SELECT max(id) INTO last
            FROM (SELECT id FROM approval_events WHERE id > done ORDER BY id LIMIT 2000) AS batch;
            EXIT WHEN last IS NULL;
            PERFORM copy_approval_event(source.id)
            FROM (
                SELECT id FROM approval_events AS source
                WHERE id > done AND id <= last
                  AND NOT EXISTS (SELECT FROM candidate_events WHERE approval_event_id = source.id)
                  -- A process of this release, started too early, may have written it.
                  AND NOT EXISTS (
                      SELECT FROM candidate_events AS written
                      WHERE written.candidate_id = source.candidate_id
                        AND written.at = source.at
                        AND written.approval_event_id IS NULL
                        AND written.data ->> 'idempotency_key' = source.idempotency_key::text
                  )
                ORDER BY id
            ) AS source;
            done := last;
            COMMIT;
        END LOOP;
    END
    $$
"""
RECORD_EXISTING = """
    DO $$
    DECLARE
        done uuid := '00000000-0000-0000-0000-000000000000';
        last uuid;
    BEGIN
        LOOP
            last := NULL;
            SELECT id INTO last
            FROM (SELECT id FROM candidates WHERE id >= done ORDER BY id LIMIT 2000) AS batch
            ORDER BY id DESC LIMIT 1;
            EXIT WHEN last IS NULL;
            INSERT INTO candidate_events (candidate_id, type, at, actor_kind, version, data)
            SELECT id, 'candidate.registered', created_at, 'applicant', 1, '{"backfilled": true}'
            FROM candidates
            WHERE id >= done AND id <= last
              AND NOT EXISTS (
                  SELECT FROM candidate_events AS event
                  WHERE event.candidate_id = candidates.id AND event.type = 'candidate.registered'
              );
            INSERT INTO candidate_events (candidate_id, type, at, actor_kind, actor_id, version, data)
            SELECT id, 'candidate.' || status, updated_at,
                   CASE WHEN rejected_by IS NULL THEN 'service' ELSE 'user' END, rejected_by, version,
                   jsonb_strip_nulls(jsonb_build_object('backfilled', true, 'provider_id', provider_id))
            FROM candidates
            WHERE id >= done AND id <= last
              AND status <> 'pending'
              AND NOT EXISTS (
                  SELECT FROM candidate_events AS event
                  WHERE event.candidate_id = candidates.id
                    AND event.type IN ('candidate.' || candidates.status, 'candidate.erased')
              );
            EXIT WHEN last = done;
            done := last;
            COMMIT;
        END LOOP;
    END
    $$
"""


# A release without the log erased companies' data, but left the errors of their approvals.
FORGET_ERASED = (
    """
    DELETE FROM candidate_event_details USING candidates
    WHERE candidate_id = candidates.id AND contact_email = 'erased-' || candidates.id || '@erased.invalid'
    """,
    """
    UPDATE approval_events SET detail = NULL
    FROM candidates
    WHERE candidate_id = candidates.id
      AND contact_email = 'erased-' || candidates.id || '@erased.invalid'
      AND detail IS NOT NULL
    """,
)


def upgrade() -> None:
    """Create the tables and triggers, then record what happened before, in batches."""
    with op.get_context().autocommit_block():  # one statement at a time, so that locks of tables in use are short
        for statement in TABLES:
            op.execute(f"-- squawk-ignore require-concurrent-index-creation\n{statement.strip()}")  # of new tables
        for function, definition in FUNCTIONS.items():
            op.execute(definition)
            op.execute(SET_SEARCH_PATH.format(function=function))
        for name, definition in TRIGGERS.items():
            op.execute(f"CREATE OR REPLACE TRIGGER {name} {definition}")
        op.execute(COPY_EXISTING)
        op.execute(RECORD_EXISTING)
        for statement in FORGET_ERASED:
            op.execute(statement)


def downgrade() -> None:
    """Drop the log; events of approvals are in approval_events too, and decisions in candidates."""
    # The strongest locks first, since upgrading a weaker one could deadlock. Only the first one waits: writers lock
    # candidates, then the log by its triggers, and those under way would fail if it was locked meanwhile.
    op.execute("LOCK TABLE candidates IN ACCESS EXCLUSIVE MODE")
    op.execute("LOCK TABLE approval_events, candidate_events, candidate_event_details IN ACCESS EXCLUSIVE MODE NOWAIT")
    for name in TRIGGERS:
        table = TRIGGERS[name].split(" ON ")[1].split()[0]
        op.execute(f"DROP TRIGGER IF EXISTS {name} ON {table}")
    op.execute("DROP TABLE IF EXISTS candidate_event_details")
    op.execute("DROP TABLE IF EXISTS candidate_events")
    for function in reversed(FUNCTIONS):
        op.execute(f"DROP FUNCTION IF EXISTS {function}")
