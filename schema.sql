-- The database's schema at the newest migration, to read, and to set up an empty database without alembic:
--     psql -v ON_ERROR_STOP=1 --single-transaction -f schema.sql DATABASE
-- Made by `python tests/schema_dump.py > schema.sql`; a test compares it with the migrations. Do not edit.

CREATE EXTENSION IF NOT EXISTS pg_trgm;

CREATE TABLE alembic_version (
    version_num character varying(32) NOT NULL,
    CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);

CREATE TABLE users (
    id uuid NOT NULL DEFAULT gen_random_uuid(),
    email character varying(255) NOT NULL,
    password_hash text NOT NULL,
    role character varying(20) NOT NULL,
    disabled_at timestamp with time zone,
    created_at timestamp with time zone NOT NULL DEFAULT now(),
    updated_at timestamp with time zone NOT NULL DEFAULT now(),
    email_canonical text,
    CONSTRAINT pk_users PRIMARY KEY (id),
    CONSTRAINT ck_users_role CHECK (role::text = ANY (ARRAY['admin'::text, 'viewer'::text]))
);

CREATE UNIQUE INDEX uq_users_email_canonical ON users USING btree (email_canonical);
CREATE UNIQUE INDEX uq_users_email_lower ON users USING btree (lower(email::text));

CREATE TABLE candidate_counts (
    product text NOT NULL,
    status character varying(20) NOT NULL,
    shard smallint NOT NULL,
    count bigint NOT NULL,
    tons_per_day bigint NOT NULL DEFAULT 0,
    CONSTRAINT pk_candidate_counts PRIMARY KEY (product, status, shard)
) WITH (fillfactor=50, autovacuum_vacuum_scale_factor=0, autovacuum_vacuum_threshold=1000);

CREATE TABLE event_dispatcher (
    is_only boolean NOT NULL DEFAULT true,
    last_position bigint NOT NULL,
    pruned_position bigint NOT NULL DEFAULT 0,
    CONSTRAINT pk_event_dispatcher PRIMARY KEY (is_only),
    CONSTRAINT ck_event_dispatcher_is_only CHECK (is_only)
) WITH (fillfactor=10);

CREATE TABLE event_queue (
    event_id bigint NOT NULL,
    candidate_id uuid NOT NULL,
    CONSTRAINT pk_event_queue PRIMARY KEY (event_id)
) WITH (autovacuum_vacuum_scale_factor=0, autovacuum_vacuum_threshold=1000);

CREATE TABLE candidates (
    id uuid NOT NULL DEFAULT gen_random_uuid(),
    status character varying(20) NOT NULL DEFAULT 'pending'::character varying,
    company_name character varying(255) NOT NULL,
    contact_email character varying(255) NOT NULL,
    phone character varying(50),
    products text[] NOT NULL,
    truck_count integer NOT NULL,
    capacity_tons_per_day integer NOT NULL,
    location character varying(255),
    created_at timestamp with time zone NOT NULL DEFAULT now(),
    updated_at timestamp with time zone NOT NULL DEFAULT now(),
    provider_id integer,
    version integer NOT NULL DEFAULT 1,
    rejection_reason character varying(1000),
    status_secret_hash bytea,
    rejected_by uuid,
    contact_email_canonical text,
    search_text text,
    language text,
    CONSTRAINT pk_candidates PRIMARY KEY (id),
    CONSTRAINT fk_candidates_rejected_by FOREIGN KEY (rejected_by) REFERENCES users(id),
    CONSTRAINT ck_candidates_approved_has_provider CHECK ((status::text = 'approved'::text) = (provider_id IS NOT NULL)),
    CONSTRAINT ck_candidates_capacity_tons_per_day CHECK (capacity_tons_per_day > 0),
    CONSTRAINT ck_candidates_company_name_trimmed CHECK (company_name::text <> ''::text AND company_name::text = btrim(company_name::text)),
    CONSTRAINT ck_candidates_language CHECK (length(language) <= 35 AND language ~ '^[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*$'::text),
    CONSTRAINT ck_candidates_products_known CHECK (products <@ ARRAY['apples'::text, 'oranges'::text, 'grapes'::text, 'bananas'::text, 'mangoes'::text]),
    CONSTRAINT ck_candidates_products_not_empty CHECK (cardinality(products) > 0),
    CONSTRAINT ck_candidates_provider_id CHECK (provider_id >= 1),
    CONSTRAINT ck_candidates_reason_only_when_rejected CHECK (rejection_reason IS NULL OR status::text = 'rejected'::text),
    CONSTRAINT ck_candidates_rejected_by_only_when_rejected CHECK (rejected_by IS NULL OR status::text = 'rejected'::text),
    CONSTRAINT ck_candidates_status CHECK (status::text = ANY (ARRAY['pending'::text, 'approved'::text, 'rejected'::text])),
    CONSTRAINT ck_candidates_truck_count CHECK (truck_count > 0),
    CONSTRAINT ck_candidates_version CHECK (version >= 1)
);

