"""SQL for users and sessions."""

from __future__ import annotations

from sqlalchemy import text

# Find a user by e-mail address, with the hash to check: one row, with NULLs if there is no such user. Users
# added by an earlier release have no canonical address until a command writes it; match them as that release does.
FIND_CREDENTIALS = text("""
    SELECT users.id, users.role, users.disabled_at, users.password_hash
    FROM (SELECT) AS request
    LEFT JOIN users ON users.email_canonical = :email_canonical
                    OR (users.email_canonical IS NULL AND lower(users.email) = lower(:email))
    ORDER BY users.email_canonical
    LIMIT 1
""")

# Add a user, unless the e-mail address is taken.
INSERT_USER = text("""
    WITH added AS (
        INSERT INTO users (email, email_canonical, password_hash, role)
        VALUES (:email, :email_canonical, :password_hash, :role)
        ON CONFLICT DO NOTHING
        RETURNING id, role
    ), recorded AS (
        INSERT INTO audit_events (type, actor_kind, subject_kind, subject_id, data)
        SELECT 'user.created', 'service', 'user', id, jsonb_build_object('role', role) FROM added
    )
    SELECT id FROM added
""")

# Add the first admin if there are no users; two concurrent starts create only one.
INSERT_FIRST_ADMIN = text("""
    WITH added AS (
        INSERT INTO users (email, email_canonical, password_hash, role)
        SELECT :email, :email_canonical, :password_hash, 'admin'
        WHERE NOT EXISTS (SELECT FROM users)
        ON CONFLICT DO NOTHING
        RETURNING id, role
    ), recorded AS (
        INSERT INTO audit_events (type, actor_kind, subject_kind, subject_id, data)
        SELECT 'user.created', 'service', 'user', id, jsonb_build_object('role', role) FROM added
    )
    SELECT id FROM added
""")

# Whether there is any user.
ANY_USER_EXISTS = text("SELECT EXISTS (SELECT FROM users)")

# Replace the outdated hash of the password that was just verified, unless the password has changed since.
UPGRADE_HASH = text("""
    UPDATE users SET password_hash = :new_hash
    WHERE id = :user_id AND password_hash = :password_hash
""")

# Whether a user is an admin who is not disabled, or an API key one that is valid.
MAY_DECIDE = text("""
    SELECT CASE :actor_kind
        WHEN 'user' THEN EXISTS (
            SELECT FROM users WHERE id = :actor_id AND role = 'admin' AND disabled_at IS NULL
        )
        WHEN 'api_key' THEN EXISTS (
            SELECT FROM api_keys
            WHERE id = :actor_id AND role = 'admin' AND revoked_at IS NULL
              AND (expires_at IS NULL OR expires_at > clock_timestamp())
        )
    END
""")

# Whether there is an admin who is not disabled.
ANY_ADMIN_EXISTS = text("SELECT EXISTS (SELECT FROM users WHERE role = 'admin' AND disabled_at IS NULL)")

# Lock the sessions of a user, or of all users, before ending them: an UPDATE that waits for a row lock would write the
# time from before its wait.
LOCK_SESSIONS = text("""
    SELECT id FROM sessions
    WHERE revoked_at IS NULL AND (CAST(:user_id AS uuid) IS NULL OR user_id = :user_id)
    ORDER BY id
    FOR NO KEY UPDATE
""")

# End the sessions of a user, or of all users, and count those that had not expired: a separate statement after the one
# that changes the user, because that one may have waited for a sign-in whose session it does not see.
END_SESSIONS = text("""
    WITH ended AS (
        UPDATE sessions SET revoked_at = clock_timestamp()
        WHERE revoked_at IS NULL AND (CAST(:user_id AS uuid) IS NULL OR user_id = :user_id)
        RETURNING user_id, expires_at
    ), recorded AS (
        INSERT INTO audit_events (type, actor_kind, subject_kind, subject_id, data)
        SELECT 'session.ended', 'service', 'user', user_id,
               jsonb_build_object('reason', CAST(:reason AS text), 'sessions', count(*))
        FROM ended
        WHERE expires_at > now()
        GROUP BY user_id
    )
    SELECT count(*) FROM ended WHERE expires_at > now()
""")

# Change a password; a disabled user stays disabled.
UPDATE_PASSWORD = text("""
    WITH changed AS (
        UPDATE users SET password_hash = :password_hash
        WHERE email_canonical = :email_canonical
        RETURNING id
    ), recorded AS (
        INSERT INTO audit_events (type, actor_kind, subject_kind, subject_id)
        SELECT 'user.password_changed', 'service', 'user', id FROM changed
    )
    SELECT id FROM changed
""")

