"""The background task that deletes old imports."""

from __future__ import annotations

import logging

from provider_registration.imports.service import ImportService
from provider_registration.observability.logs import RateLimitedLogger
from provider_registration.periodic import repeat

logger = logging.getLogger(__name__)

SECONDS = 600.0


async def keep_deleting_imports(imports: ImportService) -> None:
    """Delete imports that are kept long enough, until cancelled."""
    later = "the database does not respond; deleting old imports will be retried"
    await repeat(
        imports.delete_expired,
        seconds=SECONDS,
        logger=RateLimitedLogger(logger),
        later=later,
        failed="deleting old imports failed",
    )