CREATE INDEX ix_candidates_apples ON candidates USING btree (created_at DESC, id DESC) INCLUDE (status) WHERE products @> ARRAY['apples'::text];
CREATE INDEX ix_candidates_bananas ON candidates USING btree (created_at DESC, id DESC) INCLUDE (status) WHERE products @> ARRAY['bananas'::text];
CREATE INDEX ix_candidates_created_at_id ON candidates USING btree (created_at DESC, id DESC);
CREATE INDEX ix_candidates_decided_at ON candidates USING btree (updated_at) INCLUDE (status, created_at) WHERE status::text <> 'pending'::text;
CREATE INDEX ix_candidates_grapes ON candidates USING btree (created_at DESC, id DESC) INCLUDE (status) WHERE products @> ARRAY['grapes'::text];
CREATE INDEX ix_candidates_mangoes ON candidates USING btree (created_at DESC, id DESC) INCLUDE (status) WHERE products @> ARRAY['mangoes'::text];
CREATE INDEX ix_candidates_oranges ON candidates USING btree (created_at DESC, id DESC) INCLUDE (status) WHERE products @> ARRAY['oranges'::text];
CREATE INDEX ix_candidates_search_text ON candidates USING gin (search_text gin_trgm_ops) WITH (gin_pending_list_limit='256');
CREATE INDEX ix_candidates_status_created_at_id ON candidates USING btree (status, created_at DESC, id DESC);
CREATE INDEX ix_candidates_without_search_text ON candidates USING btree (id) WHERE search_text IS NULL;
CREATE INDEX ix_candidates_words ON candidates USING gin (to_tsvector('simple'::regconfig, translate((((company_name::text || ' '::text) || contact_email::text) || ' '::text) || COALESCE(location, ''::character varying)::text, '@._-+/<>&~'::text, '          '::text))) WITH (gin_pending_list_limit='256');
CREATE UNIQUE INDEX uq_candidates_contact_email_canonical ON candidates USING btree (contact_email_canonical);
CREATE UNIQUE INDEX uq_candidates_contact_email_lower ON candidates USING btree (lower(contact_email::text));
CREATE UNIQUE INDEX uq_candidates_provider_id ON candidates USING btree (provider_id);
CREATE UNIQUE INDEX uq_candidates_status_secret_hash ON candidates USING btree (status_secret_hash) WHERE status_secret_hash IS NOT NULL;

CREATE TABLE sessions (
    id uuid NOT NULL DEFAULT gen_random_uuid(),
    user_id uuid NOT NULL,
    created_at timestamp with time zone NOT NULL DEFAULT now(),
    expires_at timestamp with time zone NOT NULL,
    revoked_at timestamp with time zone,
    CONSTRAINT pk_sessions PRIMARY KEY (id),
    CONSTRAINT fk_sessions_user_id FOREIGN KEY (user_id) REFERENCES users(id),
    CONSTRAINT ck_sessions_length CHECK (expires_at <= (created_at + '168:00:00'::interval))
);

CREATE INDEX ix_sessions_expires_at ON sessions USING btree (expires_at);
CREATE INDEX ix_sessions_revoked_at ON sessions USING btree (revoked_at) WHERE revoked_at IS NOT NULL;
CREATE INDEX ix_sessions_user_id ON sessions USING btree (user_id);

