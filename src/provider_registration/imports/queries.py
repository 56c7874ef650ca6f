"""SQL for imports.

A row is done for good once it has no cells; otherwise its outcome counts while `run` is that of its import.
"""

from __future__ import annotations

from sqlalchemy import DateTime, bindparam, text

from provider_registration.db.statements import statement

_IMPORT = """
    imports.id, imports.is_read, imports.format, CAST(imports.details AS text) AS details,
    CAST(imports.columns AS text) AS columns, CAST(imports.mapping AS text) AS mapping, imports.row_count,
    imports.run, imports.is_dry_run, imports.notify, imports.job_id, imports.actor_kind, imports.actor_id,
    coalesce(users.email, api_keys.name) AS actor_name, imports.created_at, jobs.state AS job_state,
    jobs.done AS parts_done
"""
_JOINED = """
    LEFT JOIN jobs ON jobs.id = imports.job_id
    LEFT JOIN users ON imports.actor_kind = 'user' AND users.id = imports.actor_id
    LEFT JOIN api_keys ON imports.actor_kind = 'api_key' AND api_keys.id = imports.actor_id
"""

# Add an import whose file is being read, unless :limit are stored.
INSERT_IMPORT = text("""
    INSERT INTO imports (id, actor_kind, actor_id)
    SELECT :import_id, :actor_kind, :actor_id
    WHERE (SELECT count(*) FROM imports) < :limit
    RETURNING id
""")

# Add the rows of a part of the file.
INSERT_ROWS = text("""
    INSERT INTO import_rows (import_id, position, row_number, cells, addresses)
    SELECT :import_id, position, "row", cells, addresses
    FROM json_to_recordset(CAST(:rows AS json)) AS part (position integer, "row" integer, cells json, addresses text)
""")

# The file has been read.
FINISH_READING = text("""
    UPDATE imports
    SET is_read = true, format = :format, details = CAST(CAST(:details AS text) AS jsonb),
        columns = CAST(CAST(:columns AS text) AS jsonb), mapping = CAST(CAST(:mapping AS text) AS jsonb),
        row_count = :rows, touched_at = clock_timestamp()
    WHERE id = :import_id AND NOT is_read
    RETURNING id
""")

# One import, with its counts, unless it is running, and its first rows that are not done: while rows are written,
# counting them takes long.
FIND_IMPORT = statement(
    """
    SELECT {columns},
           CASE WHEN jobs.state IN ('queued', 'running') THEN NULL ELSE CAST((
               SELECT coalesce(json_object_agg(outcome, rows), '{{}}')
               FROM (
                   SELECT outcome, count(*) AS rows
                   FROM import_rows
                   WHERE import_id = imports.id AND (cells IS NULL OR run = imports.run) AND outcome IS NOT NULL
                   GROUP BY outcome
               ) AS counted
           ) AS text) END AS counts,
           CAST((
               SELECT json_agg(cells ORDER BY position)
               FROM import_rows
               WHERE import_id = imports.id AND position <= :sample AND cells IS NOT NULL
           ) AS text) AS sample
    FROM imports
    {joined}
    WHERE imports.id = :import_id
    """,
    columns=_IMPORT,
    joined=_JOINED,
)

# Newest first, after a position.
LIST_IMPORTS = statement(
    """
    SELECT {columns}, NULL AS counts, NULL AS sample
    FROM imports
    {joined}
    WHERE (imports.created_at, imports.id) < (:after, :after_id)
    ORDER BY imports.created_at DESC, imports.id DESC
    LIMIT :limit
    """,
    columns=_IMPORT,
    joined=_JOINED,
).bindparams(bindparam("after", type_=DateTime(timezone=True)))

# Lock an import, so that it is started once. The state of its job is read afterwards, with a fresh snapshot.
LOCK_IMPORT = text("SELECT id FROM imports WHERE id = :import_id FOR UPDATE")
FIND_LOCKED = text("""
    SELECT imports.is_read AND jobs.due_at IS NULL AS is_idle, imports.row_count,
           CAST(imports.columns AS text) AS columns, CAST(imports.mapping AS text) AS mapping
    FROM imports
    LEFT JOIN jobs ON jobs.id = imports.job_id
    WHERE imports.id = :import_id
""")

START_IMPORT = text("""
    UPDATE imports
    SET run = run + 1, is_dry_run = :is_dry_run, notify = :notify, job_id = :job_id, touched_at = clock_timestamp(),
        mapping = CAST(CAST(:mapping AS text) AS jsonb)
    WHERE id = :import_id
    RETURNING run
""")

