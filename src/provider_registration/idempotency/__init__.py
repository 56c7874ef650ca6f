"""Answers kept for requests with an `Idempotency-Key`, so that a repeated request has no second effect."""