CREATE TABLE approval_events (
    id bigint NOT NULL GENERATED ALWAYS AS IDENTITY,
    candidate_id uuid NOT NULL,
    idempotency_key uuid NOT NULL,
    event character varying(20) NOT NULL,
    at timestamp with time zone NOT NULL DEFAULT now(),
    user_id uuid,
    provider_id integer,
    detail text,
    CONSTRAINT pk_approval_events PRIMARY KEY (id),
    CONSTRAINT fk_approval_events_candidate_id FOREIGN KEY (candidate_id) REFERENCES candidates(id) ON DELETE RESTRICT,
    CONSTRAINT fk_approval_events_user_id FOREIGN KEY (user_id) REFERENCES users(id),
    CONSTRAINT ck_approval_events_event CHECK (event::text = ANY (ARRAY['requested'::text, 'retry_requested'::text, 'failed'::text, 'in_doubt'::text, 'linked'::text, 'let_go'::text, 'approved'::text, 'orphaned'::text]))
);

CREATE INDEX ix_approval_events_candidate_id ON approval_events USING btree (candidate_id, id);
CREATE INDEX ix_approval_events_orphaned ON approval_events USING btree (id) WHERE event::text = 'orphaned'::text;

CREATE TABLE approval_intents (
    candidate_id uuid NOT NULL,
    idempotency_key uuid NOT NULL,
    provider_name character varying(255) NOT NULL,
    requested_by uuid NOT NULL,
    requested_at timestamp with time zone NOT NULL DEFAULT now(),
    claim_id uuid,
    next_attempt_at timestamp with time zone NOT NULL,
    attempts integer NOT NULL DEFAULT 1,
    last_error text,
    in_doubt_since timestamp with time zone,
    CONSTRAINT pk_approval_intents PRIMARY KEY (candidate_id),
    CONSTRAINT uq_approval_intents_idempotency_key UNIQUE (idempotency_key),
    CONSTRAINT fk_approval_intents_candidate_id FOREIGN KEY (candidate_id) REFERENCES candidates(id) ON DELETE RESTRICT,
    CONSTRAINT fk_approval_intents_requested_by FOREIGN KEY (requested_by) REFERENCES users(id)
);

CREATE INDEX ix_approval_intents_next_attempt_at ON approval_intents USING btree (next_attempt_at);
CREATE UNIQUE INDEX uq_approval_intents_provider_name ON approval_intents USING btree (provider_name);

CREATE TABLE candidate_events (
    id bigint NOT NULL GENERATED ALWAYS AS IDENTITY,
    candidate_id uuid NOT NULL,
    type text NOT NULL,
    at timestamp with time zone NOT NULL DEFAULT clock_timestamp(),
    actor_kind text NOT NULL,
    actor_id uuid,
    version integer,
    data jsonb NOT NULL DEFAULT '{}'::jsonb,
    approval_event_id bigint,
    CONSTRAINT pk_candidate_events PRIMARY KEY (id),
    CONSTRAINT fk_candidate_events_candidate_id FOREIGN KEY (candidate_id) REFERENCES candidates(id) ON DELETE RESTRICT,
    CONSTRAINT ck_candidate_events_actor CHECK ((actor_kind = ANY (ARRAY['applicant'::text, 'user'::text, 'api_key'::text, 'service'::text])) AND (actor_id IS NOT NULL) = (actor_kind = ANY (ARRAY['user'::text, 'api_key'::text]))),
    CONSTRAINT ck_candidate_events_type CHECK (type ~ '^candidate\.[a-z_]{1,40}$'::text)
);

CREATE INDEX ix_candidate_events_at_id ON candidate_events USING btree (at, id);
CREATE INDEX ix_candidate_events_candidate_id ON candidate_events USING btree (candidate_id, at, id);
CREATE INDEX ix_candidate_events_provider_orphaned ON candidate_events USING btree (candidate_id) WHERE type = 'candidate.provider_orphaned'::text;
CREATE UNIQUE INDEX uq_candidate_events_approval_event_id ON candidate_events USING btree (approval_event_id) WHERE approval_event_id IS NOT NULL;

CREATE TABLE browser_sessions (
    secret_hash bytea NOT NULL,
    session_id uuid NOT NULL,
    seen_at timestamp with time zone NOT NULL DEFAULT now(),
    CONSTRAINT pk_browser_sessions PRIMARY KEY (secret_hash),
    CONSTRAINT fk_browser_sessions_session_id FOREIGN KEY (session_id) REFERENCES sessions(id) ON DELETE CASCADE
);

CREATE INDEX ix_browser_sessions_session_id ON browser_sessions USING btree (session_id);

