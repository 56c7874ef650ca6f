"""The SQL of similar companies: it finds candidates with a common key, which are then compared in Python."""

from __future__ import annotations

from sqlalchemy import text

# For each key of some candidates, a bounded number of others. LATERAL, so that PostgreSQL never reads the whole table.
FIND_WITH_KEYS = text("""
    WITH found AS (
        SELECT DISTINCT searched.candidate_id AS like_id, matches.candidate_id
        FROM unnest(CAST(:candidate_ids AS uuid[]), CAST(:keys AS bigint[])) AS searched (candidate_id, key)
        CROSS JOIN LATERAL (
            SELECT candidate_id FROM candidate_keys WHERE keys @> ARRAY[searched.key] LIMIT :max_rows
        ) AS matches
        WHERE matches.candidate_id <> searched.candidate_id
    )
    SELECT found.like_id, other.*
    FROM found
    CROSS JOIN LATERAL (
        SELECT id, company_name, contact_email, phone, status, rejection_reason, updated_at
        FROM candidates
        WHERE id = found.candidate_id
        LIMIT 1
    ) AS other
""")

# The next candidates without keys, with what the keys are made of. An older release fills the others alone.
# LIMIT before the join: after it, PostgreSQL goes through all candidates while its statistics say that most are empty.
# OFFSET 0, so that it looks up each candidate: for a merge join it would go through all those before :after.
FIND_EMPTY = text("""
    WITH empty AS (
        SELECT candidate_id
        FROM candidate_keys
        WHERE word_keys IS NULL AND candidate_id > :after
        ORDER BY candidate_id
        LIMIT :max_rows
    )
    SELECT found.*
    FROM empty
    CROSS JOIN LATERAL (
        SELECT id, company_name, contact_email, phone FROM candidates WHERE id = empty.candidate_id OFFSET 0
    ) AS found
    ORDER BY found.id
""")

# Fill keys, except of candidates that are locked or whose keys another process is filling, and of those that were
# changed, filled or erased since they were read.
FILL = text("""
    WITH made AS (
        SELECT * FROM json_to_recordset(CAST(:made AS json))
            AS made (id uuid, company_name text, contact_email text, phone text, keys bigint[],
                     word_keys integer[])
    ), unchanged AS (
        SELECT candidates.id, made.keys, made.word_keys
        FROM candidates
        JOIN made USING (id)
        JOIN candidate_keys ON candidate_keys.candidate_id = candidates.id AND candidate_keys.word_keys IS NULL
        WHERE (candidates.company_name, candidates.contact_email, candidates.phone)
              IS NOT DISTINCT FROM (made.company_name, made.contact_email, made.phone)
        ORDER BY candidates.id
        FOR SHARE OF candidates SKIP LOCKED
        FOR UPDATE OF candidate_keys SKIP LOCKED
    )
    UPDATE candidate_keys SET keys = unchanged.keys, word_keys = unchanged.word_keys
    FROM unchanged
    WHERE candidate_keys.candidate_id = unchanged.id
""")
