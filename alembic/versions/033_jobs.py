"""Jobs: work on many items in the background.

Why: deciding hundreds of candidates takes longer than a request may, and must go on if the process dies.
"""

from __future__ import annotations

from alembic import op

revision = "033_jobs"
down_revision = "032_statistics"
branch_labels = None
depends_on = None

STATEMENTS = (
    """
    CREATE TABLE IF NOT EXISTS jobs (
        id uuid NOT NULL,
        kind text NOT NULL,
        state text NOT NULL DEFAULT 'queued',
        actor_kind text NOT NULL,
        actor_id uuid NOT NULL,
        parameters jsonb,
        is_partial boolean NOT NULL DEFAULT false,
        total integer NOT NULL,
        done integer NOT NULL DEFAULT 0,
        summary jsonb NOT NULL DEFAULT '{}',
        cancel_reason text,
        claim_id uuid,
        due_at timestamptz DEFAULT clock_timestamp(),
        created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
        worked_at timestamptz NOT NULL DEFAULT clock_timestamp(),
        ended_at timestamptz,
        CONSTRAINT pk_jobs PRIMARY KEY (id),
        CONSTRAINT ck_jobs_kind CHECK (kind ~ '^[a-z_]{1,40}\\.[a-z_]{1,40}$'),
        CONSTRAINT ck_jobs_state CHECK (state IN ('queued', 'running', 'done', 'cancelled')),
        CONSTRAINT ck_jobs_actor CHECK (actor_kind IN ('user', 'api_key')),
        CONSTRAINT ck_jobs_done CHECK (done BETWEEN 0 AND total),
        CONSTRAINT ck_jobs_ended CHECK (
            (state = 'cancelled') = (cancel_reason IS NOT NULL)
            AND (state IN ('done', 'cancelled')) = (ended_at IS NOT NULL)
            AND (due_at IS NOT NULL OR (ended_at IS NOT NULL AND claim_id IS NULL AND parameters IS NULL))
        )
    ) WITH (fillfactor = 70)
    """,
    """
    CREATE TABLE IF NOT EXISTS job_items (
        job_id uuid NOT NULL,
        number integer NOT NULL,
        candidate_id uuid,
        version integer,
        status text,
        code text,
        attempts integer NOT NULL DEFAULT 0,
        claim_id uuid,
        due_at timestamptz,
        CONSTRAINT pk_job_items PRIMARY KEY (job_id, number),
        CONSTRAINT fk_job_items_job_id FOREIGN KEY (job_id) REFERENCES jobs (id) ON DELETE CASCADE,
        CONSTRAINT ck_job_items_status CHECK (status ~ '^[a-z_]{1,40}$' AND (code IS NULL OR status = 'failed'))
    ) WITH (fillfactor = 70)
    """,
    "CREATE INDEX IF NOT EXISTS ix_jobs_due_at ON jobs (due_at) WHERE due_at IS NOT NULL",
    "CREATE INDEX IF NOT EXISTS ix_jobs_created_at ON jobs (created_at, id)",
    "CREATE INDEX IF NOT EXISTS ix_jobs_ended_at ON jobs (ended_at) WHERE ended_at IS NOT NULL",
    "CREATE INDEX IF NOT EXISTS ix_job_items_left ON job_items (job_id, number) WHERE status IS NULL",
)


def upgrade() -> None:
    """Create the tables."""
    with op.get_context().autocommit_block():
        for statement in STATEMENTS:
            op.execute(f"-- squawk-ignore require-concurrent-index-creation\n{statement.strip()}")  # of new tables


def downgrade() -> None:
    """Drop them, and with them all jobs: what they have not decided yet stays as it is."""
    op.execute("DROP TABLE IF EXISTS job_items")
    op.execute("DROP TABLE IF EXISTS jobs")
