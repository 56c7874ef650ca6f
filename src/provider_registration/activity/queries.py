"""The SQL that reads both logs as one, newest first.

Every statement reads at most :limit rows of each index range that it needs, whatever the size of the logs. Events are
ordered by time, and at the same time by twice their ID, plus one for audit events; :before, :before_id and
:before_audit_id limit each log accordingly. Types that only a later release knows are left out.
"""

from __future__ import annotations

from sqlalchemy import DateTime, TextClause, bindparam, text

from provider_registration.db.statements import statement

_AUDIT = "id, type, at, actor_kind, actor_id, subject_kind, subject_id, CAST(NULL AS integer) AS version, data"
_CANDIDATE = "id, type, at, actor_kind, actor_id, 'candidate', candidate_id, version, data"

# Of each log, in the order of the index on the time.
_NEWEST = """
    (SELECT true AS is_audit, {audit}
     FROM audit_events
     WHERE at >= :since AND (at, id) < (:before, :before_audit_id) AND type = ANY(:audit_types)
           AND cardinality(CAST(:audit_types AS text[])) > 0 -- else PostgreSQL would read all
     ORDER BY at DESC, id DESC
     LIMIT :limit)
    UNION ALL
    (SELECT false, {candidate}
     FROM candidate_events
     WHERE at >= :since AND (at, id) < (:before, :before_id) AND type = ANY(:candidate_types)
     ORDER BY at DESC, id DESC
     LIMIT :limit)
"""

# Of each type in each log, in the order of an index that begins with {keys}. Without equality, only this index has this
# order, so PostgreSQL takes no other, which it would read to its end for a rare type. The rows wanted come first, and
# others are left out after the limit: for a lower bound of rows, PostgreSQL before 18 would read on to the index's end.
_OF_EACH_TYPE = """
    SELECT true AS is_audit, event.*
    FROM (
        SELECT key.id AS found_id
        FROM unnest(CAST(:audit_types AS text[])) AS known (name)
        CROSS JOIN LATERAL (
            SELECT {keys}, at, id
            FROM audit_events
            WHERE ({keys}, at, id) < ({values}, :before, :before_audit_id) AND {of_index}
            ORDER BY {descending}, at DESC, id DESC
            LIMIT :limit
        ) AS key
        WHERE ({keys}) = ({values}) AND key.at >= :since
        ORDER BY key.at DESC, key.id DESC
        LIMIT :limit
    ) AS found
    CROSS JOIN LATERAL (SELECT {audit} FROM audit_events WHERE id = found_id LIMIT 1) AS event
    UNION ALL
    SELECT false, event.*
    FROM (
        SELECT key.id AS found_id
        FROM unnest(CAST(:candidate_types AS text[])) AS known (name)
        CROSS JOIN LATERAL (
            SELECT {keys}, at, id
            FROM candidate_events
            WHERE ({keys}, at, id) < ({values}, :before, :before_id) AND {of_index}
            ORDER BY {descending}, at DESC, id DESC
            LIMIT :limit
        ) AS key
        WHERE ({keys}) = ({values}) AND key.at >= :since
        ORDER BY key.at DESC, key.id DESC
        LIMIT :limit
    ) AS found
    CROSS JOIN LATERAL (SELECT {candidate} FROM candidate_events WHERE id = found_id LIMIT 1) AS event
"""

_PAGE = """
    WITH page AS (
        SELECT found.* FROM ({found}) AS found
        ORDER BY at DESC, id DESC, is_audit DESC
        LIMIT :limit
    )
    SELECT page.is_audit, page.id, page.type, page.at, page.actor_kind, page.actor_id,
           coalesce(actor.email, acting_key.name) AS actor_name, page.subject_kind, page.subject_id,
           coalesce(person.email, api_key.name, candidates.company_name) AS subject_name,
           page.version, CAST(page.data AS text) AS data, details.details ->> 'error' AS error
    FROM page
    LEFT JOIN users AS actor ON page.actor_kind = 'user' AND actor.id = page.actor_id
    LEFT JOIN api_keys AS acting_key ON page.actor_kind = 'api_key' AND acting_key.id = page.actor_id
    LEFT JOIN users AS person ON page.subject_kind = 'user' AND person.id = page.subject_id
    LEFT JOIN api_keys AS api_key ON page.subject_kind = 'api_key' AND api_key.id = page.subject_id
    LEFT JOIN candidates ON page.subject_kind = 'candidate' AND candidates.id = page.subject_id
    LEFT JOIN candidate_event_details AS details ON NOT page.is_audit AND details.event_id = page.id
    ORDER BY page.at DESC, page.id DESC, page.is_audit DESC
"""


def _page(found: str, **filters: str) -> TextClause:
    return statement(_PAGE.replace("{found}", found), audit=_AUDIT, candidate=_CANDIDATE, **filters).bindparams(
        *(bindparam(name, type_=DateTime(timezone=True)) for name in ("since", "before"))
    )


# All events, or those of a few common types.
PAGE_OF_NEWEST = _page(_NEWEST)
# Of some types, except registrations, which the index does not have.
PAGE_OF_TYPES = _page(
    _OF_EACH_TYPE,
    keys="type",
    values="known.name",
    descending="type DESC",
    of_index="type <> 'candidate.registered'",
)
# Of an actor, of some types.
PAGE_OF_ACTOR = _page(
    _OF_EACH_TYPE,
    keys="actor_id, type",
    values="CAST(:actor AS uuid), known.name",
    descending="actor_id DESC, type DESC",
    of_index="actor_id IS NOT NULL",
)

# Everybody who can be the actor of an event: users, in the order of their e-mail addresses, then API keys.
LIST_ACTORS = text("""
    SELECT id, name
    FROM (
        (SELECT 1 AS position, id, email AS name FROM users ORDER BY email, id LIMIT :limit)
        UNION ALL
        (
            SELECT 2, id, name || ' (API key ' || prefix || '…)'
            FROM api_keys
            WHERE last_used_at IS NOT NULL
            ORDER BY created_at DESC, id
            LIMIT :limit
        )
    ) AS actors
    ORDER BY position, name, id
""")

# Delete old events in a batch, and count them; PostgreSQL deletes none younger than the owner allows.
PRUNE = text("SELECT prune_events(:days, :batch)")
