"""SQL that reads events. The statements that change candidates write them."""

from __future__ import annotations

from sqlalchemy import text

# Some events of a candidate, newest first, before the event :before if it is not NULL; no row without the candidate.
# Types that only a later release knows are left out.
LIST_EVENTS = text("""
    SELECT event.id, event.type, event.at, event.actor_kind, event.actor_id,
           coalesce(users.email, api_keys.name) AS actor_name, event.version, CAST(event.data AS text) AS data,
           details.details ->> 'error' AS error, positions.sequence
    FROM candidates
    LEFT JOIN candidate_events AS event
        ON event.candidate_id = candidates.id
       AND event.type = ANY(:types)
       AND (CAST(:before AS bigint) IS NULL
            OR (event.at, event.id) < (
                SELECT last.at, last.id
                FROM candidate_events AS last
                WHERE last.id = :before AND last.candidate_id = :candidate_id
            ))
    LEFT JOIN event_positions AS positions ON positions.event_id = event.id
    LEFT JOIN candidate_event_details AS details ON details.event_id = event.id
    LEFT JOIN users ON event.actor_kind = 'user' AND users.id = event.actor_id
    LEFT JOIN api_keys ON event.actor_kind = 'api_key' AND api_keys.id = event.actor_id
    WHERE candidates.id = :candidate_id
    ORDER BY event.at DESC, event.id DESC
    LIMIT :limit
""")

# The same for each of some candidates, numbered from 1 in their order.
LIST_EVENTS_OF_MANY = text("""
    SELECT wanted.number, event.*
    FROM unnest(CAST(:candidate_ids AS uuid[]), CAST(:befores AS bigint[]), CAST(:limits AS integer[]))
        WITH ORDINALITY AS wanted (candidate_id, before, most, number)
    CROSS JOIN LATERAL (
        SELECT event.id, event.type, event.at, event.actor_kind, event.actor_id,
               coalesce(users.email, api_keys.name) AS actor_name, event.version, CAST(event.data AS text) AS data,
               details.details ->> 'error' AS error, positions.sequence
        FROM candidate_events AS event
        LEFT JOIN event_positions AS positions ON positions.event_id = event.id
        LEFT JOIN candidate_event_details AS details ON details.event_id = event.id
        LEFT JOIN users ON event.actor_kind = 'user' AND users.id = event.actor_id
        LEFT JOIN api_keys ON event.actor_kind = 'api_key' AND api_keys.id = event.actor_id
        WHERE event.candidate_id = wanted.candidate_id
          AND event.type = ANY(:types)
          AND (wanted.before IS NULL
               OR (event.at, event.id) < (
                   SELECT last.at, last.id
                   FROM candidate_events AS last
                   WHERE last.id = wanted.before AND last.candidate_id = wanted.candidate_id
               ))
        ORDER BY event.at DESC, event.id DESC
        LIMIT wanted.most
    ) AS event
    ORDER BY wanted.number, event.at DESC, event.id DESC
""")

# In the order of its index: the table may begin with many events that were taken.
HAS_QUEUED_EVENTS = text("SELECT (SELECT event_id FROM event_queue ORDER BY event_id LIMIT 1) IS NOT NULL")

# The last position; no row if another transaction is giving positions.
LOCK_DISPATCHER = text("SELECT last_position FROM event_dispatcher FOR UPDATE SKIP LOCKED")

# Give queued events the positions after :last; return how many were taken from the queue, and how many got a position.
# Events of one candidate have IDs in the order of their commits: a transaction that writes one locks the candidate.
NUMBER_EVENTS = text("""
    WITH taken AS (
        DELETE FROM event_queue
        WHERE event_id IN (SELECT event_id FROM event_queue ORDER BY event_id LIMIT :limit)
        RETURNING event_id
    ), numbered AS (
        INSERT INTO event_positions (position, event_id, candidate_id, sequence)
        SELECT CAST(:last AS bigint) + row_number() OVER (ORDER BY event.id), event.id, event.candidate_id,
               row_number() OVER (PARTITION BY event.candidate_id ORDER BY event.id) + greatest(
                   (
                       SELECT max(earlier.sequence) FROM event_positions AS earlier
                       WHERE earlier.candidate_id = event.candidate_id
                   ),
                   (SELECT sequence FROM pruned_sequences WHERE candidate_id = event.candidate_id),
                   0
               )
        FROM taken
        JOIN candidate_events AS event ON event.id = taken.event_id
        RETURNING position
    ), counted AS (
        SELECT (SELECT count(*) FROM taken) AS taken, (SELECT count(*) FROM numbered) AS numbered
    ), moved AS (
        UPDATE event_dispatcher SET last_position = last_position + numbered FROM counted WHERE numbered > 0
    )
    SELECT taken, numbered FROM counted
""")

# The first and last positions that readers may ask to continue after, and the last position that was read: a page
# reads at most :scan positions, so that rare types cost no more than others. One row without an event if none matches.
# Without :after, it begins after the last event that was deleted: a reader could not continue after an earlier one.
READ_FEED = text("""
    WITH scanned AS MATERIALIZED (
        SELECT position, event_id, sequence
        FROM event_positions
        WHERE position > (SELECT coalesce(CAST(:after AS bigint), pruned_position) FROM event_dispatcher)
        ORDER BY position
        LIMIT :scan
    ), matching AS (
        SELECT scanned.position, scanned.sequence, event.id, event.candidate_id, event.type, event.at,
               event.actor_kind, event.actor_id, event.version, CAST(event.data AS text) AS data
        FROM scanned
        JOIN candidate_events AS event ON event.id = scanned.event_id
        WHERE event.type = ANY(:types)
        ORDER BY scanned.position
        LIMIT :limit
    )
    SELECT matching.*, event_dispatcher.last_position, event_dispatcher.pruned_position,
           (SELECT max(position) FROM scanned) AS scanned_to
    FROM event_dispatcher
    LEFT JOIN matching ON true
    ORDER BY matching.position
""")

FIND_LAST_POSITION = text("SELECT last_position FROM event_dispatcher")
