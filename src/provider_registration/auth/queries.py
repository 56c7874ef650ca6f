"""The SQL of users."""

from __future__ import annotations

from sqlalchemy import text

# Find who logs in, with the hash to check; one row, without an id where nobody has the address. A user made by an
# earlier release has no canonical address until a command writes it, and is found as that release finds them.
FIND_CREDENTIALS = text("""
    SELECT users.id, users.role, users.disabled_at, users.password_hash
    FROM (SELECT) AS asked
    LEFT JOIN users ON users.email_canonical = :email_canonical
                    OR (users.email_canonical IS NULL AND lower(users.email) = lower(:email))
    ORDER BY users.email_canonical
    LIMIT 1
""")

# Add a user, unless the address is taken.
INSERT_USER = text("""
    INSERT INTO users (email, email_canonical, password_hash, role)
    VALUES (:email, :email_canonical, :password_hash, :role)
    ON CONFLICT DO NOTHING
    RETURNING id
""")

# Add the first admin of an empty house; two starters make one.
INSERT_FIRST_ADMIN = text("""
    INSERT INTO users (email, email_canonical, password_hash, role)
    SELECT :email, :email_canonical, :password_hash, 'admin'
    WHERE NOT EXISTS (SELECT FROM users)
    ON CONFLICT DO NOTHING
    RETURNING id
""")

# Whether anybody can log in yet.
ANY_USER_EXISTS = text("SELECT EXISTS (SELECT FROM users)")

# Store a better hash of the password that was just verified, unless the password was changed meanwhile.
UPGRADE_HASH = text("""
    UPDATE users SET password_hash = :new_hash
    WHERE id = :user_id AND password_hash = :password_hash
""")

# Whether anybody who can log in is an admin.
ANY_ADMIN_EXISTS = text("SELECT EXISTS (SELECT FROM users WHERE role = 'admin' AND disabled_at IS NULL)")

# Lock the sessions of a user, or of everybody, before they are ended: an UPDATE that waits for one of them would write
# times from before its wait.
LOCK_SESSIONS = text("""
    SELECT id FROM sessions
    WHERE revoked_at IS NULL AND (CAST(:user_id AS uuid) IS NULL OR user_id = :user_id)
    ORDER BY id
    FOR NO KEY UPDATE
""")

# End a user's sessions: a statement of its own after the one that changes the user, which may have waited for a log-in
# whose session it does not see.
END_SESSIONS = text("""
    UPDATE sessions SET revoked_at = clock_timestamp() WHERE user_id = :user_id AND revoked_at IS NULL
""")

# End everybody's sessions, and tell how many there were.
END_ALL_SESSIONS = text("""
    WITH ended AS (
        UPDATE sessions SET revoked_at = clock_timestamp() WHERE revoked_at IS NULL RETURNING expires_at
    )
    SELECT count(*) FROM ended WHERE expires_at > now()
""")

# Change a password; a disabled user stays disabled.
UPDATE_PASSWORD = text("""
    UPDATE users SET password_hash = :password_hash
    WHERE email_canonical = :email_canonical
    RETURNING id
""")

# Give a user another role.
UPDATE_ROLE = text("""
    UPDATE users SET role = :role
    WHERE email_canonical = :email_canonical
    RETURNING id
""")

# Take a user's access away.
DISABLE_USER = text("""
    UPDATE users SET disabled_at = coalesce(disabled_at, now())
    WHERE email_canonical = :email_canonical
    RETURNING id
""")

# Give a disabled user access again.
ENABLE_USER = text("""
    UPDATE users SET disabled_at = NULL
    WHERE email_canonical = :email_canonical
    RETURNING id
""")

# Begin a session, unless the user was disabled or got another password or role since they were checked.
# FOR SHARE waits for a change under way, and PostgreSQL checks the conditions again after it.
BEGIN_SESSION = text("""
    INSERT INTO sessions (user_id, expires_at)
    SELECT id, now() + make_interval(secs => :session_seconds)
    FROM users
    WHERE id = :user_id AND password_hash = :password_hash AND role = :role AND disabled_at IS NULL
    FOR SHARE
    RETURNING id
""")

# Give a session its next refresh token.
INSERT_REFRESH_TOKEN = text("""
    INSERT INTO refresh_tokens (token_hash, session_id, expires_at)
    VALUES (:token_hash, :session_id, now() + make_interval(secs => :idle_seconds))
""")

# The session of a refresh token with its user; whoever else brings the same token waits.
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

# Which of these refresh tokens there is, not used yet.
FIND_UNUSED_REFRESH_TOKEN = text("""
    SELECT token_hash FROM refresh_tokens WHERE token_hash = ANY(:token_hashes) AND used_at IS NULL
""")

# A refresh token works once.
USE_REFRESH_TOKEN = text("""
    UPDATE refresh_tokens SET used_at = now() WHERE token_hash = :token_hash
""")

# Give a session the secret that its browser shows.
INSERT_BROWSER_SESSION = text("""
    INSERT INTO browser_sessions (secret_hash, session_id) VALUES (:secret_hash, :session_id)
""")

# Who shows a browser's secret, if the session has not ended, the browser was not idle, and the user is not disabled.
# That it was used is written once a minute: pages are asked for more often.
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
    )
    SELECT session_id, user_id, role, email FROM found
""")

# End a session early.
REVOKE_SESSION = text("""
    UPDATE sessions SET revoked_at = clock_timestamp() WHERE id = :session_id AND revoked_at IS NULL
""")

# Sessions that ended early since it was asked last, by the database's clock, or since that clock was set back, and some
# seconds before; one row without a session when there are none.
LIST_REVOKED_SESSIONS = text("""
    SELECT asked.at, sessions.id
    FROM (SELECT now() AS at) AS asked
    LEFT JOIN sessions
        ON sessions.revoked_at > least(CAST(:asked_before AS timestamptz), asked.at) - make_interval(secs => :seconds)
""")

# Forget sessions that ended a day ago, a bounded number at a time; their refresh tokens go with them.
DELETE_EXPIRED_SESSIONS = text("""
    DELETE FROM sessions
    WHERE id IN (SELECT id FROM sessions WHERE expires_at < now() - interval '1 day' LIMIT :limit)
""")
