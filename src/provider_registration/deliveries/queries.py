"""The SQL of deliveries. Subscriptions of the dispatcher insert them."""

from __future__ import annotations

from sqlalchemy import text

# Targets of a kind with a message that is due, the one that waited longest first. Each target costs one look into the
# index, however many messages wait for it.
LIST_DUE_TARGETS = text("""
    WITH RECURSIVE targets AS (
        (
            SELECT target, next_attempt_at
            FROM deliveries
            WHERE kind = :kind AND state IN ('pending', 'delivering')
            ORDER BY target, next_attempt_at
            LIMIT 1
        )
        UNION ALL
        SELECT following.*
        FROM targets
        CROSS JOIN LATERAL (
            SELECT target, next_attempt_at
            FROM deliveries
            WHERE kind = :kind AND state IN ('pending', 'delivering') AND target > targets.target
            ORDER BY target, next_attempt_at
            LIMIT 1
        ) AS following
    )
    SELECT target
    FROM targets
    WHERE next_attempt_at <= clock_timestamp()
    ORDER BY next_attempt_at
    LIMIT :limit
""")

# Lease messages that are due, and those whose lease ended: the process that held them may have crashed.
CLAIM_DELIVERIES = text("""
    WITH due AS (
        SELECT id
        FROM deliveries
        WHERE kind = :kind
          AND target = :target
          AND state IN ('pending', 'delivering')
          AND next_attempt_at <= clock_timestamp()
        ORDER BY next_attempt_at
        LIMIT :limit
        FOR UPDATE SKIP LOCKED
    ), claimed AS (
        UPDATE deliveries
        SET state = 'delivering', attempts = attempts + 1, updated_at = clock_timestamp(),
            next_attempt_at = clock_timestamp() + make_interval(secs => :lease_seconds)
        FROM due
        WHERE deliveries.id = due.id
        RETURNING deliveries.*
    )
    SELECT claimed.id, claimed.kind, claimed.target, claimed.attempts, claimed.next_attempt_at AS lease_ends_at,
           claimed.created_at, CAST(claimed.data AS text) AS data, claimed.event_id, event.type, event.at,
           event.candidate_id, event.version, positions.sequence, CAST(event.data AS text) AS event_data
    FROM claimed
    LEFT JOIN candidate_events AS event ON event.id = claimed.event_id
    LEFT JOIN event_positions AS positions ON positions.event_id = claimed.event_id
    ORDER BY claimed.id
""")

# Record the outcome of an attempt, unless its lease ended and another process took it over.
RECORD_OUTCOME = text("""
    UPDATE deliveries
    SET state = CAST(:state AS text), last_status = :status, last_error = :error, updated_at = clock_timestamp(),
        next_attempt_at = CASE
            WHEN CAST(:state AS text) = 'pending' THEN clock_timestamp() + make_interval(secs => :retry_after)
        END
    WHERE id = :delivery_id AND state = 'delivering' AND next_attempt_at = :lease_ends_at
""")

# The state before; no row without the delivery. Delivered ones stay as they are, and so do those under way until their
# lease ends, and those to a deleted webhook.
RETRY_DELIVERY = text("""
    WITH before AS (
        SELECT id, kind, state, state = 'delivering' AND next_attempt_at > clock_timestamp() AS is_in_progress,
               kind = 'webhook' AND NOT EXISTS (SELECT FROM webhooks WHERE CAST(webhooks.id AS text) = target)
                   AS is_without_target
        FROM deliveries
        WHERE id = :delivery_id
        FOR UPDATE
    ), retried AS (
        UPDATE deliveries
        SET state = 'pending', attempts = 0, next_attempt_at = clock_timestamp(), updated_at = clock_timestamp()
        FROM before
        WHERE deliveries.id = before.id
          AND before.state <> 'delivered'
          AND NOT is_in_progress
          AND NOT is_without_target
    )
    SELECT kind, state, is_in_progress, is_without_target FROM before
""")

# Newest first, before the delivery :before if it is not NULL; filters that are NULL do not apply.
LIST_DELIVERIES = text("""
    SELECT deliveries.id, deliveries.kind, target, event_id, event.type AS event_type, event.candidate_id, state,
           attempts, next_attempt_at, last_status, last_error, created_at, updated_at
    FROM deliveries
    LEFT JOIN candidate_events AS event ON event.id = deliveries.event_id
    WHERE (CAST(:kind AS text) IS NULL OR kind = :kind)
      AND (CAST(:target AS text) IS NULL OR target = :target)
      AND (CAST(:state AS text) IS NULL OR state = :state)
      AND (CAST(:before AS bigint) IS NULL OR deliveries.id < :before)
    ORDER BY deliveries.id DESC
    LIMIT :limit
""")

# The age in seconds of the oldest message of each kind that is still being tried; 0 if there is none.
FIND_OLDEST = text("""
    SELECT kind, coalesce(extract(epoch FROM clock_timestamp() - (
               SELECT created_at FROM deliveries
               WHERE deliveries.kind = kinds.kind AND state IN ('pending', 'delivering')
               ORDER BY id
               LIMIT 1
           )), 0) AS seconds
    FROM unnest(CAST(:kinds AS text[])) AS kinds (kind)
""")

# Delete some that have ended and have not changed for :days days.
PRUNE_DELIVERIES = text("""
    DELETE FROM deliveries
    WHERE id IN (
        SELECT id
        FROM deliveries
        WHERE updated_at < clock_timestamp() - make_interval(days => :days)
          AND state NOT IN ('pending', 'delivering')
        ORDER BY updated_at
        LIMIT :limit
    )
""")
