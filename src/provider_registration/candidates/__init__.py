"""Supplier companies that registered: listed, read, approved or rejected."""
