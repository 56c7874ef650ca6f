"""Approving: exactly one provider in billing, whatever dies on the way."""
