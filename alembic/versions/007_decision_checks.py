"""Constraints on decided candidates.

Why: an approved candidate without a provider, or one provider for two candidates, is a supplier created twice or not at
all; no statement may store that, not even a manual one. The checks apply to new rows at once and are then validated
without blocking writes.
"""

from __future__ import annotations

from alembic import op

from provider_registration.db.index_builds import building_indexes

revision = "007_decision_checks"
down_revision = "006_approval_intents"
branch_labels = None
depends_on = None

CHECKS = {
    "ck_candidates_approved_has_provider": "(status = 'approved') = (provider_id IS NOT NULL)",
    "ck_candidates_provider_id": "provider_id >= 1",  # the type's maximum is 2147483647
    "ck_candidates_reason_only_when_rejected": "rejection_reason IS NULL OR status = 'rejected'",
    "ck_candidates_company_name_trimmed": "company_name <> '' AND company_name = btrim(company_name)",
}

# The migration does not guess which half of a contradiction is correct.
REFUSE_CONTRADICTIONS = """
    DO $$
    DECLARE
        contradictions bigint;
        condition constant text := $c$(status = 'approved') <> (provider_id IS NOT NULL)
            OR provider_id < 1
            OR provider_id IN (SELECT provider_id FROM candidates GROUP BY provider_id HAVING count(*) > 1)
            OR (rejection_reason IS NOT NULL AND status <> 'rejected')
            OR company_name = '' OR company_name <> btrim(company_name)$c$;
    BEGIN
        EXECUTE 'SELECT count(*) FROM candidates WHERE ' || condition INTO contradictions;
        IF contradictions > 0 THEN
            RAISE EXCEPTION '% candidate(s) contradict themselves or each other; find them with: %',
                contradictions,
                'SELECT id, status, provider_id, rejection_reason, company_name FROM candidates WHERE '
                    || regexp_replace(condition, '\\s+', ' ', 'g') || ';';
        END IF;
    END
    $$
"""


def upgrade() -> None:
    """Add the checks, unless stored rows break them."""
    op.execute(REFUSE_CONTRADICTIONS)
    with op.get_context().autocommit_block():
        with building_indexes():
            # An interrupted run may have left an invalid index.
            op.execute("DROP INDEX CONCURRENTLY IF EXISTS uq_candidates_provider_id")
            op.execute("""
                CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS uq_candidates_provider_id ON candidates (provider_id)
            """)
        for name, condition in CHECKS.items():
            op.execute(f"""
                ALTER TABLE candidates
                    -- squawk-ignore ban-drop-constraint
                    DROP CONSTRAINT IF EXISTS {name},
                    ADD CONSTRAINT {name} CHECK ({condition}) NOT VALID
            """)
        for name in CHECKS:
            op.execute(f"ALTER TABLE candidates VALIDATE CONSTRAINT {name}")


def downgrade() -> None:
    """Drop the constraints."""
    for name in CHECKS:
        op.execute(f"ALTER TABLE candidates DROP CONSTRAINT {name}")
    op.execute("DROP INDEX uq_candidates_provider_id")
