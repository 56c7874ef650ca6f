"""Candidates: the companies that registered.

Why: registration and review need one table. Its column types are those of the first release; later revisions
tighten them.
"""

from __future__ import annotations

from alembic import op

revision = "000_initial_schema"
down_revision = None
branch_labels = None
depends_on = None

BEFORE_UPDATE = """
CREATE FUNCTION candidates_before_update() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    NEW.updated_at = now() AT TIME ZONE 'utc';
    RETURN NEW;
END;
$$
"""


def upgrade() -> None:
    """Create the table, its indexes, and the trigger that sets updated_at."""
    op.execute("""
        CREATE TABLE candidates (
            id uuid NOT NULL DEFAULT gen_random_uuid(),
            status varchar(20) NOT NULL DEFAULT 'pending',
            company_name varchar(255) NOT NULL,
            contact_email varchar(255) NOT NULL,
            phone varchar(50),
            products text[] NOT NULL,
            truck_count integer NOT NULL,
            capacity_tons_per_day integer NOT NULL,
            location varchar(255),
            created_at timestamp NOT NULL DEFAULT (now() AT TIME ZONE 'utc'),
            updated_at timestamp NOT NULL DEFAULT (now() AT TIME ZONE 'utc'),
            provider_id integer,
            CONSTRAINT pk_candidates PRIMARY KEY (id),
            CONSTRAINT uq_candidates_contact_email UNIQUE (contact_email),
            CONSTRAINT ck_candidates_status CHECK (status::text IN ('pending', 'approved', 'rejected')),
            CONSTRAINT ck_candidates_products_not_empty CHECK (cardinality(products) > 0),
            CONSTRAINT ck_candidates_products_known
                CHECK (products <@ ARRAY['apples', 'oranges', 'grapes', 'bananas', 'mangoes']),
            CONSTRAINT ck_candidates_truck_count CHECK (truck_count > 0),
            CONSTRAINT ck_candidates_capacity_tons_per_day CHECK (capacity_tons_per_day > 0)
        )
    """)
    op.execute("CREATE INDEX ix_candidates_status ON candidates (status)")
    op.execute("CREATE INDEX ix_candidates_created_at ON candidates (created_at)")
    op.execute("CREATE INDEX ix_candidates_products ON candidates USING gin (products)")
    op.execute(BEFORE_UPDATE)
    op.execute("""
        CREATE TRIGGER tr_candidates_before_update BEFORE UPDATE ON candidates
        FOR EACH ROW EXECUTE FUNCTION candidates_before_update()
    """)


def downgrade() -> None:
    """Drop the table and every registration in it."""
    op.execute("DROP TABLE candidates")
    op.execute("DROP FUNCTION candidates_before_update()")
