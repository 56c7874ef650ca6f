"""Periodic background work."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable

from provider_registration.db.database import DatabaseUnavailable
from provider_registration.observability.logs import RateLimitedLogger

MORE_SECONDS = 0.1  # until the next run if more work is waiting
JITTER = secrets.SystemRandom()


async def repeat(
    work: Callable[[], Awaitable[bool]], *, seconds: float, logger: RateLimitedLogger, later: str, failed: str
) -> None:
    """Run `work` about every `seconds` until cancelled, with jitter so that processes spread out.

    `work` returns whether more work is waiting; then it runs again after MORE_SECONDS.

    Errors are logged and do not stop the repetition: `later` is the message if the database does not respond, and
    `failed` the one for any other error.
    """
    while True:
        has_more = False
        try:
            has_more = await work()
        except DatabaseUnavailable:
            logger.warning(later)
        except Exception:
            logger.exception(failed)
        await asyncio.sleep((MORE_SECONDS if has_more else seconds) * JITTER.uniform(0.5, 1.5))