FIND_MAPPING = text("""
    SELECT CAST(columns AS text) AS columns, CAST(mapping AS text) AS mapping FROM imports WHERE id = :import_id
""")

# The rows of a part that are still to be worked on in a run.
FIND_ROWS = text("""
    SELECT position, row_number, CAST(cells AS text) AS cells
    FROM import_rows
    WHERE import_id = :import_id AND position > :after AND position <= :until AND cells IS NOT NULL AND run < :run
    ORDER BY position
""")

# Lock them, and find those that nobody has worked on or erased since.
LOCK_ROWS = text("""
    SELECT position
    FROM import_rows
    WHERE import_id = :import_id AND position > :after AND position <= :until AND cells IS NOT NULL AND run < :run
    ORDER BY position
    FOR UPDATE
""")

# Record the outcomes of rows. :is_done: for good, so cells are kept only of invalid ones.
RECORD_ROWS = text("""
    UPDATE import_rows AS stored
    SET run = :run, outcome = result.outcome, errors = CAST(result.errors AS json),
        email_canonical = result.email_canonical,
        cells = CASE WHEN :is_done AND result.outcome <> 'invalid' THEN NULL ELSE stored.cells END,
        addresses = CASE WHEN :is_done AND result.outcome <> 'invalid' THEN '' ELSE stored.addresses END
    FROM unnest(CAST(:positions AS integer[]), CAST(:outcomes AS text[]), CAST(:errors AS text[]),
                CAST(:addresses AS text[])) AS result (position, outcome, errors, email_canonical)
    WHERE stored.import_id = :import_id AND stored.position > :after AND stored.position <= :until
      AND stored.position = result.position
""")

# In a dry run, find the rows of which an earlier one has the e-mail address: of those that were just recorded, or later
# ones that were recorded before. The import must be locked, so that no part is recorded meanwhile.
MARK_REPEATED = text("""
    UPDATE import_rows AS stored
    SET outcome = 'already_registered', errors = CAST(:errors AS json)
    FROM unnest(CAST(:addresses AS text[])) AS address (email_canonical)
    CROSS JOIN LATERAL (
        SELECT position
        FROM import_rows AS valid
        WHERE valid.import_id = :import_id AND valid.email_canonical = address.email_canonical
          AND valid.run = :run AND valid.outcome = 'valid'
        ORDER BY position
        OFFSET 1
    ) AS later
    WHERE stored.import_id = :import_id AND stored.position = later.position
""")

# The rows with errors in order, after a position.
LIST_ERRORS = text("""
    SELECT position, row_number, outcome, CAST(errors AS text) AS errors
    FROM import_rows
    WHERE import_id = :import_id AND position > :after AND errors IS NOT NULL
      AND (cells IS NULL OR run = (SELECT run FROM imports WHERE id = :import_id))
    ORDER BY position
    LIMIT :limit
""")

# The invalid rows in order, after a position, with their cells and errors.
LIST_FAILED = text("""
    SELECT position, row_number, CAST(cells AS text) AS cells, outcome, CAST(errors AS text) AS errors
    FROM import_rows
    WHERE import_id = :import_id AND position > :after AND outcome = 'invalid' AND cells IS NOT NULL
      AND run = (SELECT run FROM imports WHERE id = :import_id)
    ORDER BY position
    LIMIT :limit
""")

# Let nobody start an import any more; its rows are deleted next.
CLOSE_IMPORT = text("UPDATE imports SET is_read = false, touched_at = '-infinity' WHERE id = :import_id")

DELETE_ROWS = text("""
    DELETE FROM import_rows
    WHERE import_id = :import_id AND position IN (
        SELECT position FROM import_rows WHERE import_id = :import_id ORDER BY position LIMIT :limit
    )
""")

DELETE_IMPORT = text("DELETE FROM imports WHERE id = :import_id")

# Close an import that nobody has touched for :days, and find it, or one whose reading did not end.
CLOSE_EXPIRED = text("""
    UPDATE imports
    SET is_read = false, touched_at = '-infinity'
    WHERE id = (
        SELECT imports.id
        FROM imports
        WHERE (touched_at < clock_timestamp() - make_interval(days => :days)
               OR NOT is_read AND touched_at < clock_timestamp() - interval '1 hour')
          AND NOT EXISTS (SELECT FROM jobs WHERE jobs.id = imports.job_id AND jobs.due_at IS NOT NULL)
        ORDER BY touched_at
        LIMIT 1
        FOR UPDATE SKIP LOCKED
    )
    RETURNING id
""")
