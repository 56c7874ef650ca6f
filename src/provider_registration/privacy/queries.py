"""SQL for export and erasure."""

from __future__ import annotations

from sqlalchemy import text

from provider_registration.db.statements import ERASED_EMAIL, statement

# The data held about the company with an e-mail address, without the user who decided, the hash of its status secret
# and its search text, which repeats the rest.
EXPORT_CANDIDATE = text("""
    SELECT to_jsonb(candidates) - CAST('{status_secret_hash, rejected_by, search_text}' AS text[])
           || jsonb_build_object('events', coalesce(
               (SELECT jsonb_agg(jsonb_build_object('at', at, 'type', type, 'data', data || coalesce(details, '{}'))
                                 ORDER BY at, id)
                FROM (
                    SELECT event.id, at, type, data, details
                    FROM candidate_events AS event LEFT JOIN candidate_event_details ON event_id = event.id
                    WHERE event.candidate_id = candidates.id
                    UNION ALL
                    SELECT id, at, type, data, NULL
                    FROM audit_events
                    WHERE subject_kind = 'candidate' AND subject_id = candidates.id
                ) AS event), '[]'))
           || jsonb_build_object('links_in_emails', coalesce(
               (SELECT jsonb_agg(created_at ORDER BY created_at) FROM status_links
                WHERE candidate_id = candidates.id), '[]'))
           || jsonb_build_object('idempotency_keys', coalesce(
               (SELECT jsonb_agg(created_at ORDER BY created_at) FROM idempotency_keys
                WHERE candidate_id = candidates.id), '[]'))
    FROM candidates WHERE contact_email_canonical = :email_canonical
""")

# The rows of imported files that have an e-mail address and are not registered, with the headings of their files.
EXPORT_IMPORT_ROWS = text("""
    SELECT coalesce(jsonb_agg(jsonb_build_object(
               'import_id', import_id, 'sent_at', imports.created_at, 'row', row_number, 'columns', imports.columns,
               'cells', cells) ORDER BY imports.created_at, import_id, position), '[]')
    FROM import_rows JOIN imports ON imports.id = import_id
    WHERE CAST(:email_canonical AS text) = ANY(string_to_array(addresses, E'\\n'))
""")

# Erase them; the import leaves them out.
ERASE_IMPORT_ROWS = text("""
    UPDATE import_rows
    SET cells = NULL, addresses = '', outcome = 'erased', errors = NULL, email_canonical = NULL
    WHERE CAST(:email_canonical AS text) = ANY(string_to_array(addresses, E'\\n'))
""")

# The data held about the user with an e-mail address, without the password hash.
EXPORT_USER = text("""
    SELECT to_jsonb(users) - 'password_hash' || jsonb_build_object(
               'sessions', coalesce(
                   (SELECT jsonb_agg(jsonb_build_object(
                        'created_at', created_at, 'expires_at', expires_at, 'revoked_at', revoked_at)
                        ORDER BY created_at)
                    FROM sessions WHERE user_id = users.id), '[]'),
               'events', coalesce(
                   (SELECT jsonb_agg(jsonb_build_object('at', at, 'type', type, 'candidate_id', candidate_id)
                        ORDER BY at, id)
                    FROM candidate_events WHERE actor_id = users.id), '[]'),
               'audit_events', coalesce(
                   (SELECT jsonb_agg(jsonb_build_object(
                        'at', at, 'type', type, 'by_the_user', actor_id IS NOT DISTINCT FROM users.id, 'data', data)
                        ORDER BY at, id)
                    FROM audit_events
                    WHERE actor_id = users.id OR subject_kind = 'user' AND subject_id = users.id), '[]'))
    FROM users WHERE email_canonical = :email_canonical
""")

# Lock the candidate with an e-mail address, so that it cannot be decided.
LOCK_CANDIDATE = text("""
    SELECT id FROM candidates WHERE contact_email_canonical = :email_canonical FOR UPDATE
""")

# Whether there is an unfinished approval. Run it after the lock: a statement that waited has an older snapshot.
HAS_UNFINISHED_APPROVAL = text("""
    SELECT EXISTS (SELECT FROM approval_intents WHERE candidate_id = :candidate_id)
""")

# The triggers do not change `version` and `updated_at` when the canonical address changes, so both erase statements
# write them.

# Erase a candidate's personal data, the errors of its approvals and messages, and its status link; a trigger deletes
# links in e-mails. Counted facts and the decision stay; a pending candidate is rejected. The name of an approved one
# stays too: it is the provider's name in billing. `updated_at` is the time of the decision; erasure does not change it.
ERASE_CANDIDATE = statement(
    """
    WITH erased AS (
        UPDATE candidates
        SET contact_email = {erased_email},
            contact_email_canonical = {erased_email},
            company_name = CASE status WHEN 'approved' THEN company_name ELSE 'erased' END,
            phone = NULL,
            location = NULL,
            language = NULL,
            rejection_reason = NULL,
            status_secret_hash = NULL,
            search_text = '',
            status = CASE status WHEN 'pending' THEN 'rejected' ELSE status END,
            version = version + 1,
            updated_at = CASE status WHEN 'pending' THEN now() ELSE updated_at END
        WHERE id = :candidate_id
        RETURNING id, status, version
    ), recorded AS (
        INSERT INTO candidate_events (candidate_id, type, actor_kind, version)
        SELECT id, 'candidate.erased', 'service', version FROM erased
    ), forgotten AS (
        DELETE FROM candidate_event_details WHERE candidate_id = :candidate_id
    ), forgotten_answers AS (
        DELETE FROM idempotency_keys WHERE candidate_id = :candidate_id
    ), forgotten_responses AS (
        UPDATE deliveries SET last_error = NULL
        FROM candidate_events AS event
        WHERE event.candidate_id = :candidate_id AND deliveries.event_id = event.id
    ), forgotten_there AS (
        UPDATE approval_events SET detail = NULL WHERE candidate_id = :candidate_id
    )
    SELECT status FROM erased
    """,
    erased_email=ERASED_EMAIL,
)

# Erase a user's personal data and disable the user; events keep the user's ID.
ERASE_USER = statement(
    """
    WITH erased AS (
        UPDATE users
        SET email = {erased_email},
            email_canonical = {erased_email},
            password_hash = '!',
            disabled_at = coalesce(disabled_at, now()),
            updated_at = now()
        WHERE email_canonical = :email_canonical
        RETURNING id
    ), recorded AS (
        INSERT INTO audit_events (type, actor_kind, subject_kind, subject_id)
        SELECT 'user.erased', 'service', 'user', id FROM erased
    )
    SELECT id FROM erased
    """,
    erased_email=ERASED_EMAIL,
)
