"""A function that finds a candidate's unfinished approval as it is at that moment.

Why: a statement that locks candidates and then decides about them does not see an approval that began after it, for its
snapshot is older than the lock. A query in a VOLATILE function sees it, so a rejection takes one statement instead of a
transaction with two.
https://www.postgresql.org/docs/current/xfunc-volatility.html
"""

from __future__ import annotations

from alembic import op

revision = "036_unfinished_approval"
down_revision = "035_uncounted_events"
branch_labels = None
depends_on = None

CREATE = """
    CREATE OR REPLACE FUNCTION unfinished_approval(candidate uuid) RETURNS SETOF approval_intents
        LANGUAGE plpgsql VOLATILE STRICT ROWS 1
    AS $$
    BEGIN
        RETURN QUERY SELECT * FROM approval_intents WHERE candidate_id = candidate;
    END
    $$
"""


def upgrade() -> None:
    """Create the function; the previous release does not use it."""
    op.execute(CREATE)


def downgrade() -> None:
    """Drop it."""
    op.execute("DROP FUNCTION IF EXISTS unfinished_approval(uuid)")
