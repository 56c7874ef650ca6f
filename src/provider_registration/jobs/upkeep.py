"""The background task of every process that observes jobs and deletes old ones."""

from __future__ import annotations

import logging

from provider_registration.jobs.service import JobService
from provider_registration.observability.logs import RateLimitedLogger
from provider_registration.periodic import repeat

logger = logging.getLogger(__name__)

SECONDS = 10.0


async def keep_jobs_up(jobs: JobService, retention_days: int | None) -> None:
    """Observe and prune until cancelled; None: keep jobs for ever."""
    limited = RateLimitedLogger(logger)

    async def work() -> bool:
        await jobs.observe()
        return retention_days is not None and await jobs.prune(retention_days)

    later = "the database does not respond; upkeep of jobs will be retried"
    await repeat(work, seconds=SECONDS, logger=limited, later=later, failed="upkeep of jobs failed")
