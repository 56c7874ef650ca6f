"""The SQL of events. The statements that change candidates write them."""

from __future__ import annotations

from sqlalchemy import text

# Some events of a candidate, newest first, after the event :after if it is not NULL; no row without the candidate.
# Types that only a later release knows are left out.
LIST_EVENTS = text("""
    SELECT event.id, event.type, event.at, event.actor_kind, event.actor_id, users.email AS actor_name, event.version,
           CAST(event.data AS text) AS data, details.details ->> 'error' AS error
    FROM candidates
    LEFT JOIN candidate_events AS event
        ON event.candidate_id = candidates.id
       AND event.type = ANY(:types)
       AND (CAST(:after AS bigint) IS NULL
            OR (event.at, event.id) < (
                SELECT last.at, last.id
                FROM candidate_events AS last
                WHERE last.id = :after AND last.candidate_id = :candidate_id
            ))
    LEFT JOIN candidate_event_details AS details ON details.event_id = event.id
    LEFT JOIN users ON event.actor_kind = 'user' AND users.id = event.actor_id
    WHERE candidates.id = :candidate_id
    ORDER BY event.at DESC, event.id DESC
    LIMIT :limit
""")
