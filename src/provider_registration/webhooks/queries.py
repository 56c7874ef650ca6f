"""The SQL of webhooks."""

from __future__ import annotations

from sqlalchemy import text

from provider_registration.db.statements import statement

# given_up_at: the failure for which the service disabled it is the last one, since nothing more is sent.
WEBHOOK = """
    id, url, types, description, disabled_reason, failing_since,
    CASE WHEN previous_secret_expires_at > clock_timestamp() THEN previous_secret_expires_at END
        AS previous_secret_expires_at,
    CASE WHEN disabled_reason <> 'staff' THEN last_failure_at END AS given_up_at,
    replay_since, created_at, updated_at
"""

# A subscription of the dispatcher: queue the events at the positions :first to :last for each webhook. Their times do
# not matter: a replay leaves out events without a position, so each of those has to be queued here.
SUBSCRIBE = text("""
    INSERT INTO deliveries (kind, target, event_id)
    SELECT 'webhook', CAST(webhooks.id AS text), event.id
    FROM event_positions
    JOIN candidate_events AS event ON event.id = event_positions.event_id
    JOIN webhooks ON webhooks.disabled_reason IS NULL
                 AND (webhooks.types = '{}' OR event.type = ANY(webhooks.types))
    WHERE event_positions.position BETWEEN :first AND :last
    ON CONFLICT DO NOTHING
""")

# Serialise the creation of webhooks, so that their number stays limited; readers are not affected.
LOCK_WEBHOOKS = text("LOCK TABLE webhooks IN SHARE ROW EXCLUSIVE MODE")

COUNT_WEBHOOKS = text("SELECT count(*) FROM webhooks")

# Add a webhook; its ID is part of its encrypted secret.
INSERT_WEBHOOK = statement(
    """
    INSERT INTO webhooks (id, url, types, description, secret)
    VALUES (:webhook_id, :url, :types, :description, :secret)
    RETURNING {webhook}
    """,
    webhook=WEBHOOK,
)

# All webhooks, oldest first.
LIST_WEBHOOKS = statement("SELECT {webhook} FROM webhooks ORDER BY created_at, id", webhook=WEBHOOK)

FIND_WEBHOOK = statement("SELECT {webhook} FROM webhooks WHERE id = :webhook_id", webhook=WEBHOOK)

LOCK_WEBHOOK = statement("SELECT {webhook} FROM webhooks WHERE id = :webhook_id FOR NO KEY UPDATE", webhook=WEBHOOK)

# Change the fields that are not NULL. Enabling forgets earlier failures and the reason; disabling one that is already
# disabled keeps its reason.
UPDATE_WEBHOOK = statement(
    """
    UPDATE webhooks
    SET url = coalesce(:url, url),
        types = coalesce(CAST(:types AS text[]), types),
        description = coalesce(:description, description),
        disabled_reason = CASE CAST(:enabled AS boolean)
            WHEN true THEN NULL WHEN false THEN coalesce(disabled_reason, 'staff') ELSE disabled_reason END,
        failing_since = CASE WHEN :enabled THEN NULL ELSE failing_since END,
        last_failure_at = CASE WHEN :enabled THEN NULL ELSE last_failure_at END,
        warned_at = CASE WHEN :enabled THEN NULL ELSE warned_at END,
        updated_at = clock_timestamp()
    WHERE id = :webhook_id
    RETURNING {webhook}
    """,
    webhook=WEBHOOK,
)

DELETE_WEBHOOK = text("DELETE FROM webhooks WHERE id = :webhook_id RETURNING url")

# Replace the secret; for a while, messages are also signed with the old one.
ROTATE_SECRET = statement(
    """
    UPDATE webhooks
    SET secret = :secret,
        previous_secret = CAST(:previous_secret AS bytea),
        previous_secret_expires_at = CASE
            WHEN CAST(:previous_secret AS bytea) IS NOT NULL THEN clock_timestamp() + make_interval(hours => :hours)
        END,
        updated_at = clock_timestamp()
    WHERE id = :webhook_id
    RETURNING {webhook}
    """,
    webhook=WEBHOOK,
)

# The encrypted secret, locked until the transaction ends.
LOCK_SECRET = text("SELECT secret FROM webhooks WHERE id = :webhook_id FOR UPDATE")

# What one attempt needs; no row if the webhook was deleted.
FIND_DESTINATION = text("""
    SELECT url, secret, failing_since IS NOT NULL AS is_failing, disabled_reason IS NULL AS is_enabled,
           CASE WHEN previous_secret_expires_at > clock_timestamp() THEN previous_secret END AS previous_secret
    FROM webhooks
    WHERE id = :webhook_id
""")