CREATE TABLE refresh_tokens (
    token_hash bytea NOT NULL,
    session_id uuid NOT NULL,
    expires_at timestamp with time zone NOT NULL,
    used_at timestamp with time zone,
    CONSTRAINT pk_refresh_tokens PRIMARY KEY (token_hash),
    CONSTRAINT fk_refresh_tokens_session_id FOREIGN KEY (session_id) REFERENCES sessions(id) ON DELETE CASCADE
);

CREATE INDEX ix_refresh_tokens_session_id ON refresh_tokens USING btree (session_id);

CREATE TABLE candidate_event_details (
    event_id bigint NOT NULL,
    candidate_id uuid NOT NULL,
    details jsonb NOT NULL,
    CONSTRAINT pk_candidate_event_details PRIMARY KEY (event_id),
    CONSTRAINT fk_candidate_event_details_event_id FOREIGN KEY (event_id) REFERENCES candidate_events(id) ON DELETE CASCADE
);

CREATE INDEX ix_candidate_event_details_candidate_id ON candidate_event_details USING btree (candidate_id);

CREATE TABLE deliveries (
    id bigint NOT NULL GENERATED ALWAYS AS IDENTITY,
    kind text NOT NULL,
    target text NOT NULL,
    event_id bigint,
    state text NOT NULL DEFAULT 'pending'::text,
    attempts integer NOT NULL DEFAULT 0,
    next_attempt_at timestamp with time zone DEFAULT clock_timestamp(),
    last_status integer,
    last_error text,
    data jsonb NOT NULL DEFAULT '{}'::jsonb,
    created_at timestamp with time zone NOT NULL DEFAULT clock_timestamp(),
    updated_at timestamp with time zone NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT pk_deliveries PRIMARY KEY (id),
    CONSTRAINT uq_deliveries_event_id_kind_target UNIQUE (event_id, kind, target),
    CONSTRAINT fk_deliveries_event_id FOREIGN KEY (event_id) REFERENCES candidate_events(id) ON DELETE CASCADE,
    CONSTRAINT ck_deliveries_kind CHECK (kind ~ '^[a-z_]{1,40}$'::text),
    CONSTRAINT ck_deliveries_state CHECK ((state = ANY (ARRAY['pending'::text, 'delivering'::text, 'delivered'::text, 'failed'::text, 'dead'::text, 'unknown'::text])) AND (next_attempt_at IS NOT NULL) = (state = ANY (ARRAY['pending'::text, 'delivering'::text])))
) WITH (fillfactor=70);

CREATE INDEX ix_deliveries_due ON deliveries USING btree (kind, target, next_attempt_at) WHERE state = ANY (ARRAY['pending'::text, 'delivering'::text]);
CREATE INDEX ix_deliveries_kind_target_id ON deliveries USING btree (kind, target, id);
CREATE INDEX ix_deliveries_state_id ON deliveries USING btree (state, id);
CREATE INDEX ix_deliveries_updated_at ON deliveries USING btree (updated_at);
CREATE INDEX ix_deliveries_waiting ON deliveries USING btree (kind, id) WHERE state = ANY (ARRAY['pending'::text, 'delivering'::text]);

CREATE TABLE event_positions (
    "position" bigint NOT NULL,
    event_id bigint NOT NULL,
    candidate_id uuid NOT NULL,
    sequence integer NOT NULL,
    CONSTRAINT pk_event_positions PRIMARY KEY ("position"),
    CONSTRAINT uq_event_positions_candidate_id_sequence UNIQUE (candidate_id, sequence),
    CONSTRAINT uq_event_positions_event_id UNIQUE (event_id),
    CONSTRAINT fk_event_positions_event_id FOREIGN KEY (event_id) REFERENCES candidate_events(id) ON DELETE CASCADE
);

CREATE VIEW unfinished_approvals AS
 SELECT candidate_id,
    idempotency_key,
    provider_name,
    requested_by,
    requested_at,
    claim_id,
    next_attempt_at,
    attempts,
    last_error,
    in_doubt_since,
        CASE
            WHEN in_doubt_since IS NOT NULL THEN 'in_doubt'::text
            WHEN claim_id IS NOT NULL AND next_attempt_at > now() THEN 'in_progress'::text
            ELSE 'waiting'::text
        END AS state
   FROM approval_intents;

