"""The SQL of data requests."""

from __future__ import annotations

from sqlalchemy import text

# What is held about the company that registered with an address. Left out are the member of staff who decided, what
# opens the company's status page, and its search text, which repeats the rest.
EXPORT_CANDIDATE = text("""
    SELECT to_jsonb(candidates) - CAST('{status_secret_hash, rejected_by, search_text}' AS text[])
           || jsonb_build_object('approval_events', coalesce(
               (SELECT jsonb_agg(jsonb_build_object('at', at, 'event', event, 'detail', detail) ORDER BY id)
                FROM approval_events WHERE candidate_id = candidates.id), '[]'))
    FROM candidates WHERE contact_email_canonical = :email_canonical
""")

# What is held about the member of staff who logs in with an address, but for what proves who they are.
EXPORT_USER = text("""
    SELECT to_jsonb(users) - 'password_hash' || jsonb_build_object(
               'sessions', coalesce(
                   (SELECT jsonb_agg(jsonb_build_object(
                        'created_at', created_at, 'expires_at', expires_at, 'revoked_at', revoked_at)
                        ORDER BY created_at)
                    FROM sessions WHERE user_id = users.id), '[]'),
               'approval_events', coalesce(
                   (SELECT jsonb_agg(jsonb_build_object('at', at, 'event', event, 'candidate_id', candidate_id)
                        ORDER BY id)
                    FROM approval_events WHERE user_id = users.id), '[]'),
               'rejections', coalesce(
                   (SELECT jsonb_agg(jsonb_build_object('at', updated_at, 'candidate_id', id) ORDER BY updated_at)
                    FROM candidates WHERE rejected_by = users.id), '[]'))
    FROM users WHERE email_canonical = :email_canonical
""")

# Keep others from deciding about the company that registered with an address.
LOCK_CANDIDATE = text("""
    SELECT id FROM candidates WHERE contact_email_canonical = :email_canonical FOR UPDATE
""")

# Whether an approval stands. Asked after the lock: the snapshot of a statement that waits for it is from before.
APPROVAL_STANDS = text("""
    SELECT EXISTS (SELECT FROM approval_intents WHERE candidate_id = :candidate_id)
""")

# The triggers leave `version` and `updated_at` as they are where the canonical address changes, so both statements that
# erase write them.

# Erase who a candidate is, and the link to its page. What is counted and the decision stay; one that waits for its
# decision is rejected. The name of an approved one stays too: it is that of the provider in billing.
ERASE_CANDIDATE = text("""
    UPDATE candidates
    SET contact_email = 'erased-' || id || '@erased.invalid',
        contact_email_canonical = 'erased-' || id || '@erased.invalid',
        company_name = CASE status WHEN 'approved' THEN company_name ELSE 'erased' END,
        phone = NULL,
        location = NULL,
        language = NULL,
        rejection_reason = NULL,
        status_secret_hash = NULL,
        search_text = '',
        status = CASE status WHEN 'pending' THEN 'rejected' ELSE status END,
        version = version + 1,
        updated_at = now()
    WHERE id = :candidate_id
    RETURNING status
""")

# Erase who a member of staff is, who cannot log in any more; what they did keeps their id.
ERASE_USER = text("""
    UPDATE users
    SET email = 'erased-' || id || '@erased.invalid',
        email_canonical = 'erased-' || id || '@erased.invalid',
        password_hash = '!',
        disabled_at = coalesce(disabled_at, now()),
        updated_at = now()
    WHERE email_canonical = :email_canonical
    RETURNING id
""")
