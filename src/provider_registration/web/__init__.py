"""Shared HTTP code: routing, errors, limits, pagination, the server. Independent of features."""
