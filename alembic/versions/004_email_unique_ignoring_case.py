"""One registration an address, whatever the letter case.

Why: Sales@example.org and sales@example.org are one mailbox; the plain unique constraint took them for two companies.
The index is built while registrations go on, and the old constraint guards until it stands.
"""

from __future__ import annotations

from alembic import op

revision = "004_email_unique_ignoring_case"
down_revision = "003_timestamps_with_time_zone"
branch_labels = None
depends_on = None

# Which of two companies keeps the address is for people to decide.
REFUSE_DUPLICATES = """
    DO $$
    DECLARE
        addresses bigint;
    BEGIN
        SELECT count(*) INTO addresses
        FROM (SELECT FROM candidates GROUP BY lower(contact_email) HAVING count(*) > 1) AS duplicate;
        IF addresses > 0 THEN
            RAISE EXCEPTION '% address(es) are registered more than once in different letter case; find them with: %',
                addresses,
                'SELECT lower(contact_email), array_agg(id) FROM candidates GROUP BY 1 HAVING count(*) > 1;';
        END IF;
    END
    $$
"""


def upgrade() -> None:
    """Replace the constraint by an index on the lower-case address, unless some are there twice."""
    op.execute(REFUSE_DUPLICATES)
    with op.get_context().autocommit_block():
        op.execute("SET lock_timeout = 0")  # it waits for running transactions, and nobody waits for it
        # What an interrupted run left may be invalid.
        op.execute("DROP INDEX CONCURRENTLY IF EXISTS uq_candidates_contact_email_lower")
        op.execute("""
            CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS uq_candidates_contact_email_lower
            ON candidates (lower(contact_email))
        """)
        op.execute("SET lock_timeout = '500ms'")
    op.execute("""
        -- The index refuses all that the constraint did.
        -- squawk-ignore ban-drop-constraint
        ALTER TABLE candidates DROP CONSTRAINT IF EXISTS uq_candidates_contact_email
    """)


def downgrade() -> None:
    """Tell letter cases apart again; addresses that differ in lower case differ as they stand."""
    with op.get_context().autocommit_block():
        op.execute("SET lock_timeout = 0")
        op.execute("DROP INDEX CONCURRENTLY IF EXISTS uq_candidates_contact_email")
        op.execute("CREATE UNIQUE INDEX CONCURRENTLY uq_candidates_contact_email ON candidates (contact_email)")
        op.execute("SET lock_timeout = '500ms'")
    op.execute("""
        ALTER TABLE candidates
        ADD CONSTRAINT uq_candidates_contact_email UNIQUE USING INDEX uq_candidates_contact_email
    """)
    op.execute("DROP INDEX uq_candidates_contact_email_lower")
