"""SQL for the answers kept for idempotency keys."""

from __future__ import annotations

from sqlalchemy import Integer, bindparam, text

from provider_registration.db.statements import statement
from provider_registration.idempotency.models import LIFETIME_HOURS

LIFETIME = bindparam("lifetime_hours", LIFETIME_HOURS, type_=Integer)

# Whether a row named `kept` counts. An approval may take longer than the lifetime.
LIVE = "(kept.answer IS NULL OR kept.created_at > clock_timestamp() - make_interval(hours => :lifetime_hours))"

# Lock keys until the transaction ends, without waiting, and find what is kept for them.
LOCK_KEYS = statement(
    """
    SELECT key.hash, pg_try_advisory_xact_lock(key.lock) AS is_locked,
           encode(kept.fingerprint, 'hex') AS fingerprint, kept.answer, kept.candidate_id
    FROM unnest(CAST(:hashes AS text[]), CAST(:locks AS bigint[])) AS key (hash, lock)
    LEFT JOIN idempotency_keys AS kept ON kept.key_hash = decode(key.hash, 'hex') AND {live}
    """,
    live=LIVE,
).bindparams(LIFETIME)

# Find what is kept for locked keys: the first statement does not see what was committed after it began.
FIND_KEYS = statement(
    """
    SELECT encode(kept.key_hash, 'hex') AS hash, encode(kept.fingerprint, 'hex') AS fingerprint, kept.answer,
           kept.candidate_id
    FROM idempotency_keys AS kept
    WHERE kept.key_hash IN (SELECT decode(hash, 'hex') FROM unnest(CAST(:hashes AS text[])) AS hash) AND {live}
    """,
    live=LIVE,
).bindparams(LIFETIME)

# Keep answers for locked keys, in place of expired ones.
KEEP = text("""
    INSERT INTO idempotency_keys (key_hash, fingerprint, candidate_id, answer)
    SELECT decode(hash, 'hex'), decode(fingerprint, 'hex'), candidate_id, answer
    FROM json_to_recordset(CAST(:kept AS json))
             AS kept (hash text, fingerprint text, candidate_id uuid, answer jsonb)
    ORDER BY hash
    ON CONFLICT (key_hash) DO UPDATE
    SET fingerprint = EXCLUDED.fingerprint,
        candidate_id = EXCLUDED.candidate_id,
        answer = EXCLUDED.answer,
        created_at = EXCLUDED.created_at
""")

# Give the open keys of a locked candidate their answer.
ANSWER_OPEN_KEYS = text("""
    UPDATE idempotency_keys
    SET answer = CAST(:answer AS jsonb), created_at = clock_timestamp()
    WHERE candidate_id = :candidate_id AND answer IS NULL
""")

# Forget the open keys of a locked candidate: the next request with one of them is a new one.
RELEASE_OPEN_KEYS = text("DELETE FROM idempotency_keys WHERE candidate_id = :candidate_id AND answer IS NULL")

# Delete some expired rows; those of an approval expire after the decision, and not while it is unfinished.
# statement_timestamp(), because a volatile function cannot limit an index scan.
PRUNE = text("""
    WITH expired AS (
        SELECT key_hash
        FROM idempotency_keys AS kept
        WHERE created_at <= statement_timestamp() - make_interval(hours => :lifetime_hours)
          AND (kept.answer IS NOT NULL
               OR NOT EXISTS (SELECT FROM approval_intents WHERE candidate_id = kept.candidate_id)
                  AND NOT EXISTS (
                      SELECT FROM candidates
                      WHERE id = kept.candidate_id
                        AND updated_at > clock_timestamp() - make_interval(hours => :lifetime_hours)
                  ))
        ORDER BY created_at
        LIMIT :batch
        FOR UPDATE SKIP LOCKED
    ), pruned AS (
        DELETE FROM idempotency_keys USING expired WHERE idempotency_keys.key_hash = expired.key_hash
        RETURNING 1
    )
    SELECT count(*) FROM pruned
""").bindparams(LIFETIME)