CREATE OR REPLACE FUNCTION public.approval_events_copy()
 RETURNS trigger
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'public', 'pg_temp'
AS $function$
    BEGIN
        PERFORM copy_approval_event(NEW.id);
        RETURN NULL;
    END;
    $function$;

CREATE OR REPLACE FUNCTION public.candidate_events_copy()
 RETURNS trigger
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'public', 'pg_temp'
AS $function$
    DECLARE
        event_there text := CASE NEW.type
            WHEN 'candidate.approval_requested' THEN 'requested'
            WHEN 'candidate.approval_retried' THEN 'retry_requested'
            WHEN 'candidate.approval_failed' THEN 'failed'
            WHEN 'candidate.approval_in_doubt' THEN 'in_doubt'
            WHEN 'candidate.approval_linked' THEN 'linked'
            WHEN 'candidate.approval_released' THEN 'let_go'
            WHEN 'candidate.approved' THEN CASE WHEN NEW.data ? 'linked' THEN NULL ELSE 'approved' END
            WHEN 'candidate.provider_orphaned' THEN 'orphaned'
        END;
    BEGIN
        IF event_there IS NOT NULL THEN
            INSERT INTO approval_events (candidate_id, idempotency_key, event, at, user_id, provider_id, detail)
            VALUES (
                NEW.candidate_id, CAST(NEW.data ->> 'idempotency_key' AS uuid), event_there, NEW.at,
                CASE WHEN event_there <> 'approved' THEN NEW.actor_id END,
                CAST(NEW.data ->> 'provider_id' AS integer),
                (SELECT details ->> 'error' FROM candidate_event_details WHERE event_id = NEW.id)
            );
        END IF;
        RETURN NULL;
    END;
    $function$;

CREATE OR REPLACE FUNCTION public.candidate_events_queue()
 RETURNS trigger
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'public', 'pg_temp'
AS $function$
    BEGIN
        INSERT INTO event_queue (event_id, candidate_id) SELECT id, candidate_id FROM new_rows;
        RETURN NULL;
    END;
    $function$;

CREATE OR REPLACE FUNCTION public.candidates_before_update()
 RETURNS trigger
 LANGUAGE plpgsql
 SET search_path TO 'public', 'pg_temp'
AS $function$
    DECLARE
        filled record := OLD;
    BEGIN
        IF OLD.search_text IS NULL AND NEW.search_text IS NOT NULL THEN
            filled.search_text = NEW.search_text;
            IF filled IS NOT DISTINCT FROM NEW THEN
                RETURN NEW;
            END IF;
        END IF;
        NEW.updated_at = now();
        NEW.version = OLD.version + 1;
        RETURN NEW;
    END;
    $function$;

CREATE OR REPLACE FUNCTION public.candidates_canonical_email()
 RETURNS trigger
 LANGUAGE plpgsql
AS $function$
    BEGIN
        -- Of ASCII it is lower case; the service fills the rest.
        NEW.contact_email_canonical = CASE WHEN octet_length(NEW.contact_email) = char_length(NEW.contact_email)
                          THEN lower(NEW.contact_email COLLATE "C") END;
        RETURN NEW;
    END;
    $function$;

CREATE OR REPLACE FUNCTION public.candidates_count_changes()
 RETURNS trigger
 LANGUAGE plpgsql
 SET search_path TO 'public', 'pg_temp'
