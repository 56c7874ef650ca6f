"""The SQL of audit events. Statements of auth and privacy write their own."""

from __future__ import annotations

from sqlalchemy import text

# Record an act of staff.
RECORD = text("""
    INSERT INTO audit_events (type, actor_kind, actor_id, subject_kind, subject_id, data)
    VALUES (:type, :actor_kind, :actor_id, :subject_kind, :subject_id, CAST(CAST(:data AS text) AS jsonb))
""")
