"""The background task of every replica that completes what a crash or a failing billing service left."""

from __future__ import annotations

import asyncio
import logging
import secrets

from provider_registration.candidates.approval.service import ApprovalService
from provider_registration.database import DatabaseUnavailable
from provider_registration.logs import RateLimitedLogger
from provider_registration.metrics import LAST_SWEEP_TIMESTAMP

logger = logging.getLogger(__name__)

SWEEPS_A_LEASE = 10
JITTER = secrets.SystemRandom()


class Sweeper:
    """Sweeps about ten times a lease: every 3 s with a lease of 30 s, jittered, so that replicas spread out."""

    def __init__(self, approvals: ApprovalService) -> None:
        self._approvals = approvals
        self._logger = RateLimitedLogger(logger)
        self._interval = approvals.lease_seconds / SWEEPS_A_LEASE

    async def run(self) -> None:
        """Sweep until cancelled. What goes wrong is logged, and the next sweep comes all the same."""
        LAST_SWEEP_TIMESTAMP.set_to_current_time()
        while True:
            try:
                await self._approvals.sweep()
                await self._approvals.observe()
                LAST_SWEEP_TIMESTAMP.set_to_current_time()
            except DatabaseUnavailable:
                self._logger.warning("the database does not answer; approvals are swept later")
            except Exception:
                self._logger.exception("a sweep failed")
            await asyncio.sleep(self._interval * JITTER.uniform(0.5, 1.5))