# The candidate as it was after its event number :sequence: by the last decision until then or, if old events were
# removed and no decision followed, by the candidate itself. Erasure rejects those that are pending. No row: pending.
FIND_DECISION = text("""
    WITH logged AS (
        SELECT event.type, CAST(event.data ->> 'provider_id' AS integer) AS provider_id, positions.sequence,
               positions.sequence <= :sequence IS TRUE AS is_earlier -- those without a position are later
        FROM candidate_events AS event
        LEFT JOIN event_positions AS positions ON positions.event_id = event.id
        WHERE event.candidate_id = :candidate_id
          AND event.type IN ('candidate.approved', 'candidate.rejected', 'candidate.erased')
    ), decided AS (
        SELECT 1 AS rank, -sequence AS last, replace(type, 'candidate.', '') AS status, provider_id
        FROM logged
        WHERE is_earlier AND type <> 'candidate.erased'
        UNION ALL
        SELECT 2, 0, status, provider_id
        FROM candidates
        JOIN pruned_sequences ON pruned_sequences.candidate_id = candidates.id
        WHERE id = :candidate_id
          AND NOT EXISTS (SELECT FROM logged WHERE NOT is_earlier AND type <> 'candidate.erased')
        UNION ALL
        SELECT 3, 0, 'rejected', NULL
        FROM logged
        WHERE is_earlier AND type = 'candidate.erased'
    )
    SELECT status, provider_id FROM decided ORDER BY rank, last LIMIT 1
""")

# The targets of deliveries.
LIST_TARGETS = text("SELECT CAST(id AS text) AS target, disabled_reason IS NULL AS is_enabled FROM webhooks")

# The last attempt succeeded. One that was still under way when the webhook was disabled changes nothing.
RECORD_SUCCESS = text("""
    UPDATE webhooks SET failing_since = NULL, last_failure_at = NULL, warned_at = NULL
    WHERE id = :webhook_id AND failing_since IS NOT NULL AND disabled_reason IS NULL
""")

# An attempt failed. A pause of :gap_seconds without attempts starts a new period of failures. Staff are warned once in
# each period, and the webhook is disabled only long after the warning. An audit event records that it was disabled, and
# each of the :recipients gets an e-mail about the warning and the end. Returns what has just happened.
RECORD_FAILURE = text("""
    WITH before AS MATERIALIZED (
        SELECT id, warned_at,
               CASE WHEN last_failure_at > clock_timestamp() - make_interval(secs => :gap_seconds)
                    THEN failing_since ELSE clock_timestamp() END AS failing_since,
               last_failure_at > clock_timestamp() - make_interval(secs => :gap_seconds) AS goes_on
        FROM webhooks
        WHERE id = :webhook_id AND disabled_reason IS NULL
        FOR NO KEY UPDATE
    ), decided AS (
        SELECT id, failing_since,
               CASE WHEN goes_on THEN warned_at END AS warned_before,
               failing_since <= clock_timestamp() - make_interval(secs => :warning_seconds) AS is_warned,
               CASE WHEN :is_gone THEN 'gone'
                    WHEN goes_on AND failing_since <= clock_timestamp() - make_interval(secs => :disabling_seconds)
                         AND warned_at <= clock_timestamp() - make_interval(secs => :notice_seconds) THEN 'failing'
               END AS disabled_reason
        FROM before
    ), noted AS (
        UPDATE webhooks
        SET failing_since = decided.failing_since,
            last_failure_at = clock_timestamp(),
            warned_at = coalesce(decided.warned_before, CASE WHEN decided.is_warned THEN clock_timestamp() END),
            disabled_reason = decided.disabled_reason,
            updated_at = CASE WHEN decided.disabled_reason IS NULL THEN updated_at ELSE clock_timestamp() END
        FROM decided
        WHERE webhooks.id = decided.id
        RETURNING webhooks.id, webhooks.failing_since, webhooks.disabled_reason,
                  decided.is_warned AND decided.warned_before IS NULL AS is_new_warning
    ), recorded AS (
        INSERT INTO audit_events (type, actor_kind, subject_kind, subject_id, data)
        SELECT 'webhook.disabled', 'service', 'webhook', id, jsonb_build_object('reason', disabled_reason)
        FROM noted
        WHERE disabled_reason IS NOT NULL
    ), mailed AS (
        INSERT INTO deliveries (kind, target, data)
        SELECT 'email', 'staff:' || recipient, jsonb_build_object('webhook_id', id, 'disabled_reason', disabled_reason)
        FROM noted
        CROSS JOIN generate_series(1, :recipients) AS recipient
        WHERE disabled_reason IS NOT NULL OR is_new_warning
    )
    SELECT failing_since, disabled_reason, is_new_warning FROM noted
""")

# Wait until no dispatcher is at work: the next one sees what was committed before.
AWAIT_DISPATCHER = text("SELECT FROM event_dispatcher FOR KEY SHARE")