# Change a user's role. As below, only a change is recorded; the user's ID is returned also if there is none.
UPDATE_ROLE = text("""
    WITH before AS (
        SELECT id, role FROM users WHERE email_canonical = :email_canonical FOR NO KEY UPDATE
    ), changed AS (
        UPDATE users SET role = :role FROM before WHERE users.id = before.id AND before.role <> :role
        RETURNING users.id, users.role, before.role AS previous_role
    ), recorded AS (
        INSERT INTO audit_events (type, actor_kind, subject_kind, subject_id, data)
        SELECT 'user.role_changed', 'service', 'user', id,
               jsonb_build_object('role', role, 'previous_role', previous_role)
        FROM changed
    )
    SELECT id FROM before
""")

# Disable a user.
DISABLE_USER = text("""
    WITH before AS (
        SELECT id, disabled_at FROM users WHERE email_canonical = :email_canonical FOR NO KEY UPDATE
    ), changed AS (
        UPDATE users SET disabled_at = now() FROM before WHERE users.id = before.id AND before.disabled_at IS NULL
        RETURNING users.id
    ), recorded AS (
        INSERT INTO audit_events (type, actor_kind, subject_kind, subject_id)
        SELECT 'user.disabled', 'service', 'user', id FROM changed
    )
    SELECT id FROM before
""")

# Enable a disabled user.
ENABLE_USER = text("""
    WITH before AS (
        SELECT id, disabled_at FROM users WHERE email_canonical = :email_canonical FOR NO KEY UPDATE
    ), changed AS (
        UPDATE users SET disabled_at = NULL FROM before WHERE users.id = before.id AND before.disabled_at IS NOT NULL
        RETURNING users.id
    ), recorded AS (
        INSERT INTO audit_events (type, actor_kind, subject_kind, subject_id)
        SELECT 'user.enabled', 'service', 'user', id FROM changed
    )
    SELECT id FROM before
""")

# Begin a session, unless the user was disabled or their password or role changed since the password was checked.
# FOR SHARE waits for a concurrent change, after which PostgreSQL evaluates the conditions again.
BEGIN_SESSION = text("""
    WITH begun AS (
        INSERT INTO sessions (user_id, expires_at)
        SELECT id, now() + make_interval(secs => :session_seconds)
        FROM users
        WHERE id = :user_id AND password_hash = :password_hash AND role = :role AND disabled_at IS NULL
        FOR SHARE
        RETURNING id, user_id
    ), recorded AS (
        INSERT INTO audit_events (type, actor_kind, actor_id, subject_kind, subject_id, data)
        SELECT 'session.started', 'user', user_id, 'user', user_id,
               jsonb_build_object('session_id', id, 'kind', CAST(:kind AS text))
        FROM begun
    )
    SELECT id FROM begun
""")

# Record a failed sign-in: one an hour for each account, and one an hour for all unknown accounts together, so that
# strangers cannot fill the log. The commit is not waited for: a wait would tell known accounts from unknown ones.
RECORD_FAILURE = text("""
    WITH asynchronous AS MATERIALIZED (SELECT set_config('synchronous_commit', 'off', true))
    INSERT INTO audit_events (type, actor_kind, subject_kind, subject_id)
    SELECT 'session.failed', 'service', CASE WHEN CAST(:user_id AS uuid) IS NOT NULL THEN 'user' END,
           CAST(:user_id AS uuid)
    FROM asynchronous
    ON CONFLICT DO NOTHING
""")

# Add a refresh token to a session.
INSERT_REFRESH_TOKEN = text("""
    INSERT INTO refresh_tokens (token_hash, session_id, expires_at)
    VALUES (:token_hash, :session_id, now() + make_interval(secs => :idle_seconds))
""")

# Lock a refresh token and its session, and read them with the user; concurrent uses of the token wait.
LOCK_REFRESH_TOKEN = text("""
    SELECT refresh_tokens.session_id, users.id AS user_id, users.role, refresh_tokens.used_at,
           refresh_tokens.used_at > clock_timestamp() - make_interval(secs => :grace_seconds) AS was_just_used,
           refresh_tokens.expires_at > now() AND sessions.expires_at > now()
           AND sessions.revoked_at IS NULL AND users.disabled_at IS NULL AS is_good
    FROM refresh_tokens
    JOIN sessions ON sessions.id = refresh_tokens.session_id
    JOIN users ON users.id = sessions.user_id
    WHERE token_hash = :token_hash
    FOR UPDATE OF refresh_tokens, sessions
""")

