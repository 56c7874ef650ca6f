"""The background task, in every process, that completes approvals left unfinished by crashes or billing failures."""

from __future__ import annotations

import logging

from provider_registration.approvals.service import ApprovalService
from provider_registration.observability.logs import RateLimitedLogger
from provider_registration.observability.metrics import LAST_SWEEP_TIMESTAMP
from provider_registration.periodic import repeat

logger = logging.getLogger(__name__)

SWEEPS_PER_LEASE = 10


async def keep_sweeping(approvals: ApprovalService) -> None:
    """Sweep until cancelled, ten times per lease: every 3 s with a lease of 30 s."""
    limited = RateLimitedLogger(logger)
    LAST_SWEEP_TIMESTAMP.set_to_current_time()

    async def sweep() -> bool:
        await approvals.sweep()
        await approvals.observe()
        LAST_SWEEP_TIMESTAMP.set_to_current_time()
        return False

    seconds = approvals.lease_seconds / SWEEPS_PER_LEASE
    later = "the database does not respond; the sweep will be retried"
    await repeat(sweep, seconds=seconds, logger=limited, later=later, failed="a sweep failed")
