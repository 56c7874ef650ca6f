"""The SQL of the position up to which events are published."""

from __future__ import annotations

from sqlalchemy import text

# The age in seconds of the oldest event that is not published, NULL if all are; no row before the first start.
# A position after the last one is from before the events were numbered again: start again too. Events after a position
# in use are not removed.
FIND_AGE = text("""
    WITH used AS (
        UPDATE broker_positions SET used_at = clock_timestamp()
        WHERE name = :name AND used_at < clock_timestamp() - interval '1 hour'
    )
    SELECT extract(epoch FROM clock_timestamp() - oldest.at) AS seconds
    FROM broker_positions AS broker
    CROSS JOIN event_dispatcher
    LEFT JOIN LATERAL (
        SELECT event.at
        FROM event_positions
        JOIN candidate_events AS event ON event.id = event_positions.event_id
        WHERE event_positions.position >
              CASE WHEN broker.position > event_dispatcher.last_position THEN 0 ELSE broker.position END
        ORDER BY event_positions.position
        LIMIT 1
    ) AS oldest ON true
    WHERE broker.name = :name
""")

# Begin with the next event.
ADD_POSITION = text("""
    INSERT INTO broker_positions (name, position)
    SELECT :name, last_position FROM event_dispatcher
    ON CONFLICT DO NOTHING
""")

# Lease the position; no row if another process holds it. is_pruned: events after it were deleted.
CLAIM_POSITION = text("""
    WITH free AS (
        SELECT name
        FROM broker_positions
        WHERE name = :name AND (holder = :holder OR lease_ends_at IS NULL OR lease_ends_at <= clock_timestamp())
        FOR UPDATE SKIP LOCKED
    )
    UPDATE broker_positions AS broker
    SET holder = :holder, lease_ends_at = clock_timestamp() + make_interval(secs => :lease_seconds),
        position = CASE WHEN broker.position > event_dispatcher.last_position THEN 0 ELSE broker.position END
    FROM free, event_dispatcher
    WHERE broker.name = free.name
    RETURNING broker.position, event_dispatcher.pruned_position > broker.position AS is_pruned
""")

# Events of every type, also of those that only a later release knows.
READ_EVENTS = text("""
    SELECT positions.position, positions.sequence, event.id, event.candidate_id, event.type, event.at, event.version,
           CAST(event.data AS text) AS data
    FROM event_positions AS positions
    JOIN candidate_events AS event ON event.id = positions.event_id
    WHERE positions.position > :position
    ORDER BY positions.position
    LIMIT :limit
""")

# Move the position and end the lease, unless another process has it now.
RELEASE_POSITION = text("""
    UPDATE broker_positions
    SET position = :position, holder = NULL, lease_ends_at = NULL
    WHERE name = :name AND holder = :holder
""")
