"""The SQL of e-mails. Deliveries have no personal data: e-mail addresses and names are read when one is sent."""

from __future__ import annotations

from sqlalchemy import text

from provider_registration.candidates.models import MAX_STATUS_LINKS
from provider_registration.db.statements import ERASED_EMAIL, ERASED_EMAIL_OF_CANDIDATE, statement

# Subscription of the dispatcher: e-mails to companies about their applications. Nothing is sent about what another
# release or a change by hand did.
SUBSCRIBE = text("""
    INSERT INTO deliveries (kind, target, event_id)
    SELECT 'email', 'applicant', event.id
    FROM event_positions AS numbered
    JOIN candidate_events AS event ON event.id = numbered.event_id
    WHERE numbered.position BETWEEN :first AND :last
      AND event.type IN ('candidate.registered', 'candidate.approved', 'candidate.rejected')
      AND NOT event.data @> '{"notify": false}'
      AND NOT event.data ? 'backfilled'
      AND event.approval_event_id IS NULL
    ORDER BY numbered.position
    ON CONFLICT DO NOTHING
""")

# Subscription of the dispatcher with STAFF_DIGEST=each: an e-mail to each of :recipients about each new application,
# except those of an import, which can have thousands.
SUBSCRIBE_STAFF = text("""
    INSERT INTO deliveries (kind, target, event_id, data)
    SELECT 'email', 'staff:' || recipient, event.id,
           jsonb_build_object('after', numbered.position - 1, 'until', numbered.position)
    FROM event_positions AS numbered
    JOIN candidate_events AS event ON event.id = numbered.event_id
    CROSS JOIN generate_series(1, :recipients) AS recipient
    WHERE numbered.position BETWEEN :first AND :last
      AND event.type = 'candidate.registered'
      AND NOT event.data ? 'backfilled'
      AND NOT event.data ? 'import_id'
    ORDER BY numbered.position
    ON CONFLICT DO NOTHING
""")

# Start with the applications from now on.
START_DIGEST = text("""
    INSERT INTO staff_digest (last_position) SELECT last_position FROM event_dispatcher ON CONFLICT DO NOTHING
""")

# An e-mail to each of :recipients about the applications since the last one, if a new :period has begun; periods begin
# :offset after midnight, UTC. Without recipients, since each application has an e-mail of its own, only move on.
MAKE_DIGEST = text("""
    WITH digest AS (
        SELECT last_position
        FROM staff_digest
        WHERE made_at < date_trunc(:period, clock_timestamp() - CAST(:offset AS interval)) + CAST(:offset AS interval)
        FOR UPDATE SKIP LOCKED
    ), new AS (
        SELECT event.id AS event_id, numbered.position
        FROM event_positions AS numbered
        JOIN candidate_events AS event ON event.id = numbered.event_id
        WHERE numbered.position > (SELECT last_position FROM digest)
          AND event.type = 'candidate.registered'
          AND NOT event.data ? 'backfilled'
        ORDER BY numbered.position DESC
        LIMIT 1
    ), made AS (
        INSERT INTO deliveries (kind, target, event_id, data)
        SELECT 'email', 'staff:' || recipient, new.event_id,
               jsonb_build_object('after', digest.last_position, 'until', new.position)
        FROM digest, new, generate_series(1, :recipients) AS recipient
        ON CONFLICT DO NOTHING
    )
    UPDATE staff_digest
    SET last_position = event_dispatcher.last_position, made_at = clock_timestamp()
    FROM digest, event_dispatcher
""")

# The company that an e-mail goes to; no row if its personal data was erased.
FIND_APPLICANT = statement(
    """
    SELECT company_name, contact_email, language, rejection_reason
    FROM candidates
    WHERE id = :candidate_id AND contact_email <> {erased_email}
    """,
    erased_email=ERASED_EMAIL,
)

# The newest of the applications with positions after :after up to :until, and how many there are, up to :most + 1; not
# the erased ones.
FIND_NEW_APPLICATIONS = statement(
    """
    WITH new AS MATERIALIZED (
        SELECT candidates.id AS candidate_id, company_name, candidates.created_at, numbered.position
        FROM event_positions AS numbered
        JOIN candidate_events AS event ON event.id = numbered.event_id
        JOIN candidates ON candidates.id = event.candidate_id
        WHERE numbered.position > :after AND numbered.position <= :until
          AND event.type = 'candidate.registered'
          AND NOT event.data ? 'backfilled'
          AND contact_email <> {erased_email}
        ORDER BY numbered.position DESC
        LIMIT :most + 1
    )
    SELECT candidate_id, company_name, created_at, (SELECT count(*) FROM new) AS total
    FROM new
    ORDER BY position DESC
    LIMIT :limit
    """,
    erased_email=ERASED_EMAIL_OF_CANDIDATE,
)

# How many candidates are pending.
COUNT_PENDING = text("""
    SELECT CAST(coalesce(sum(count), 0) AS bigint) FROM candidate_counts WHERE product = '' AND status = 'pending'
""")

# The host, and the port if it is not the default, of a webhook's URL, whose path may be secret.
FIND_WEBHOOK_HOST = text("SELECT split_part(url, '/', 3) FROM webhooks WHERE id = :webhook_id")

# Have a link sent to the company with an e-mail address, if there is one, and not too many links were e-mailed already:
# others can ask too, so a request ends no link.
REQUEST_LINK = text("""
    INSERT INTO deliveries (kind, target, data)
    SELECT 'email', 'applicant', jsonb_build_object('candidate_id', id)
    FROM candidates
    WHERE contact_email_canonical = :email_canonical
      AND (SELECT count(*) FROM status_links WHERE candidate_id = candidates.id) < :most
""").bindparams(most=MAX_STATUS_LINKS)