AS $function$
    DECLARE
        mine integer := pg_backend_pid() % 16;
    BEGIN
        -- Skip counts that another open transaction has locked, and use the next free ones.
        FOR _ IN 1..16 LOOP
            EXIT WHEN pg_try_advisory_xact_lock(1668183155, mine);
            mine := (mine + 1) % 16;
        END LOOP;
        IF TG_OP = 'INSERT' THEN
            INSERT INTO candidate_counts AS kept (product, status, shard, count, tons_per_day)
            SELECT product, status, mine, count(*), sum(capacity_tons_per_day)
            FROM new_rows, LATERAL (SELECT '' UNION SELECT unnest(products)) AS counted (product)
            GROUP BY product, status
            ORDER BY product, status
            ON CONFLICT (product, status, shard) DO UPDATE
            SET count = kept.count + excluded.count, tons_per_day = kept.tons_per_day + excluded.tons_per_day;
        ELSIF TG_OP = 'DELETE' THEN
            INSERT INTO candidate_counts AS kept (product, status, shard, count, tons_per_day)
            SELECT product, status, mine, -count(*), -sum(capacity_tons_per_day)
            FROM old_rows, LATERAL (SELECT '' UNION SELECT unnest(products)) AS counted (product)
            GROUP BY product, status
            ORDER BY product, status
            ON CONFLICT (product, status, shard) DO UPDATE
            SET count = kept.count + excluded.count, tons_per_day = kept.tons_per_day + excluded.tons_per_day;
        ELSE
            INSERT INTO candidate_counts AS kept (product, status, shard, count, tons_per_day)
            SELECT product, status, mine, sum(change), sum(tons)
            FROM (
                SELECT status, products, 1 AS change, capacity_tons_per_day::bigint AS tons FROM new_rows
                UNION ALL
                SELECT status, products, -1, -capacity_tons_per_day::bigint FROM old_rows
            ) AS changed, LATERAL (SELECT '' UNION SELECT unnest(products)) AS counted (product)
            GROUP BY product, status
            HAVING sum(change) <> 0 OR sum(tons) <> 0
            ORDER BY product, status
            ON CONFLICT (product, status, shard) DO UPDATE
            SET count = kept.count + excluded.count, tons_per_day = kept.tons_per_day + excluded.tons_per_day;
        END IF;
        RETURN NULL;
    END;
    $function$;

CREATE OR REPLACE FUNCTION public.candidates_empty_search_text()
 RETURNS trigger
 LANGUAGE plpgsql
AS $function$
    BEGIN
        -- Not in the trigger's WHEN: PostgreSQL lets no column change its type that a trigger names.
        IF (OLD.company_name, OLD.contact_email, OLD.phone, OLD.location)
            IS DISTINCT FROM (NEW.company_name, NEW.contact_email, NEW.phone, NEW.location) THEN
            NEW.search_text = NULL;
        END IF;
        RETURN NEW;
    END;
    $function$;

CREATE OR REPLACE FUNCTION public.candidates_forget_counts()
 RETURNS trigger
 LANGUAGE plpgsql
 SET search_path TO 'public', 'pg_temp'
AS $function$
    BEGIN
        DELETE FROM candidate_counts;
        RETURN NULL;
    END;
    $function$;

CREATE OR REPLACE FUNCTION public.candidates_record_missing_events()
 RETURNS trigger
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'public', 'pg_temp'
AS $function$
    BEGIN
        IF TG_OP = 'INSERT' THEN
            INSERT INTO candidate_events (candidate_id, type, at, actor_kind, version, data)
            SELECT id, 'candidate.registered', created_at, 'applicant', 1, '{"backfilled": true}'
            FROM new_rows
            WHERE NOT EXISTS (SELECT FROM candidate_events AS event WHERE event.candidate_id = new_rows.id);
            IF NOT FOUND THEN
                RETURN NULL;
            END IF;
            INSERT INTO candidate_events (candidate_id, type, at, actor_kind, actor_id, version, data)
            SELECT id, 'candidate.' || status, updated_at,
                   CASE WHEN rejected_by IS NULL THEN 'service' ELSE 'user' END, rejected_by, version,
                   jsonb_strip_nulls(jsonb_build_object('backfilled', true, 'provider_id', provider_id))
            FROM new_rows
            WHERE status <> 'pending';
        ELSE
            INSERT INTO candidate_events (candidate_id, type, actor_kind, actor_id, version, data)
            SELECT changed.id, 'candidate.' || changed.status,
                   CASE WHEN changed.rejected_by IS NULL THEN 'service' ELSE 'user' END, changed.rejected_by,
                   changed.version,
                   jsonb_strip_nulls(jsonb_build_object('backfilled', true, 'provider_id', changed.provider_id))
            FROM new_rows AS changed
            JOIN old_rows USING (id)
            WHERE changed.status <> old_rows.status
              AND changed.status <> 'pending'
              AND NOT EXISTS (
                  SELECT FROM candidate_events AS event
                  WHERE event.candidate_id = changed.id
                    AND event.type IN ('candidate.' || changed.status, 'candidate.erased')
                    AND event.version = changed.version
              )
              AND NOT EXISTS (
                  SELECT FROM approval_events AS event
                  WHERE event.candidate_id = changed.id
                    AND event.event IN ('approved', 'linked')
                    AND event.provider_id = changed.provider_id
              );
        END IF;
        RETURN NULL;
    END;
    $function$;

