"""Shared HTTP code: routing, errors, limits, pagination, the server. It uses no feature."""
