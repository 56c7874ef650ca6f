"""Errors of the broker."""

from __future__ import annotations


class BrokerUnavailable(Exception):
    """The broker did not store events; the message says why, without the broker's URL."""
