"""What the drills' replicas have in common."""

from __future__ import annotations

import secrets

from tests.faults.world import IMPATIENT

METRICS_TOKEN = secrets.token_hex(32)


def as_in_production(**others: object) -> dict[str, object]:
    """Settings for World.start: the defaults of production, except for limits, since one address asks for everybody."""
    return {
        **dict.fromkeys(IMPATIENT),  # None: not set
        "RATE_LIMIT_LOGIN": "",
        "RATE_LIMIT_REGISTRATION": "",
        "METRICS_ACCESS": "token",
        "METRICS_TOKEN": METRICS_TOKEN,
        **others,
    }
