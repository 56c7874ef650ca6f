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

# The candidates with words that begin so: `most` at most, whichever the index leads to first; then those of them that
# the filters let pass, in order. So a word that very many have costs no more than one that a thousand have.
_MATCHED = """
    WITH matched AS (
        SELECT id, status, products, created_at
        FROM candidates
        WHERE to_tsvector(
                  'simple',
                  translate(
                      company_name || ' ' || contact_email || ' ' || coalesce(location, ''),
                      '@._-+/<>&~', '          '
                  )
              ) @@ to_tsquery('simple', :words)
        LIMIT :most
    )
"""
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
_SEARCH_OLDEST = _MATCHED + _OLDEST_MATCHED
_SEARCH_NEWEST = _MATCHED + _NEWEST_MATCHED
SEARCH = {
    "oldest": text(_SEARCH_OLDEST + _MATCHED_OLDEST_FIRST).bindparams(_AFTER),
    "newest": text(_SEARCH_NEWEST + _MATCHED_NEWEST_FIRST).bindparams(_AFTER),
}

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
