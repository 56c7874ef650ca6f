"""The SQL of looking through candidates.

Each page is a walk along an index in its order, from where the page before ended. Nothing is counted or skipped.
"""

from __future__ import annotations

from sqlalchemy import DateTime, bindparam, text

from provider_registration.candidates.queries import SELECT_CANDIDATES

_AFTER = bindparam("after", type_=DateTime(timezone=True))

_OLDEST_OF_ANY = """
    WITH page AS (
        SELECT id FROM candidates
        WHERE (created_at, id) > (:after, :after_id)
        ORDER BY created_at, id
        LIMIT :limit
    )
"""
_NEWEST_OF_ANY = """
    WITH page AS (
        SELECT id FROM candidates
        WHERE (created_at, id) < (:after, :after_id)
        ORDER BY created_at DESC, id DESC
        LIMIT :limit
    )
"""
_OLDEST_OF_STATUS = """
    WITH page AS (
        SELECT id FROM candidates
        WHERE status = :status AND (created_at, id) > (:after, :after_id)
        ORDER BY created_at, id
        LIMIT :limit
    )
"""
_NEWEST_OF_STATUS = """
    WITH page AS (
        SELECT id FROM candidates
        WHERE status = :status AND (created_at, id) < (:after, :after_id)
        ORDER BY created_at DESC, id DESC
        LIMIT :limit
    )
"""
_OLDEST_WITH_PRODUCT = """
    WITH page AS (
        SELECT id FROM candidates
        WHERE products @> ARRAY[CAST(:product AS text)] AND (created_at, id) > (:after, :after_id)
        ORDER BY created_at, id
        LIMIT :limit
    )
"""
_NEWEST_WITH_PRODUCT = """
    WITH page AS (
        SELECT id FROM candidates
        WHERE products @> ARRAY[CAST(:product AS text)] AND (created_at, id) < (:after, :after_id)
        ORDER BY created_at DESC, id DESC
        LIMIT :limit
    )
"""
_OLDEST_OF_STATUS_WITH_PRODUCT = """
    WITH page AS (
        SELECT id FROM candidates
        WHERE status = :status
          AND products @> ARRAY[CAST(:product AS text)]
          AND (created_at, id) > (:after, :after_id)
        ORDER BY created_at, id
        LIMIT :limit
    )
"""
_NEWEST_OF_STATUS_WITH_PRODUCT = """
    WITH page AS (
        SELECT id FROM candidates
        WHERE status = :status
          AND products @> ARRAY[CAST(:product AS text)]
          AND (created_at, id) < (:after, :after_id)
        ORDER BY created_at DESC, id DESC
        LIMIT :limit
    )
"""

# The candidates of a page, each with its unfinished approval.
_FROM_PAGE = """
         , approval.state AS approval_state,
           approval.requested_at AS approval_requested_at,
           approval.attempts AS approval_attempts,
           approval.next_attempt_at AS approval_next_attempt_at,
           approval.last_error AS approval_last_error
    FROM page
    JOIN candidates USING (id)
    LEFT JOIN unfinished_approvals AS approval ON approval.candidate_id = candidates.id
"""
_OF_PAGE = SELECT_CANDIDATES + _FROM_PAGE
_OLDEST_FIRST = _OF_PAGE + "ORDER BY candidates.created_at, candidates.id"
_NEWEST_FIRST = _OF_PAGE + "ORDER BY candidates.created_at DESC, candidates.id DESC"

# By the order, whether there is a status to filter by, and a product: each has the plan that serves it.
BROWSE = {
    ("oldest", False, False): text(_OLDEST_OF_ANY + _OLDEST_FIRST).bindparams(_AFTER),
    ("newest", False, False): text(_NEWEST_OF_ANY + _NEWEST_FIRST).bindparams(_AFTER),
    ("oldest", True, False): text(_OLDEST_OF_STATUS + _OLDEST_FIRST).bindparams(_AFTER),
    ("newest", True, False): text(_NEWEST_OF_STATUS + _NEWEST_FIRST).bindparams(_AFTER),
    ("oldest", False, True): text(_OLDEST_WITH_PRODUCT + _OLDEST_FIRST).bindparams(_AFTER),
    ("newest", False, True): text(_NEWEST_WITH_PRODUCT + _NEWEST_FIRST).bindparams(_AFTER),
    ("oldest", True, True): text(_OLDEST_OF_STATUS_WITH_PRODUCT + _OLDEST_FIRST).bindparams(_AFTER),
    ("newest", True, True): text(_NEWEST_OF_STATUS_WITH_PRODUCT + _NEWEST_FIRST).bindparams(_AFTER),
}

