"""SQL for jobs.

A job with a `claim_id` is leased until `due_at`; one without it can be claimed from then on. `due_at` is NULL when
nothing is left to do. An item with a `claim_id` and no `status` has been started by the holder of that claim.
"""

from __future__ import annotations

from sqlalchemy import DateTime, bindparam, text

from provider_registration.db.statements import statement

JOB = """
    jobs.id, jobs.kind, jobs.state, jobs.cancel_reason, jobs.actor_kind, jobs.actor_id,
    coalesce(users.email, api_keys.name) AS actor_name, jobs.is_partial, jobs.total, jobs.done,
    CAST(jobs.summary AS text) AS summary, jobs.created_at, jobs.worked_at, jobs.ended_at
"""
_ACTORS = """
    LEFT JOIN users ON jobs.actor_kind = 'user' AND users.id = jobs.actor_id
    LEFT JOIN api_keys ON jobs.actor_kind = 'api_key' AND api_keys.id = jobs.actor_id
"""

# Add a job, unless there is one with its ID or :limit are unfinished.
INSERT_JOB = text("""
    INSERT INTO jobs (id, kind, actor_kind, actor_id, parameters, is_partial, total)
    SELECT :job_id, :kind, :actor_kind, :actor_id, CAST(CAST(:parameters AS text) AS jsonb), :is_partial, :total
    WHERE (SELECT count(*) FROM jobs WHERE due_at IS NOT NULL) < :limit
    ON CONFLICT DO NOTHING
    RETURNING id
""")

HAS_JOB = text("SELECT EXISTS (SELECT FROM jobs WHERE id = :job_id)")

# Add items of a job, from number :first.
INSERT_ITEMS = text("""
    INSERT INTO job_items (job_id, number, candidate_id, version)
    SELECT :job_id, CAST(:first AS integer) + ordinality - 1, candidate_id, version
    FROM unnest(CAST(:candidate_ids AS uuid[]), CAST(:versions AS integer[]))
        WITH ORDINALITY AS items (candidate_id, version)
""")

FIND_JOB = statement("SELECT {job} FROM jobs {actors} WHERE jobs.id = :job_id", job=JOB, actors=_ACTORS)

# Newest first, after a position.
LIST_JOBS = statement(
    """
    SELECT {job}
    FROM jobs
    {actors}
    WHERE (jobs.created_at, jobs.id) < (:after, :after_id)
    ORDER BY jobs.created_at DESC, jobs.id DESC
    LIMIT :limit
    """,
    job=JOB,
    actors=_ACTORS,
).bindparams(bindparam("after", type_=DateTime(timezone=True)))

# The items of a job in order, after a number.
LIST_ITEMS = text("""
    SELECT items.number, items.candidate_id, candidates.company_name AS candidate_name, items.status, items.code,
           items.claim_id IS NOT NULL AS is_started
    FROM job_items AS items
    LEFT JOIN candidates ON candidates.id = items.candidate_id
    WHERE items.job_id = :job_id AND items.number > :after
    ORDER BY items.number
    LIMIT :limit
""")

# Let no further item be started. If a process is working on the job, its parameters stay until the started ones end.
CANCEL_JOB = text("""
    UPDATE jobs
    SET state = 'cancelled', cancel_reason = :reason, ended_at = clock_timestamp(),
        due_at = CASE WHEN claim_id IS NOT NULL THEN due_at END,
        parameters = CASE WHEN claim_id IS NOT NULL THEN parameters END
    WHERE id = :job_id AND state IN ('queued', 'running')
    RETURNING kind
""")

# Lease the job that has been due longest, if any, of the kinds that this process knows. A lease ends when it runs out,
# or if its end is further ahead than any process sets it, because the database's clock was set back.
CLAIM_JOB = text("""
    UPDATE jobs
    SET claim_id = :claim_id, due_at = clock_timestamp() + make_interval(secs => :lease_seconds),
        state = CASE state WHEN 'queued' THEN 'running' ELSE state END
    WHERE id = (
        SELECT id
        FROM jobs
        WHERE due_at IS NOT NULL
          AND due_at NOT BETWEEN clock_timestamp() AND clock_timestamp() + make_interval(secs => :longest_seconds)
          AND kind = ANY(:kinds)
        ORDER BY due_at
        LIMIT 1
        FOR NO KEY UPDATE SKIP LOCKED
    )
    RETURNING id, kind, claim_id, actor_kind, actor_id, CAST(parameters AS text) AS parameters
""")

# Start at most :limit items of a job that is still leased: those that an earlier holder started, then the next ones
# unless the job was cancelled. The lease is renewed. The job is locked first, here and by RECORD_RESULT.
START_ITEMS = text("""
    WITH held AS MATERIALIZED (
        SELECT id, state FROM jobs WHERE id = :job_id AND claim_id = :claim_id FOR NO KEY UPDATE
    ), next AS (
        SELECT items.number
        FROM job_items AS items
        JOIN held ON held.id = items.job_id
        WHERE items.status IS NULL
          AND (items.claim_id <> :claim_id
               OR items.claim_id IS NULL AND held.state = 'running'
                  AND coalesce(items.due_at NOT BETWEEN clock_timestamp() AND
                               clock_timestamp() + make_interval(secs => :longest_seconds), true))
        ORDER BY items.number
        LIMIT :limit
    ), started AS (
        UPDATE job_items AS items
        SET claim_id = :claim_id, attempts = items.attempts + 1
        FROM next
        WHERE items.job_id = :job_id AND items.number = next.number
        RETURNING items.number, items.candidate_id, items.version, items.attempts
    ), extended AS (
        UPDATE jobs
        SET due_at = clock_timestamp() + make_interval(secs => :lease_seconds), worked_at = clock_timestamp()
        FROM held
        WHERE jobs.id = held.id AND EXISTS (SELECT FROM started)
    )
    SELECT number, candidate_id, version, attempts FROM started ORDER BY number
""")