CREATE OR REPLACE FUNCTION public.copy_approval_event(source_id bigint)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'public', 'pg_temp'
AS $function$
    DECLARE
        source record;
        actor uuid;
        version_now integer;
        copied bigint;
    BEGIN
        SELECT * INTO source FROM approval_events WHERE id = source_id;
        actor := source.user_id;
        IF actor IS NULL AND source.event = 'approved' THEN
            SELECT user_id INTO actor
            FROM approval_events
            WHERE candidate_id = source.candidate_id AND id < source.id AND event IN ('requested', 'retry_requested')
            ORDER BY id DESC
            LIMIT 1;
        END IF;
        SELECT CASE WHEN pg_trigger_depth() > 0 THEN version END INTO version_now
        FROM candidates WHERE id = source.candidate_id;
        INSERT INTO candidate_events
            (candidate_id, type, at, actor_kind, actor_id, version, data, approval_event_id)
        VALUES (
            source.candidate_id,
            CASE source.event
                WHEN 'requested' THEN 'candidate.approval_requested'
                WHEN 'retry_requested' THEN 'candidate.approval_retried'
                WHEN 'failed' THEN 'candidate.approval_failed'
                WHEN 'in_doubt' THEN 'candidate.approval_in_doubt'
                WHEN 'linked' THEN 'candidate.approval_linked'
                WHEN 'let_go' THEN 'candidate.approval_released'
                WHEN 'approved' THEN 'candidate.approved'
                WHEN 'orphaned' THEN 'candidate.provider_orphaned'
            END,
            source.at,
            CASE WHEN actor IS NULL THEN 'service' ELSE 'user' END,
            actor,
            version_now,
            jsonb_strip_nulls(jsonb_build_object(
                'idempotency_key', source.idempotency_key, 'provider_id', source.provider_id
            )),
            source.id
        )
        ON CONFLICT DO NOTHING
        RETURNING id INTO copied;
        IF copied IS NOT NULL AND source.detail IS NOT NULL THEN
            INSERT INTO candidate_event_details (event_id, candidate_id, details)
            VALUES (copied, source.candidate_id, jsonb_build_object('error', source.detail));
        END IF;
        IF copied IS NOT NULL AND source.event = 'linked' THEN
            INSERT INTO candidate_events (candidate_id, type, at, actor_kind, actor_id, version, data)
            SELECT candidate_id, 'candidate.approved', at, actor_kind, actor_id, version, data || '{"linked": true}'
            FROM candidate_events WHERE id = copied;
        END IF;
    END;
    $function$;

CREATE OR REPLACE FUNCTION public.recount_candidates()
 RETURNS TABLE(product text, status character varying, missing bigint, missing_tons bigint)
 LANGUAGE sql
 SET search_path TO 'public', 'pg_temp'
AS $function$
        WITH actual AS (
            SELECT counted.product, candidates.status,
                   count(*) AS count, sum(candidates.capacity_tons_per_day)::bigint AS tons
            FROM candidates, LATERAL (SELECT '' UNION SELECT unnest(products)) AS counted (product)
            GROUP BY counted.product, candidates.status
        ), kept AS (
            SELECT candidate_counts.product, candidate_counts.status,
                   sum(candidate_counts.count)::bigint AS count, sum(candidate_counts.tons_per_day)::bigint AS tons
            FROM candidate_counts
            GROUP BY candidate_counts.product, candidate_counts.status
        ), differences AS (
            SELECT product, status,
                   coalesce(actual.count, 0) - coalesce(kept.count, 0) AS missing,
                   coalesce(actual.tons, 0) - coalesce(kept.tons, 0) AS missing_tons
            FROM actual FULL JOIN kept USING (product, status)
            WHERE coalesce(actual.count, 0) <> coalesce(kept.count, 0)
               OR coalesce(actual.tons, 0) <> coalesce(kept.tons, 0)
        ), mended AS (
            INSERT INTO candidate_counts AS kept (product, status, shard, count, tons_per_day)
            SELECT product, status, 0, missing, missing_tons FROM differences ORDER BY product, status
            ON CONFLICT (product, status, shard) DO UPDATE
            SET count = kept.count + excluded.count, tons_per_day = kept.tons_per_day + excluded.tons_per_day
        )
        SELECT product, status, missing, missing_tons FROM differences ORDER BY product, status
    $function$;

