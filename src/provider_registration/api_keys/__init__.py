"""API keys: created, listed and revoked by admins; `auth` verifies them."""
