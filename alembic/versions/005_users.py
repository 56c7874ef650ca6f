"""Users: staff accounts.

Why: each account has a role and a password hash, and can be disabled without a restart.
"""

from __future__ import annotations

from alembic import op

revision = "005_users"
down_revision = "004_email_unique_ignoring_case"
branch_labels = None
depends_on = None

BEFORE_UPDATE = """
CREATE FUNCTION users_before_update() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    NEW.updated_at = now();
    RETURN NEW;
END;
$$
"""


def upgrade() -> None:
    """Create the table; an e-mail address is unique, ignoring case."""
    op.execute("""
        CREATE TABLE users (
            id uuid NOT NULL DEFAULT gen_random_uuid(),
            email varchar(255) NOT NULL,
            password_hash text NOT NULL,
            role varchar(20) NOT NULL,
            disabled_at timestamptz,
            created_at timestamptz NOT NULL DEFAULT now(),
            updated_at timestamptz NOT NULL DEFAULT now(),
            CONSTRAINT pk_users PRIMARY KEY (id),
            CONSTRAINT ck_users_role CHECK (role::text IN ('admin', 'viewer'))
        )
    """)
    op.execute("CREATE UNIQUE INDEX uq_users_email_lower ON users (lower(email))")
    op.execute(BEFORE_UPDATE)
    op.execute("""
        CREATE TRIGGER tr_users_before_update BEFORE UPDATE ON users
        FOR EACH ROW EXECUTE FUNCTION users_before_update()
    """)


def downgrade() -> None:
    """Drop the table and every account in it."""
    op.execute("DROP TABLE users")
    op.execute("DROP FUNCTION users_before_update()")
