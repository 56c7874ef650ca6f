"""The SQL of users."""

from __future__ import annotations

from sqlalchemy import text

# Find who logs in, with the hash to check.
FIND_CREDENTIALS = text("""
    SELECT id, email, role, disabled_at, password_hash
    FROM users
    WHERE lower(email) = lower(:email)
""")

# Find the user a token speaks for.
FIND_USER = text("""
    SELECT id, email, role, disabled_at
    FROM users
    WHERE id = :user_id
""")

# Add a user, unless the address is taken.
INSERT_USER = text("""
    INSERT INTO users (email, password_hash, role)
    VALUES (:email, :password_hash, :role)
    ON CONFLICT (lower(email)) DO NOTHING
    RETURNING id, email, role, disabled_at
""")

# Add the first admin of an empty house; two starters make one.
INSERT_FIRST_ADMIN = text("""
    INSERT INTO users (email, password_hash, role)
    SELECT :email, :password_hash, 'admin'
    WHERE NOT EXISTS (SELECT FROM users)
    ON CONFLICT (lower(email)) DO NOTHING
    RETURNING id, email, role, disabled_at
""")

# Whether anybody can log in yet.
ANY_USER_EXISTS = text("SELECT EXISTS (SELECT FROM users)")

# Change a password; a disabled user stays disabled.
UPDATE_PASSWORD = text("""
    UPDATE users SET password_hash = :password_hash
    WHERE lower(email) = lower(:email)
    RETURNING id
""")

# Take a user's access away.
DISABLE_USER = text("""
    UPDATE users SET disabled_at = coalesce(disabled_at, now())
    WHERE lower(email) = lower(:email)
    RETURNING id
""")