CREATE OR REPLACE FUNCTION public.users_before_update()
 RETURNS trigger
 LANGUAGE plpgsql
 SET search_path TO 'public', 'pg_temp'
AS $function$
BEGIN
    NEW.updated_at = now();
    RETURN NEW;
END;
$function$;

CREATE OR REPLACE FUNCTION public.users_canonical_email()
 RETURNS trigger
 LANGUAGE plpgsql
AS $function$
    BEGIN
        -- Of ASCII it is lower case; the service fills the rest.
        NEW.email_canonical = CASE WHEN octet_length(NEW.email) = char_length(NEW.email)
                          THEN lower(NEW.email COLLATE "C") END;
        RETURN NEW;
    END;
    $function$;

CREATE TRIGGER tr_approval_events_copy AFTER INSERT ON approval_events FOR EACH ROW WHEN (pg_trigger_depth() = 0) EXECUTE FUNCTION approval_events_copy();

CREATE TRIGGER tr_candidate_events_copy AFTER INSERT ON candidate_events FOR EACH ROW WHEN (new.data ? 'idempotency_key'::text AND pg_trigger_depth() = 0 AND new.approval_event_id IS NULL) EXECUTE FUNCTION candidate_events_copy();

CREATE TRIGGER tr_candidate_events_queue AFTER INSERT ON candidate_events REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION candidate_events_queue();

CREATE TRIGGER tr_candidates_before_update BEFORE UPDATE ON candidates FOR EACH ROW WHEN (NOT old.status_secret_hash IS DISTINCT FROM new.status_secret_hash AND NOT old.contact_email_canonical IS DISTINCT FROM new.contact_email_canonical) EXECUTE FUNCTION candidates_before_update();

CREATE TRIGGER tr_candidates_canonical_email_inserted BEFORE INSERT ON candidates FOR EACH ROW WHEN (new.contact_email_canonical IS NULL) EXECUTE FUNCTION candidates_canonical_email();

CREATE TRIGGER tr_candidates_canonical_email_updated BEFORE UPDATE OF contact_email ON candidates FOR EACH ROW WHEN (old.contact_email::text <> new.contact_email::text AND NOT old.contact_email_canonical IS DISTINCT FROM new.contact_email_canonical) EXECUTE FUNCTION candidates_canonical_email();

CREATE TRIGGER tr_candidates_count_deleted AFTER DELETE ON candidates REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION candidates_count_changes();

CREATE TRIGGER tr_candidates_count_inserted AFTER INSERT ON candidates REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION candidates_count_changes();

CREATE TRIGGER tr_candidates_count_updated AFTER UPDATE ON candidates REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION candidates_count_changes();

CREATE TRIGGER tr_candidates_empty_search_text BEFORE UPDATE ON candidates FOR EACH ROW WHEN (NOT old.search_text IS DISTINCT FROM new.search_text) EXECUTE FUNCTION candidates_empty_search_text();

CREATE TRIGGER tr_candidates_forget_counts AFTER TRUNCATE ON candidates FOR EACH STATEMENT EXECUTE FUNCTION candidates_forget_counts();

CREATE TRIGGER tr_candidates_record_inserted AFTER INSERT ON candidates REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION candidates_record_missing_events();

CREATE TRIGGER tr_candidates_record_updated AFTER UPDATE ON candidates REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION candidates_record_missing_events();

CREATE TRIGGER tr_users_before_update BEFORE UPDATE ON users FOR EACH ROW WHEN (NOT old.email_canonical IS DISTINCT FROM new.email_canonical) EXECUTE FUNCTION users_before_update();

CREATE TRIGGER tr_users_canonical_email_inserted BEFORE INSERT ON users FOR EACH ROW WHEN (new.email_canonical IS NULL) EXECUTE FUNCTION users_canonical_email();

CREATE TRIGGER tr_users_canonical_email_updated BEFORE UPDATE OF email ON users FOR EACH ROW WHEN (old.email::text <> new.email::text AND NOT old.email_canonical IS DISTINCT FROM new.email_canonical) EXECUTE FUNCTION users_canonical_email();

-- So that `alembic upgrade head` goes on from here.
INSERT INTO alembic_version VALUES ('021_event_feed');