# The candidates with every word: `most` at most, whichever the index leads to first; then those of them that the
# filters let pass, in order. So a word that very many have costs no more than one that a thousand have. The index looks
# for three words at most, since each costs; the others are looked for in what it finds.
_MATCHED = """
    WITH matched AS (
        SELECT id, status, products, created_at
        FROM candidates
        WHERE search_text LIKE ALL (CAST(:others AS text[]))
"""
_ONE_WORD = _MATCHED + " AND search_text LIKE :word_1"
_TWO_WORDS = _ONE_WORD + " AND search_text LIKE :word_2"
_THREE_WORDS = _TWO_WORDS + " AND search_text LIKE :word_3"
_MOST_OF_THEM = " LIMIT :most)"
_OLDEST_MATCHED = """
    , page AS (
        SELECT id FROM matched
        WHERE (CAST(:status AS text) IS NULL OR status = :status)
          AND (CAST(:product AS text) IS NULL OR products @> ARRAY[CAST(:product AS text)])
          AND (created_at, id) > (:after, :after_id)
        ORDER BY created_at, id
        LIMIT :limit
    )
"""
_NEWEST_MATCHED = """
    , page AS (
        SELECT id FROM matched
        WHERE (CAST(:status AS text) IS NULL OR status = :status)
          AND (CAST(:product AS text) IS NULL OR products @> ARRAY[CAST(:product AS text)])
          AND (created_at, id) < (:after, :after_id)
        ORDER BY created_at DESC, id DESC
        LIMIT :limit
    )
"""
_FROM_MATCHED_PAGE = """
         , summary.matched,
           approval.state AS approval_state,
           approval.requested_at AS approval_requested_at,
           approval.attempts AS approval_attempts,
           approval.next_attempt_at AS approval_next_attempt_at,
           approval.last_error AS approval_last_error
    FROM (SELECT count(*) AS matched FROM matched) AS summary
    LEFT JOIN page ON true
    LEFT JOIN candidates ON candidates.id = page.id
    LEFT JOIN unfinished_approvals AS approval ON approval.candidate_id = candidates.id
"""
_OF_MATCHED_PAGE = SELECT_CANDIDATES + _FROM_MATCHED_PAGE
_MATCHED_OLDEST_FIRST = _OF_MATCHED_PAGE + "ORDER BY candidates.created_at, candidates.id"
_MATCHED_NEWEST_FIRST = _OF_MATCHED_PAGE + "ORDER BY candidates.created_at DESC, candidates.id DESC"
_OLDEST_OF_MATCHED = _MOST_OF_THEM + _OLDEST_MATCHED + _MATCHED_OLDEST_FIRST
_NEWEST_OF_MATCHED = _MOST_OF_THEM + _NEWEST_MATCHED + _MATCHED_NEWEST_FIRST
MOST_INDEXED_WORDS = 3
# By the order, and how many words the index looks for.
SEARCH = {
    ("oldest", 1): text(_ONE_WORD + _OLDEST_OF_MATCHED).bindparams(_AFTER),
    ("newest", 1): text(_ONE_WORD + _NEWEST_OF_MATCHED).bindparams(_AFTER),
    ("oldest", 2): text(_TWO_WORDS + _OLDEST_OF_MATCHED).bindparams(_AFTER),
    ("newest", 2): text(_TWO_WORDS + _NEWEST_OF_MATCHED).bindparams(_AFTER),
    ("oldest", 3): text(_THREE_WORDS + _OLDEST_OF_MATCHED).bindparams(_AFTER),
    ("newest", 3): text(_THREE_WORDS + _NEWEST_OF_MATCHED).bindparams(_AFTER),
}

# Some candidates whose search text is empty: an older release wrote them.
FIND_WITHOUT_SEARCH_TEXT = text("""
    SELECT id, company_name, contact_email, phone, location
    FROM candidates
    WHERE search_text IS NULL
    ORDER BY id
    LIMIT :most
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

# Some candidates, each with its unfinished approval, oldest first.
_NAMED = "WITH page AS (SELECT id FROM candidates WHERE id = ANY(:candidate_ids))"
FIND_NAMED = text(_NAMED + _OLDEST_FIRST)

# How many candidates there are of each status, of one product or, for '', of all.
COUNT_BY_STATUS = text("""
    SELECT status, CAST(sum(count) AS bigint) AS candidates
    FROM candidate_counts
    WHERE product = :product
    GROUP BY status
""")

# The pending candidate that registered first after another, and that no approval stands of.
NEXT_PENDING = text("""
    SELECT id
    FROM candidates
    WHERE status = 'pending'
      AND (created_at, id) > (:after, :after_id)
      AND NOT EXISTS (SELECT FROM approval_intents WHERE candidate_id = candidates.id)
    ORDER BY created_at, id
    LIMIT 1
""").bindparams(_AFTER)

# Who members of staff are.
NAME_USERS = text("SELECT id, email FROM users WHERE id = ANY(:user_ids)")