# The next items after a number that were never started.
FIND_NEW_ITEMS = text("""
    SELECT number, candidate_id, version, attempts
    FROM job_items
    WHERE job_id = :job_id AND number > :after AND status IS NULL AND claim_id IS NULL AND attempts = 0
    ORDER BY number
    LIMIT :limit
""")

# Record the results of items that were never started, and renew the lease; no row if the job was cancelled or
# another process has taken it over. The job is locked first, as by START_ITEMS.
RECORD_KNOWN = text("""
    WITH held AS MATERIALIZED (
        SELECT id FROM jobs
        WHERE id = :job_id AND claim_id = :claim_id AND state = 'running'
        FOR NO KEY UPDATE
    ), ended AS (
        UPDATE job_items AS items
        SET claim_id = :claim_id, attempts = 1, status = known.status, code = known.code
        FROM held, unnest(CAST(:numbers AS integer[]), CAST(:statuses AS text[]), CAST(:codes AS text[]))
                       AS known (number, status, code)
        WHERE items.job_id = held.id AND items.number = known.number
          AND items.status IS NULL AND items.claim_id IS NULL
        RETURNING coalesce(items.code, items.status) AS counted
    ), counted AS (
        SELECT counted, count(*) AS items FROM ended GROUP BY counted
    )
    UPDATE jobs
    SET due_at = clock_timestamp() + make_interval(secs => :lease_seconds), worked_at = clock_timestamp(),
        done = done + (SELECT count(*) FROM ended),
        summary = summary || (
            SELECT coalesce(jsonb_object_agg(counted, coalesce(CAST(summary ->> counted AS integer), 0) + items), '{}')
            FROM counted
        )
    FROM held
    WHERE jobs.id = held.id
    RETURNING jobs.id
""")

# Extend a lease while its items take long; no row if another process has the job.
EXTEND_LEASE = text("""
    UPDATE jobs
    SET due_at = clock_timestamp() + make_interval(secs => :lease_seconds)
    WHERE id = :job_id AND claim_id = :claim_id
    RETURNING id
""")

# Record the result of an item; no row if another process has taken the job over. :counted is its key in the summary.
RECORD_RESULT = text("""
    WITH held AS MATERIALIZED (
        SELECT id FROM jobs WHERE id = :job_id AND claim_id = :claim_id FOR NO KEY UPDATE
    ), ended AS (
        UPDATE job_items AS items
        SET status = :status, code = :code, due_at = NULL
        FROM held
        WHERE items.job_id = held.id AND items.number = :number AND items.claim_id = :claim_id AND items.status IS NULL
        RETURNING items.job_id
    )
    UPDATE jobs
    SET done = done + 1,
        summary = jsonb_set(summary, ARRAY[CAST(:counted AS text)],
                            to_jsonb(coalesce(CAST(summary ->> :counted AS integer), 0) + 1))
    FROM ended
    WHERE jobs.id = ended.job_id
    RETURNING jobs.id
""")

# Have an item tried again later, by the process that holds the job then; no row if another process has taken it over.
PUT_OFF_ITEM = text("""
    UPDATE job_items AS items
    SET claim_id = NULL, due_at = clock_timestamp() + make_interval(secs => :wait_seconds)
    FROM (SELECT id FROM jobs WHERE id = :job_id AND claim_id = :claim_id FOR NO KEY UPDATE) AS held
    WHERE items.job_id = held.id AND items.number = :number AND items.claim_id = :claim_id AND items.status IS NULL
    RETURNING items.number
""")

# End a lease whose items have all ended or were put off. The job ends if none is left; otherwise it is due when the
# next one is.
RELEASE_JOB = text("""
    UPDATE jobs
    SET claim_id = NULL,
        state = CASE WHEN is_done AND state = 'running' THEN 'done' ELSE state END,
        ended_at = CASE WHEN is_done THEN coalesce(ended_at, clock_timestamp()) ELSE ended_at END,
        parameters = CASE WHEN NOT (is_done OR state = 'cancelled') THEN parameters END,
        due_at = CASE WHEN NOT (is_done OR state = 'cancelled') THEN (
            SELECT greatest(clock_timestamp(), min(coalesce(items.due_at, '-infinity')))
            FROM job_items AS items
            WHERE items.job_id = jobs.id AND items.status IS NULL
        ) END
    FROM (SELECT id, done = total AS is_done FROM jobs WHERE id = :job_id FOR NO KEY UPDATE) AS seen
    WHERE jobs.id = seen.id AND claim_id = :claim_id
""")

# For the metrics: unfinished jobs by state, and the longest time since an item of one of them was started.
SUMMARISE = text("""
    SELECT count(*) FILTER (WHERE state = 'queued') AS queued,
           count(*) FILTER (WHERE state <> 'queued') AS running,
           CAST(coalesce(extract(epoch FROM clock_timestamp() - min(worked_at)), 0) AS float8) AS stalled_seconds
    FROM jobs
    WHERE due_at IS NOT NULL
""")

# Delete some jobs that ended more than :days days ago, with their items.
PRUNE_JOBS = text("""
    DELETE FROM jobs
    WHERE id IN (
        SELECT id
        FROM jobs
        WHERE ended_at < statement_timestamp() - make_interval(days => :days) AND due_at IS NULL
        ORDER BY ended_at
        LIMIT :limit
    )
""")
