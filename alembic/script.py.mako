"""${message}.

Why: say here what is wrong without this change, and why it is safe on a table in use.
"""

from __future__ import annotations

import sqlalchemy as sa

from alembic import op
${imports if imports else ""}
revision = "${up_revision}"
down_revision = ${'"%s"' % down_revision if down_revision else None}
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Say what changes."""
    ${upgrades if upgrades else "pass"}


def downgrade() -> None:
    """Say what older code gets back, and what is lost."""
    ${downgrades if downgrades else "pass"}
