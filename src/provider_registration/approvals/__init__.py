"""Approvals: exactly one provider in billing, whatever fails."""