# Start to queue all events since :since once more; a replay that has passed this time goes back to it.
START_REPLAY = statement(
    """
    UPDATE webhooks
    SET replay_since = least(replay_since, CAST(:since AS timestamptz)),
        replay_at = least(replay_at, CAST(:since AS timestamptz)),
        replay_id = CASE WHEN replay_at < CAST(:since AS timestamptz) THEN replay_id ELSE 0 END,
        replay_until = clock_timestamp(),
        updated_at = clock_timestamp()
    WHERE id = :webhook_id
    RETURNING {webhook}
    """,
    webhook=WEBHOOK,
)

# Queue the next events of one replay once more, whatever became of them, except those that are being sent or have no
# position yet: at most :batch, and none while so many are due, since new events wait behind them. At most :scan are
# read. Returns whether the replay goes on; no row if there is none, or all have to wait.
REPLAY = text("""
    WITH replay AS MATERIALIZED (
        SELECT id, types, replay_at, replay_id, replay_until
        FROM webhooks
        WHERE replay_since IS NOT NULL
          AND disabled_reason IS NULL
          AND (
              SELECT count(*)
              FROM (
                  SELECT FROM deliveries
                  WHERE kind = 'webhook'
                    AND target = CAST(webhooks.id AS text)
                    AND state IN ('pending', 'delivering')
                    AND next_attempt_at <= now()
                  LIMIT :batch
              ) AS due
          ) < :batch
        ORDER BY random()
        LIMIT 1
        FOR NO KEY UPDATE SKIP LOCKED
    ), scanned AS MATERIALIZED (
        SELECT replay.id AS webhook_id, event.id, event.at, event.wanted,
               count(*) FILTER (WHERE event.wanted) OVER (ORDER BY event.at, event.id) AS number
        FROM replay
        CROSS JOIN LATERAL (
            SELECT id, at, replay.types = '{}' OR type = ANY(replay.types) AS wanted
            FROM candidate_events
            WHERE (at, id) > (replay.replay_at, replay.replay_id) AND at <= replay.replay_until
            ORDER BY at, id
            LIMIT :scan
        ) AS event
    ), batch AS (
        SELECT webhook_id, id, at, wanted FROM scanned WHERE number <= :batch
    ), queued AS (
        INSERT INTO deliveries (kind, target, event_id)
        SELECT 'webhook', CAST(webhook_id AS text), batch.id
        FROM batch
        JOIN event_positions ON event_positions.event_id = batch.id
        WHERE wanted
        ORDER BY batch.at, batch.id
        ON CONFLICT (event_id, kind, target) DO UPDATE
        SET state = 'pending', attempts = 0, queued_at = clock_timestamp(), next_attempt_at = clock_timestamp(),
            last_error = NULL, last_status = NULL, updated_at = clock_timestamp()
        WHERE deliveries.state <> 'delivering'
    ), last AS (
        SELECT at, id FROM batch ORDER BY at DESC, id DESC LIMIT 1
    ), progress AS (
        SELECT replay.id AS webhook_id, last.at, last.id,
               (SELECT count(*) = :scan OR max(number) > :batch FROM scanned) AS goes_on
        FROM replay
        LEFT JOIN last ON true
    )
    UPDATE webhooks
    SET replay_since = CASE WHEN goes_on THEN replay_since END,
        replay_at = CASE WHEN goes_on THEN progress.at END,
        replay_id = CASE WHEN goes_on THEN progress.id END,
        replay_until = CASE WHEN goes_on THEN replay_until END
    FROM progress
    WHERE webhooks.id = progress.webhook_id
    RETURNING goes_on
""")

# Delete secrets that are not used any more.
FORGET_PREVIOUS_SECRETS = text("""
    UPDATE webhooks SET previous_secret = NULL, previous_secret_expires_at = NULL
    WHERE previous_secret_expires_at <= clock_timestamp()
""")

# Secrets that are not sealed with the key whose ID is :key_id.
LOCK_OLD_SECRETS = text("""
    SELECT webhooks.id, secret, previous_secret
    FROM webhooks, (SELECT CAST(:key_id AS bytea) AS id) AS key
    WHERE substr(secret, 1, length(key.id)) <> key.id OR substr(previous_secret, 1, length(key.id)) <> key.id
    FOR UPDATE OF webhooks SKIP LOCKED
""")

REPLACE_SECRETS = text("""
    UPDATE webhooks SET secret = :secret, previous_secret = :previous_secret WHERE id = :webhook_id
""")

# For the metrics: the number of webhooks in each state, and how long the one that has failed longest has been failing.
SUMMARISE = text("""
    SELECT count(*) FILTER (WHERE disabled_reason IS NULL AND failing_since IS NULL) AS working,
           count(*) FILTER (WHERE disabled_reason IS NULL AND failing_since IS NOT NULL) AS failing,
           count(*) FILTER (WHERE disabled_reason = 'staff') AS disabled,
           count(*) FILTER (WHERE disabled_reason IN ('gone', 'failing')) AS given_up,
           CAST(coalesce(extract(epoch FROM clock_timestamp() - min(failing_since)
                         FILTER (WHERE disabled_reason IS NULL)), 0) AS float8) AS failing_seconds
    FROM webhooks
""")
