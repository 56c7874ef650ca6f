// What the equal store reads and writes, each a single statement: rows, their events, and approvals that survive a crash.
// Triggers of the schema keep the version, counts, keys of similar companies, queue of events and copies of events.
export const makeStatements = (sql) => {
  const COLUMNS = sql`
    id AS candidate_id, status, company_name, contact_email, phone, products, truck_count, capacity_tons_per_day,
    location, created_at, updated_at, provider_id, version, rejection_reason,
    (SELECT row_to_json(summary)
     FROM (SELECT state, requested_at, attempts, CASE WHEN state = 'waiting' THEN next_attempt_at END AS next_attempt_at,
                  last_error
           FROM unfinished_approvals WHERE candidate_id = candidates.id) AS summary) AS approval`
  // Written out, so that the partial index of the product is used.
  const PRODUCT = {
    apples: sql`AND products @> ARRAY['apples'::text]`,
    oranges: sql`AND products @> ARRAY['oranges'::text]`,
    grapes: sql`AND products @> ARRAY['grapes'::text]`,
    bananas: sql`AND products @> ARRAY['bananas'::text]`,
    mangoes: sql`AND products @> ARRAY['mangoes'::text]`
  }

  return {
    find: (id) => sql`SELECT ${COLUMNS} FROM candidates WHERE id = ${id}`,

    count: (status, product) => sql`
      SELECT coalesce(sum(count), 0)::int AS total FROM candidate_counts
      WHERE product = ${product ?? ''} ${status ? sql`AND status = ${status}` : sql``}`,

    page: (status, product, after, limit, offset) => sql`
      SELECT ${COLUMNS}, (extract(epoch FROM created_at) * 1000000)::bigint AS micros
      FROM candidates
      WHERE true
      ${status ? sql`AND status = ${status}` : sql``}
      ${product ? PRODUCT[product] : sql``}
      ${after
        ? sql`AND (created_at, id) < ('epoch'::timestamptz + ${after.micros}::bigint * interval '1 microsecond', ${after.id})`
        : sql``}
      ORDER BY created_at DESC, id DESC LIMIT ${limit} OFFSET ${offset}`,

    register: (company, canonical, text) => sql`
      WITH added AS (
        INSERT INTO candidates
          (company_name, contact_email, phone, products, truck_count, capacity_tons_per_day, location,
           contact_email_canonical, search_text)
        VALUES (${company.company_name}, ${company.contact_email}, ${company.phone}, ${company.products},
                ${company.truck_count}, ${company.capacity_tons_per_day}, ${company.location}, ${canonical}, ${text})
        RETURNING *
      ), recorded AS (
        INSERT INTO candidate_events (candidate_id, type, actor_kind, version)
        SELECT id, 'candidate.registered', 'applicant', version FROM added
      )
      SELECT id AS candidate_id, status, company_name, contact_email, phone, products, truck_count,
             capacity_tons_per_day, location, created_at, updated_at, provider_id, version, rejection_reason,
             NULL AS approval
      FROM added`,

    lock: (tx, id) => tx`SELECT id FROM candidates WHERE id = ${id} FOR NO KEY UPDATE`,

    // After the lock: a statement that waited itself would not see an approval that began meanwhile.
    reject: (tx, id, reason, actor) => tx`
      WITH seen AS (
        SELECT candidates.id, candidates.status, candidates.version, intent.candidate_id IS NOT NULL AS has_approval
        FROM candidates
        LEFT JOIN approval_intents AS intent ON intent.candidate_id = candidates.id
        WHERE candidates.id = ${id}
      ), rejected AS (
        UPDATE candidates
        SET status = 'rejected', rejection_reason = ${reason}, rejected_by = ${actor}
        FROM seen
        WHERE candidates.id = seen.id AND candidates.status = 'pending' AND candidates.version = seen.version
          AND NOT seen.has_approval
        RETURNING candidates.id, candidates.version, candidates.rejected_by
      ), recorded AS (
        INSERT INTO candidate_events (candidate_id, type, actor_kind, actor_id, version)
        SELECT id, 'candidate.rejected', 'user', rejected_by, version FROM rejected
      )
      SELECT seen.status, seen.has_approval, rejected.id IS NOT NULL AS is_rejected
      FROM seen LEFT JOIN rejected USING (id)`,

    // One row if there is the candidate; with a claim if it is pending and its approval is new, or waits to go on.
    claim: (id, key, claimId, actor, leaseSeconds) => sql`
      WITH free AS (
        SELECT id, version, company_name FROM candidates WHERE id = ${id} AND status = 'pending' FOR NO KEY UPDATE
      ), claimed AS (
        INSERT INTO approval_intents AS intent
          (candidate_id, idempotency_key, provider_name, requested_by, requested_by_kind, claim_id, next_attempt_at)
        SELECT id, ${key}::uuid, company_name, ${actor}::uuid, 'user', ${claimId}::uuid,
               clock_timestamp() + make_interval(secs => ${leaseSeconds})
        FROM free
        ON CONFLICT (candidate_id) DO UPDATE
        SET claim_id = excluded.claim_id, next_attempt_at = excluded.next_attempt_at, attempts = intent.attempts + 1
        WHERE intent.in_doubt_since IS NULL
          AND (intent.claim_id IS NULL OR intent.next_attempt_at <= clock_timestamp())
        RETURNING candidate_id, idempotency_key, provider_name, claim_id, attempts
      ), recorded AS (
        INSERT INTO candidate_events (candidate_id, type, actor_kind, actor_id, version, data)
        SELECT claimed.candidate_id,
               CASE claimed.attempts WHEN 1 THEN 'candidate.approval_requested' ELSE 'candidate.approval_retried' END,
               'user', ${actor}::uuid, free.version, jsonb_build_object('idempotency_key', claimed.idempotency_key)
        FROM claimed JOIN free ON free.id = claimed.candidate_id
      )
      SELECT candidates.status, candidates.version, candidates.id AS candidate_id, claimed.idempotency_key,
             claimed.provider_name, claimed.claim_id, claimed.attempts,
             EXISTS (SELECT FROM approval_intents WHERE candidate_id = candidates.id) AS has_approval
      FROM candidates LEFT JOIN claimed ON claimed.candidate_id = candidates.id
      WHERE candidates.id = ${id}`,

    claimDue: (claimId, leaseSeconds, limit) => sql`
      UPDATE approval_intents
      SET claim_id = ${claimId}, next_attempt_at = clock_timestamp() + make_interval(secs => ${leaseSeconds}),
          attempts = attempts + 1
      WHERE candidate_id IN (
        SELECT candidate_id FROM approval_intents
        WHERE in_doubt_since IS NULL AND next_attempt_at <= clock_timestamp()
        ORDER BY next_attempt_at LIMIT ${limit} FOR UPDATE SKIP LOCKED
      )
      RETURNING candidate_id, idempotency_key, provider_name, claim_id, attempts,
                (SELECT version FROM candidates WHERE id = approval_intents.candidate_id) AS version`,

    // If it was decided meanwhile, the provider is recorded as an orphan.
    finish: (id, version, key, providerId) => sql`
      WITH approved AS (
        UPDATE candidates SET status = 'approved', provider_id = ${providerId}::integer
        WHERE id = ${id} AND status = 'pending' AND version = ${version}
        RETURNING id, version
      ), ended AS (
        DELETE FROM approval_intents WHERE candidate_id = ${id} RETURNING requested_by, requested_by_kind
      ), recorded AS (
        INSERT INTO candidate_events (candidate_id, type, actor_kind, actor_id, version, data)
        SELECT ${id}::uuid,
               CASE WHEN approved.id IS NULL THEN 'candidate.provider_orphaned' ELSE 'candidate.approved' END,
               coalesce(ended.requested_by_kind, 'service'), ended.requested_by, approved.version,
               jsonb_build_object('idempotency_key', ${key}::text, 'provider_id', ${providerId}::integer)
        FROM (VALUES (1)) AS one LEFT JOIN approved ON true LEFT JOIN ended ON true
      )
      SELECT EXISTS (SELECT FROM approved) AS is_approved`,

    keepWaiting: (id, claimId, seconds, reason) => sql`
      UPDATE approval_intents
      SET claim_id = NULL, next_attempt_at = now() + make_interval(secs => ${seconds}), last_error = ${reason}
      WHERE candidate_id = ${id} AND claim_id = ${claimId}`,

    doubt: (id, claimId, reason) => sql`
      WITH marked AS (
        UPDATE approval_intents SET claim_id = NULL, in_doubt_since = now(), last_error = ${reason}
        WHERE candidate_id = ${id} AND claim_id = ${claimId}
        RETURNING candidate_id, idempotency_key
      )
      INSERT INTO candidate_events (candidate_id, type, actor_kind, data)
      SELECT candidate_id, 'candidate.approval_in_doubt', 'service',
             jsonb_build_object('idempotency_key', idempotency_key)
      FROM marked`,

    drop: (id, claimId) => sql`
      WITH dropped AS (
        DELETE FROM approval_intents WHERE candidate_id = ${id} AND claim_id = ${claimId}
        RETURNING candidate_id, idempotency_key
      )
      INSERT INTO candidate_events (candidate_id, type, actor_kind, data)
      SELECT candidate_id, 'candidate.approval_failed', 'service', jsonb_build_object('idempotency_key', idempotency_key)
      FROM dropped`
  }
}
