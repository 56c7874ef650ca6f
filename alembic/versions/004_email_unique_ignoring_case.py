"""One registration for each e-mail address, ignoring case.

Why: Sales@example.org and sales@example.org are the same mailbox, but the unique constraint allowed both. The index is
built concurrently; the old constraint stays until the index is valid.
"""

from __future__ import annotations

from alembic import op

from provider_registration.db.index_builds import building_indexes

revision = "004_email_unique_ignoring_case"
down_revision = "003_timestamps_with_time_zone"
branch_labels = None
depends_on = None

# A person must decide which of two companies keeps the address.
REFUSE_DUPLICATES = """
    DO $$
    DECLARE
        addresses bigint;
    BEGIN
        SELECT count(*) INTO addresses
        FROM (SELECT FROM candidates GROUP BY lower(contact_email) HAVING count(*) > 1) AS duplicate;
        IF addresses > 0 THEN
            RAISE EXCEPTION '% address(es) are registered more than once, differing only in case; find them with: %',
                addresses,
                'SELECT lower(contact_email), array_agg(id) FROM candidates GROUP BY 1 HAVING count(*) > 1;';
        END IF;
    END
    $$
"""


def upgrade() -> None:
    """Replace the constraint with an index on the lower-case address, unless there are duplicates."""
    op.execute(REFUSE_DUPLICATES)
    with op.get_context().autocommit_block(), building_indexes():
        # An interrupted run may have left an invalid index.
        op.execute("DROP INDEX CONCURRENTLY IF EXISTS uq_candidates_contact_email_lower")
        op.execute("""
                CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS uq_candidates_contact_email_lower
                ON candidates (lower(contact_email))
            """)
    op.execute("""
        -- The index refuses everything that the constraint did.
        -- squawk-ignore ban-drop-constraint
        ALTER TABLE candidates DROP CONSTRAINT IF EXISTS uq_candidates_contact_email
    """)


def downgrade() -> None:
    """Restore the case-sensitive constraint, which all stored addresses satisfy."""
    with op.get_context().autocommit_block(), building_indexes():
        op.execute("DROP INDEX CONCURRENTLY IF EXISTS uq_candidates_contact_email")
        op.execute("CREATE UNIQUE INDEX CONCURRENTLY uq_candidates_contact_email ON candidates (contact_email)")
    op.execute("""
        ALTER TABLE candidates
        ADD CONSTRAINT uq_candidates_contact_email UNIQUE USING INDEX uq_candidates_contact_email
    """)
    op.execute("DROP INDEX uq_candidates_contact_email_lower")
