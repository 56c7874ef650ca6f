"""SQL for candidates."""

from __future__ import annotations

from sqlalchemy import DateTime, Float, Text, bindparam, text

from provider_registration.candidates.company import FACTS, NUMBERS
from provider_registration.candidates.models import LONGEST_SECONDS, MAX_STATUS_LINKS
from provider_registration.db.database import BATCH_LOCK_TIMEOUT, LOCK_TIMEOUT_CTE
from provider_registration.db.statements import ERASED_EMAIL, statement

INSTANT = bindparam("instant", 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"', type_=Text)  # sessions are in UTC

# The facts about a company: "company_name, contact_email, ...".
FACTS_COLUMNS = ", ".join(FACTS)
FACTS_OF_CANDIDATES = ", ".join(f"candidates.{fact}" for fact in FACTS)


def _quoted(value: str) -> str:
    """A text without characters that JSON escapes, as JSON."""
    return f"""'"' || {value} || '"'"""


def _instant(value: str) -> str:
    return f"replace(to_char({value}, :instant), '.000000Z', 'Z')"


# The columns of Candidate, from a relation named `candidates`. Results name every column: with `*`, a column added by a
# later release would change the result type, and PostgreSQL rejects a prepared statement whose result type changed.
CANDIDATE_COLUMNS = (
    f"candidates.id, candidates.status, {FACTS_OF_CANDIDATES}, candidates.created_at, candidates.updated_at, "
    "candidates.provider_id, candidates.version, candidates.rejection_reason, candidates.rejected_by"
)

# The unfinished approval of a candidate, from a relation named `approval`.
APPROVAL_COLUMNS = """
    approval.state AS approval_state, approval.requested_at AS approval_requested_at,
    approval.attempts AS approval_attempts, approval.next_attempt_at AS approval_next_attempt_at,
    approval.last_error AS approval_last_error
"""


def notification_of(wanted: str) -> str:
    """What an event says about the e-mail to the company: nothing if it is wanted."""
    return f"CASE WHEN {wanted} THEN '{{}}' ELSE jsonb_build_object('notify', false) END"


def job_of(job_id: str) -> str:
    """What an event says about the job that caused it: nothing without one."""
    return f"CASE WHEN {job_id} IS NULL THEN '{{}}' ELSE jsonb_build_object('job_id', {job_id}) END"


# The record from a relation named `candidates`: JSON in the format of CandidateResponse.
RECORD_COLUMNS = f"""
           candidates.id,
           candidates.version,
           candidates.created_at,
           (
               SELECT CAST(row_to_json(record) AS text)
               FROM (
                   SELECT candidates.id AS candidate_id,
                          candidates.status,
                          {FACTS_OF_CANDIDATES},
                          replace(to_char(candidates.created_at, :instant), '.000000Z', 'Z') AS created_at,
                          replace(to_char(candidates.updated_at, :instant), '.000000Z', 'Z') AS updated_at,
                          candidates.provider_id,
                          candidates.version,
                          candidates.rejection_reason,
                          (
                              SELECT row_to_json(summary)
                              FROM (
                                  SELECT state,
                                         replace(to_char(requested_at, :instant), '.000000Z', 'Z') AS requested_at,
                                         attempts,
                                         CASE WHEN state = 'waiting' THEN
                                             replace(to_char(next_attempt_at, :instant), '.000000Z', 'Z')
                                         END AS next_attempt_at,
                                         last_error
                                  FROM unfinished_approvals
                                  WHERE candidate_id = candidates.id
                              ) AS summary
                          ) AS approval
               ) AS record
           ) AS json
"""  # noqa: S608 - of constants

# The fields of an export, in order, from a relation named `candidates`, each as the text of a JSON value. row_to_json
# and json_build_object take longer, because they look up the type of each value in each row.
EXPORTED = {
    "candidate_id": _quoted("candidates.id"),
    "status": _quoted("candidates.status"),
    **{
        fact: f"CAST(candidates.{fact} AS text)" if fact in NUMBERS else f"CAST(to_json(candidates.{fact}) AS text)"
        for fact in FACTS
    },
    "created_at": _quoted(_instant("candidates.created_at")),
    "decided_at": f"CASE WHEN status <> 'pending' THEN {_quoted(_instant('candidates.updated_at'))} END",
    "provider_id": "CAST(candidates.provider_id AS text)",
    "rejection_reason": "CAST(to_json(candidates.rejection_reason) AS text)",
}
_EXPORTED_FIELDS = ", ',', ".join(f"""'"{field}":', coalesce({value}, 'null')""" for field, value in EXPORTED.items())
EXPORTED_LINE = f"concat('{{', {_EXPORTED_FIELDS}, '}}', chr(10))"

# Register companies, except those whose e-mail address is already registered. ON CONFLICT names no index: a form sent
# twice may violate the index of status secrets first. Ordered by address, so that two statements cannot deadlock.
INSERT_CANDIDATES = statement(
    """
    WITH {lock_timeout}, added AS (
        INSERT INTO candidates (id, {facts}, contact_email_canonical, status_secret_hash, search_text, language)
        SELECT id, {facts}, contact_email_canonical, status_secret_hash, search_text, language
        FROM ROWS FROM (json_populate_recordset(CAST(NULL AS candidates), CAST(:registrations AS json)))
                 WITH ORDINALITY AS registration, lock_timeout
        ORDER BY contact_email_canonical, ordinality
        ON CONFLICT DO NOTHING
        RETURNING *
    ), recorded AS (
        INSERT INTO candidate_events (candidate_id, type, actor_kind, version)
        SELECT id, 'candidate.registered', 'applicant', version FROM added
    )
    SELECT {record} FROM added AS candidates
    """,
    lock_timeout=LOCK_TIMEOUT_CTE,
    facts=FACTS_COLUMNS,
    record=RECORD_COLUMNS,
).bindparams(INSTANT, BATCH_LOCK_TIMEOUT)

# The records of registrations as they were then, with the time of the candidate that has the same ID: pending, without
# an approval, which the name of this CTE hides.
REPEAT_REGISTRATIONS = statement(
    """
    WITH unfinished_approvals AS (
        SELECT candidate_id, state, requested_at, attempts, next_attempt_at, last_error
        FROM unfinished_approvals
        WHERE false
    )
    SELECT {record}
    FROM (
        SELECT id, 'pending' AS status, {facts_then}, stored.created_at, stored.created_at AS updated_at,
               CAST(NULL AS integer) AS provider_id, 1 AS version, CAST(NULL AS text) AS rejection_reason
        FROM json_populate_recordset(CAST(NULL AS candidates), CAST(:registrations AS json)) AS registration
        JOIN (SELECT id, created_at FROM candidates) AS stored USING (id)
    ) AS candidates
    """,
    facts_then=", ".join(f"registration.{fact}" for fact in FACTS),
    record=RECORD_COLUMNS,
).bindparams(INSTANT)

# The candidates that have these addresses, which cannot be erased until the transaction ends.
LOCK_ADDRESSES = text("""
    SELECT contact_email_canonical, id FROM candidates WHERE contact_email_canonical = ANY(:emails) FOR KEY SHARE
""")

# Register companies for an actor, as INSERT_CANDIDATES does. :data: what their events say.
IMPORT_CANDIDATES = statement(
    """
    WITH {lock_timeout}, added AS (
        INSERT INTO candidates (id, {facts}, contact_email_canonical, search_text, language)
        SELECT id, {facts}, contact_email_canonical, search_text, language
        FROM ROWS FROM (json_populate_recordset(CAST(NULL AS candidates), CAST(:registrations AS json)))
                 WITH ORDINALITY AS registration, lock_timeout
        ORDER BY contact_email_canonical, ordinality
        ON CONFLICT DO NOTHING
        RETURNING id, version
    ), recorded AS (
        INSERT INTO candidate_events (candidate_id, type, actor_kind, actor_id, version, data)
        SELECT id, 'candidate.registered', :actor_kind, :actor_id, version, CAST(CAST(:data AS text) AS jsonb)
        FROM added
    )
    SELECT id FROM added
    """,
    lock_timeout=LOCK_TIMEOUT_CTE,
    facts=FACTS_COLUMNS,
).bindparams(BATCH_LOCK_TIMEOUT)

# Which of some e-mail addresses are registered.
FIND_TAKEN = text("""
    SELECT contact_email_canonical FROM candidates WHERE contact_email_canonical = ANY(:addresses)
""")

# Read candidates, each with its unfinished approval. With "id = ANY(:candidate_ids)" PostgreSQL would plan each
# execution, which takes longer than reading a candidate. It does not know the length of an array that a subquery makes,
# so it keeps one plan; and with OFFSET 0 that plan looks up each ID, also if it was made while the table was empty.
FIND_RECORDS = statement(
    """
    SELECT found.*
    FROM unnest(ARRAY(SELECT unnest(CAST(:candidate_ids AS uuid[])))) AS wanted (id)
    CROSS JOIN LATERAL (SELECT {record} FROM candidates WHERE candidates.id = wanted.id OFFSET 0) AS found
    """,
    record=RECORD_COLUMNS,
).bindparams(INSTANT)

# Read one candidate, with its unfinished approval.
FIND_CANDIDATE = statement(
    """
    SELECT {candidate}, {approval}
    FROM candidates
    LEFT JOIN unfinished_approvals AS approval ON approval.candidate_id = candidates.id
    WHERE candidates.id = :candidate_id
    """,
    candidate=CANDIDATE_COLUMNS,
    approval=APPROVAL_COLUMNS,
)

# Read some candidates, each with its unfinished approval, oldest first.
FIND_CANDIDATES = statement(
    """
    SELECT {candidate}, {approval}
    FROM candidates
    LEFT JOIN unfinished_approvals AS approval ON approval.candidate_id = candidates.id
    WHERE candidates.id = ANY(:candidate_ids)
    ORDER BY candidates.created_at, candidates.id
    """,
    candidate=CANDIDATE_COLUMNS,
    approval=APPROVAL_COLUMNS,
)

# For the metrics: the age of the oldest pending candidate in seconds; no row if there is none.
OLDEST_PENDING_SECONDS = text("""
    SELECT CAST(extract(epoch FROM now() - created_at) AS float8)
    FROM candidates
    WHERE status = 'pending'
    ORDER BY created_at, id
    LIMIT 1
""")

# Serialise concurrent recounts.
LOCK_RECOUNT = text("SELECT pg_advisory_xact_lock(:key)").bindparams(key=int.from_bytes(b"provrcnt", "big"))

# Correct the counts and return the corrections: none unless rows were written without the trigger.
RECOUNT = text("SELECT product, status, missing, missing_tons FROM recount_candidates()")

# The state of the unfinished approval named `intent`; NULL without one. A claim ends when its lease expires, or if the
# expiry is further ahead than any process sets it, because the database's clock was set back. It is compared with
# clock_timestamp(), because now() may be from before a lock wait.
APPROVAL_STATE = """
    CASE
        WHEN intent.in_doubt_since IS NOT NULL THEN 'in_doubt'
        WHEN intent.claim_id IS NOT NULL
             AND intent.next_attempt_at BETWEEN clock_timestamp()
                                            AND clock_timestamp() + make_interval(secs => :longest_seconds)
        THEN 'in_progress'
        WHEN intent.candidate_id IS NOT NULL THEN 'waiting'
    END
"""
LONGEST = bindparam("longest_seconds", float(LONGEST_SECONDS), type_=Float)

# The obstacle to the decision named `request`; NULL if there is none.
OBSTACLE = f"""
    CASE
        WHEN candidates.id IS NULL THEN 'not_found'
        WHEN NOT candidates.version = ANY(request.expected) THEN 'version_mismatch'
        WHEN candidates.status <> 'pending' THEN 'not_pending'
        ELSE {APPROVAL_STATE}
    END
"""

# Lock candidates until the transaction ends. Their state must be read by the next statement, whose snapshot includes
# what was committed during the wait.
LOCK_CANDIDATES = text("""
    SELECT id FROM candidates WHERE id = ANY(:candidate_ids) ORDER BY id FOR NO KEY UPDATE
""")

_OBSTACLES = """
    SELECT request.candidate_id, {obstacle} AS obstacle, candidates.status AS status_seen,
           candidates.version AS version_seen
    FROM ({requests}) AS request
    LEFT JOIN candidates ON candidates.id = request.candidate_id
    LEFT JOIN approval_intents AS intent ON intent.candidate_id = request.candidate_id
"""
_ONE_REQUEST = "SELECT CAST(:candidate_id AS uuid) AS candidate_id, CAST(:expected AS bigint[]) AS expected"
_SOME_REQUESTS = """
    SELECT candidate_id, CASE WHEN version IS NOT NULL THEN ARRAY[version] END AS expected
    FROM unnest(CAST(:candidate_ids AS uuid[]), CAST(:versions AS bigint[])) AS asked (candidate_id, version)
"""

# The obstacle to a decision about a locked candidate.
FIND_OBSTACLE = statement(_OBSTACLES, obstacle=OBSTACLE, requests=_ONE_REQUEST).bindparams(LONGEST)

# The obstacles to some decisions as of now; nothing is locked. :versions: the expected ones; NULL: any.
FIND_OBSTACLES = statement(_OBSTACLES, obstacle=OBSTACLE, requests=_SOME_REQUESTS).bindparams(LONGEST)

# Reject candidates, and return the obstacle to each that was not rejected: `locked` if another transaction locks it. An
# approval that began during a wait for other locks is seen, because `unfinished_approval` is VOLATILE.
REJECT_CANDIDATES = statement(
    """
    WITH {lock_timeout}, request AS MATERIALIZED (
        SELECT request.*, actor.kind AS actor_kind, actor.id AS actor_id
        FROM json_to_recordset(CAST(:rejections AS json))
                 AS request (candidate_id uuid, reason text, actor json, expected bigint[], notify boolean,
                             job_id uuid)
        CROSS JOIN LATERAL json_to_record(request.actor) AS actor (kind text, id uuid)
    ), locked AS MATERIALIZED (
        SELECT id, status, version
        FROM candidates, lock_timeout
        WHERE id = ANY(ARRAY(SELECT candidate_id FROM request))
        ORDER BY id
        FOR NO KEY UPDATE OF candidates SKIP LOCKED
    ), seen AS MATERIALIZED (
        SELECT request.*, candidates.status, candidates.version,
               CASE
                   WHEN candidates.id IS NULL AND EXISTS (SELECT FROM candidates WHERE id = request.candidate_id)
                   THEN 'locked'
                   ELSE {obstacle}
               END AS obstacle
        FROM request
        LEFT JOIN locked AS candidates ON candidates.id = request.candidate_id
        LEFT JOIN LATERAL unfinished_approval(candidates.id) AS intent ON true
    ), rejected AS (
        UPDATE candidates
        SET status = 'rejected', rejection_reason = seen.reason,
            rejected_by = CASE seen.actor_kind WHEN 'user' THEN seen.actor_id END
        FROM seen
        WHERE candidates.id = seen.candidate_id
          AND candidates.status = 'pending'
          AND candidates.version = seen.version
          AND seen.obstacle IS NULL
        RETURNING candidates.*
    ), recorded AS (
        INSERT INTO candidate_events (candidate_id, type, actor_kind, actor_id, version, data)
        SELECT rejected.id, 'candidate.rejected', seen.actor_kind, seen.actor_id, rejected.version,
               {notification} || {job}
        FROM rejected
        JOIN seen ON seen.candidate_id = rejected.id
    )
    SELECT seen.candidate_id, seen.obstacle, seen.status AS status_seen, seen.version AS version_seen, {candidate}
    FROM seen
    LEFT JOIN rejected AS candidates ON candidates.id = seen.candidate_id
    """,
    lock_timeout=LOCK_TIMEOUT_CTE,
    obstacle=OBSTACLE,
    notification=notification_of("seen.notify"),
    job=job_of("seen.job_id"),
    candidate=CANDIDATE_COLUMNS,
).bindparams(LONGEST, BATCH_LOCK_TIMEOUT)

# Read the application with this status secret, without internal data. A link in an e-mail has a secret of its own.
FIND_APPLICATION = statement(
    """
    SELECT status, {facts}, created_at, rejection_reason, language,
           CASE WHEN status <> 'pending' THEN updated_at END AS decided_at
    FROM candidates
    WHERE id = (
        SELECT id FROM candidates WHERE status_secret_hash = decode(:status_secret_hash, 'hex')
        UNION ALL
        SELECT candidate_id FROM status_links WHERE secret_hash = decode(:status_secret_hash, 'hex')
        LIMIT 1
    )
    """,
    facts=FACTS_COLUMNS,
)

# Add a link to a candidate's status page beside the others; only the hash of its secret is stored. The oldest one
# stays, and the next oldest end if there are many. No row if the personal data was erased: FOR SHARE waits for an
# erasure; one that waits for this statement ends this link too, by its trigger.
ADD_STATUS_LINK = statement(
    """
    WITH ended AS (
        DELETE FROM status_links
        WHERE secret_hash IN (
            SELECT secret_hash
            FROM (
                SELECT secret_hash, row_number() OVER (ORDER BY created_at DESC) AS age,
                       count(*) OVER () AS oldest
                FROM status_links
                WHERE candidate_id = :candidate_id
            ) AS links
            WHERE age > :others AND age < oldest
        )
    )
    INSERT INTO status_links (secret_hash, candidate_id)
    SELECT decode(:status_secret_hash, 'hex'), id
    FROM candidates
    WHERE id = :candidate_id AND contact_email <> {erased_email}
    FOR SHARE
    RETURNING candidate_id
    """,
    erased_email=ERASED_EMAIL,
).bindparams(others=MAX_STATUS_LINKS - 2)

# End one of these links.
END_STATUS_LINK = text("DELETE FROM status_links WHERE secret_hash = decode(:status_secret_hash, 'hex')")

# Replace a candidate's status secret, unless its personal data was erased; only its hash, in hexadecimal, is stored. A
# trigger ends the links in e-mails.
REPLACE_STATUS_SECRET = statement(
    """
    WITH replaced AS (
        UPDATE candidates
        SET status_secret_hash = decode(:status_secret_hash, 'hex')
        WHERE id = :candidate_id AND contact_email <> {erased_email}
        RETURNING id, version
    ), recorded AS (
        INSERT INTO candidate_events (candidate_id, type, actor_kind, actor_id, version)
        SELECT id, 'candidate.status_link_replaced', CAST(:actor_kind AS text), CAST(:actor_id AS uuid), version
        FROM replaced
    )
    SELECT id FROM replaced
    """,
    erased_email=ERASED_EMAIL,
)

# The next candidates without a search text, written by an older release.
FIND_WITHOUT_SEARCH_TEXT = text("""
    SELECT id, company_name, contact_email, phone, location
    FROM candidates
    WHERE search_text IS NULL AND id > :after
    ORDER BY id
    LIMIT :max_rows
""")

# Fill search texts, except of candidates that are locked, or were changed, filled or erased since they were read.
FILL_SEARCH_TEXTS = text("""
    WITH made AS (
        SELECT * FROM json_to_recordset(CAST(:made AS json))
            AS made (id uuid, company_name text, contact_email text, phone text, location text, search_text text)
    ), unchanged AS (
        SELECT candidates.id, made.search_text
        FROM candidates JOIN made USING (id)
        WHERE candidates.search_text IS NULL
          AND (candidates.company_name, candidates.contact_email, candidates.phone, candidates.location)
              IS NOT DISTINCT FROM (made.company_name, made.contact_email, made.phone, made.location)
        FOR NO KEY UPDATE OF candidates SKIP LOCKED
    )
    UPDATE candidates SET search_text = unchanged.search_text FROM unchanged WHERE candidates.id = unchanged.id
""")

# The number of candidates in each status, for one product or, with '', for all.
COUNT_BY_STATUS = text("""
    SELECT status, CAST(sum(count) AS bigint) AS candidates
    FROM candidate_counts
    WHERE product = :product
    GROUP BY status
""")

# The next pending candidate after a position, of those without an unfinished approval.
NEXT_PENDING = text("""
    SELECT id
    FROM candidates
    WHERE status = 'pending'
      AND (created_at, id) > (:after, :after_id)
      AND NOT EXISTS (SELECT FROM approval_intents WHERE candidate_id = candidates.id)
    ORDER BY created_at, id
    LIMIT 1
""").bindparams(bindparam("after", type_=DateTime(timezone=True)))
