"""Unfinished approvals, and the events of approvals.

Why: a crash between billing's response and ours must neither lose the provider nor create a second one. An intent is
written before billing is called and deleted when the response is recorded; it holds the request, its idempotency key
and the lease. The events record who requested, retried and resolved an approval.
"""

from __future__ import annotations

from alembic import op

revision = "006_approval_intents"
down_revision = "005_users"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables; no two unfinished approvals share a provider name."""
    op.execute("""
        CREATE TABLE approval_intents (
            candidate_id uuid NOT NULL,
            idempotency_key uuid NOT NULL,
            provider_name varchar(255) NOT NULL,
            requested_by uuid NOT NULL,
            requested_at timestamptz NOT NULL DEFAULT now(),
            claim_id uuid,
            next_attempt_at timestamptz NOT NULL,
            attempts integer NOT NULL DEFAULT 1,
            last_error text,
            in_doubt_since timestamptz,
            CONSTRAINT pk_approval_intents PRIMARY KEY (candidate_id),
            CONSTRAINT uq_approval_intents_idempotency_key UNIQUE (idempotency_key),
            CONSTRAINT fk_approval_intents_candidate_id
                FOREIGN KEY (candidate_id) REFERENCES candidates (id) ON DELETE RESTRICT,
            CONSTRAINT fk_approval_intents_requested_by FOREIGN KEY (requested_by) REFERENCES users (id)
        )
    """)
    # Billing identifies providers by name: two calls with the same name could each get the other's response.
    op.execute("CREATE UNIQUE INDEX uq_approval_intents_provider_name ON approval_intents (provider_name)")
    op.execute("CREATE INDEX ix_approval_intents_next_attempt_at ON approval_intents (next_attempt_at)")
    # With a claim, it is leased until next_attempt_at; without one, it waits until then or for an admin.
    op.execute("""
        CREATE VIEW unfinished_approvals AS
        SELECT *,
               CASE
                   WHEN in_doubt_since IS NOT NULL THEN 'in_doubt'
                   WHEN claim_id IS NOT NULL AND next_attempt_at > now() THEN 'in_progress'
                   ELSE 'waiting'
               END AS state
        FROM approval_intents
    """)
    op.execute("""
        CREATE TABLE approval_events (
            id bigint GENERATED ALWAYS AS IDENTITY,
            candidate_id uuid NOT NULL,
            idempotency_key uuid NOT NULL,
            event varchar(20) NOT NULL,
            at timestamptz NOT NULL DEFAULT now(),
            user_id uuid,
            provider_id integer,
            detail text,
            CONSTRAINT pk_approval_events PRIMARY KEY (id),
            CONSTRAINT fk_approval_events_candidate_id
                FOREIGN KEY (candidate_id) REFERENCES candidates (id) ON DELETE RESTRICT,
            CONSTRAINT fk_approval_events_user_id FOREIGN KEY (user_id) REFERENCES users (id),
            CONSTRAINT ck_approval_events_event CHECK (event::text IN (
                'requested', 'retry_requested', 'failed', 'in_doubt', 'linked', 'let_go', 'approved', 'orphaned'
            ))
        )
    """)
    op.execute("CREATE INDEX ix_approval_events_candidate_id ON approval_events (candidate_id, id)")
    op.execute("CREATE INDEX ix_approval_events_orphaned ON approval_events (id) WHERE event = 'orphaned'")


def downgrade() -> None:
    """Drop the intents and the events: let unfinished approvals end first."""
    op.execute("DROP TABLE approval_events")
    op.execute("DROP VIEW unfinished_approvals")
    op.execute("DROP TABLE approval_intents")