# Which of these refresh tokens exists and is unused.
FIND_UNUSED_REFRESH_TOKEN = text("""
    SELECT token_hash FROM refresh_tokens WHERE token_hash = ANY(:token_hashes) AND used_at IS NULL
""")

# Mark a refresh token as used.
USE_REFRESH_TOKEN = text("""
    UPDATE refresh_tokens SET used_at = now() WHERE token_hash = :token_hash
""")

# Store the hash of a browser's session secret.
INSERT_BROWSER_SESSION = text("""
    INSERT INTO browser_sessions (secret_hash, session_id) VALUES (:secret_hash, :session_id)
""")

# Find the user of a browser's secret, if the session has not ended or been idle too long, and the user is not disabled.
# `seen_at` is written at most once a minute, because pages are requested more often.
FIND_BROWSER_SESSION = text("""
    WITH found AS (
        SELECT browser_sessions.secret_hash, browser_sessions.session_id, users.id AS user_id, users.role, users.email
        FROM browser_sessions
        JOIN sessions ON sessions.id = browser_sessions.session_id
        JOIN users ON users.id = sessions.user_id
        WHERE browser_sessions.secret_hash = :secret_hash
          AND browser_sessions.seen_at > now() - make_interval(secs => :idle_seconds)
          AND sessions.expires_at > now()
          AND sessions.revoked_at IS NULL
          AND users.disabled_at IS NULL
    ), seen AS (
        UPDATE browser_sessions SET seen_at = now()
        FROM found
        WHERE browser_sessions.secret_hash = found.secret_hash
          AND browser_sessions.seen_at < now() - interval '1 minute'
          AND CAST(:is_use AS boolean)
    )
    SELECT session_id, user_id, role, email FROM found
""")

# End a session early: the user signs out, or the service ends it.
REVOKE_SESSION = text("""
    WITH ended AS (
        UPDATE sessions SET revoked_at = clock_timestamp() WHERE id = :session_id AND revoked_at IS NULL
        RETURNING id, user_id
    )
    INSERT INTO audit_events (type, actor_kind, actor_id, subject_kind, subject_id, data)
    SELECT 'session.ended', CAST(:actor_kind AS text), CAST(:actor_id AS uuid), 'user', user_id,
           jsonb_build_object('session_id', id, 'reason', CAST(:reason AS text))
    FROM ended
""")

# Sessions and API keys revoked since the last poll, less some seconds of overlap, by the database's clock, which may
# have been set back; one row without an ID if there are none.
LIST_REVOKED = text("""
    SELECT poll.at, revoked.id
    FROM (SELECT now() AS at) AS poll
    LEFT JOIN (
        SELECT id, revoked_at FROM sessions
        UNION ALL
        SELECT id, revoked_at FROM api_keys
    ) AS revoked
        ON revoked.revoked_at > least(CAST(:last_poll AS timestamptz), poll.at) - make_interval(secs => :seconds)
""")

# The API keys with these hashes that were not revoked.
FIND_API_KEYS = text("""
    SELECT key_hash, id, role, expires_at FROM api_keys WHERE key_hash = ANY(:hashes) AND revoked_at IS NULL
""")

# Store when API keys were used, some seconds ago, to the minute. Keys locked by others are left out: those that are
# used again are written next time.
STORE_KEY_USES = text("""
    WITH used AS (
        SELECT id, date_trunc('minute', clock_timestamp() - make_interval(secs => age)) AS at
        FROM unnest(CAST(:ids AS uuid[]), CAST(:ages AS float8[])) AS used (id, age)
    ), free AS (
        SELECT api_keys.id, used.at
        FROM used
        JOIN api_keys ON api_keys.id = used.id
        WHERE api_keys.last_used_at IS NULL OR api_keys.last_used_at < used.at
        FOR NO KEY UPDATE OF api_keys SKIP LOCKED
    )
    UPDATE api_keys SET last_used_at = free.at FROM free WHERE api_keys.id = free.id
""")

# Delete sessions that expired a day ago, a bounded number at a time; their refresh tokens are deleted with them.
DELETE_EXPIRED_SESSIONS = text("""
    DELETE FROM sessions
    WHERE id IN (SELECT id FROM sessions WHERE expires_at < now() - interval '1 day' LIMIT :limit)
""")
