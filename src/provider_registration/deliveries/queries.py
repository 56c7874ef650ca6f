"""The SQL of deliveries. Subscriptions of the dispatcher insert them."""

from __future__ import annotations

from sqlalchemy import text

from provider_registration.db.statements import ERASED_EMAIL, statement

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
# statement_timestamp(), because a volatile function such as clock_timestamp() cannot limit an index scan.
CLAIM_DELIVERIES = text("""
    WITH due AS (
        SELECT id
        FROM deliveries
        WHERE kind = :kind
          AND target = :target
          AND state IN ('pending', 'delivering')
          AND next_attempt_at <= statement_timestamp()
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

# Record the outcome of an attempt, unless its lease ended and another process took it over. Of a response about the
# erased candidate :candidate_id only the status is kept; FOR KEY SHARE waits for an erasure.
RECORD_OUTCOME = statement(
    """
    WITH erased AS MATERIALIZED (
        SELECT contact_email = {erased_email} AS is_erased
        FROM candidates
        WHERE id = CAST(:candidate_id AS uuid)
        FOR KEY SHARE
    )
    UPDATE deliveries
    SET state = CAST(:state AS text), last_status = CAST(:status AS integer), updated_at = clock_timestamp(),
        last_error = CASE
            WHEN (SELECT is_erased FROM erased) THEN 'status ' || CAST(:status AS integer) ELSE CAST(:error AS text)
        END,
        next_attempt_at = CASE
            WHEN CAST(:state AS text) = 'pending' THEN clock_timestamp() + make_interval(secs => :retry_after)
        END
    WHERE id = :delivery_id AND state = 'delivering' AND next_attempt_at = :lease_ends_at
    """,
    erased_email=ERASED_EMAIL,
)

# Give a claimed message back as it was before, with another error if there is one, to be claimed again later.
RELEASE_DELIVERY = text("""
    UPDATE deliveries
    SET state = 'pending', attempts = attempts - 1, last_error = coalesce(:error, last_error),
        updated_at = clock_timestamp(), next_attempt_at = clock_timestamp() + make_interval(secs => :seconds)
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
        SET state = 'pending', attempts = 0, queued_at = clock_timestamp(), next_attempt_at = clock_timestamp(),
            updated_at = clock_timestamp()
        FROM before
        WHERE deliveries.id = before.id
          AND before.state <> 'delivered'
          AND NOT is_in_progress
          AND NOT is_without_target
    )
    SELECT kind, state, is_in_progress, is_without_target FROM before
""")

# Newest first, before :before. At most :limit rows of each kind and state are read, whatever the size of the table:
# without equality, only the index that ends with the state has this order, so PostgreSQL takes no other.
_PAGE = """
    SELECT page.id, page.kind, target, event_id, event.type AS event_type, event.candidate_id, page.state,
           attempts, next_attempt_at, last_status, last_error, created_at, updated_at
    FROM (
        SELECT found.*
        FROM unnest(CAST(:kinds AS text[])) AS wanted (kind)
        CROSS JOIN unnest(CAST(:states AS text[])) AS wanted_too (state)
        CROSS JOIN LATERAL (
            SELECT id, kind, target, event_id, state, attempts, next_attempt_at, last_status, last_error, created_at,
                   updated_at
            FROM deliveries
            WHERE {which} AND state >= wanted_too.state AND state <= wanted_too.state AND id < CAST(:before AS bigint)
            ORDER BY state DESC, id DESC
            LIMIT :limit
        ) AS found
        ORDER BY id DESC
        LIMIT :limit
    ) AS page
    LEFT JOIN candidate_events AS event ON event.id = page.event_id
    ORDER BY page.id DESC
"""
LIST_DELIVERIES = statement(_PAGE, which="kind = wanted.kind")
LIST_DELIVERIES_TO = statement(_PAGE, which="kind = wanted.kind AND target = :target")

# For how many seconds the oldest message of each kind that is still being tried has been in the queue; 0 if there is
# none. Those to disabled and deleted webhooks are not tried. Each target costs one look into the index.
FIND_OLDEST = text("""
    WITH RECURSIVE oldest AS (
        SELECT first.*
        FROM unnest(CAST(:kinds AS text[])) AS kinds (kind)
        CROSS JOIN LATERAL (
            SELECT kind, target, queued_at
            FROM deliveries
            WHERE deliveries.kind = kinds.kind AND state IN ('pending', 'delivering')
            ORDER BY target, queued_at
            LIMIT 1
        ) AS first
        UNION ALL
        SELECT following.*
        FROM oldest
        CROSS JOIN LATERAL (
            SELECT kind, target, queued_at
            FROM deliveries
            WHERE deliveries.kind = oldest.kind AND state IN ('pending', 'delivering') AND target > oldest.target
            ORDER BY target, queued_at
            LIMIT 1
        ) AS following
    )
    SELECT kinds.kind, coalesce(extract(epoch FROM clock_timestamp() - min(queued_at)), 0) AS seconds
    FROM unnest(CAST(:kinds AS text[])) AS kinds (kind)
    LEFT JOIN oldest ON oldest.kind = kinds.kind
                    AND (oldest.kind <> 'webhook' OR EXISTS (
                        SELECT FROM webhooks WHERE CAST(id AS text) = oldest.target AND disabled_reason IS NULL
                    ))
    GROUP BY kinds.kind
""")

# End some to deleted webhooks, except attempts under way, which record their outcomes. Each target costs one look into
# the index.
END_WITHOUT_WEBHOOK = text("""
    WITH RECURSIVE targets AS (
        (
            SELECT target
            FROM deliveries
            WHERE kind = 'webhook' AND state IN ('pending', 'delivering')
            ORDER BY target
            LIMIT 1
        )
        UNION ALL
        SELECT following.target
        FROM targets
        CROSS JOIN LATERAL (
            SELECT target
            FROM deliveries
            WHERE kind = 'webhook' AND state IN ('pending', 'delivering') AND target > targets.target
            ORDER BY target
            LIMIT 1
        ) AS following
    ), deleted AS MATERIALIZED (
        SELECT target FROM targets WHERE NOT EXISTS (SELECT FROM webhooks WHERE CAST(webhooks.id AS text) = target)
    ), waiting AS MATERIALIZED (
        SELECT id
        FROM deleted
        CROSS JOIN LATERAL (
            SELECT id
            FROM deliveries
            WHERE kind = 'webhook'
              AND target = deleted.target
              AND state IN ('pending', 'delivering')
              AND (state = 'pending' OR next_attempt_at <= clock_timestamp())
            LIMIT :limit
            FOR UPDATE SKIP LOCKED
        ) AS found
        LIMIT :limit
    )
    UPDATE deliveries
    SET state = 'dead', last_error = :error, next_attempt_at = NULL, updated_at = clock_timestamp()
    FROM waiting
    WHERE deliveries.id = waiting.id
""")

# Delete some that have ended and have not changed for :days days.
PRUNE_DELIVERIES = text("""
    DELETE FROM deliveries
    WHERE id IN (
        SELECT id
        FROM deliveries
        WHERE updated_at < statement_timestamp() - make_interval(days => :days)
          AND state NOT IN ('pending', 'delivering')
        ORDER BY updated_at
        LIMIT :limit
    )
""")
