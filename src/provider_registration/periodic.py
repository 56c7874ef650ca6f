"""What every replica does again and again in the background."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable

from provider_registration.db.database import DatabaseUnavailable
from provider_registration.observability.logs import RateLimitedLogger

MORE_SECONDS = 0.1  # until the next time where more is waiting already
JITTER = secrets.SystemRandom()


async def repeat(
    work: Callable[[], Awaitable[bool]], *, seconds: float, logger: RateLimitedLogger, later: str, failed: str
) -> None:
    """Do `work` about every `seconds` until cancelled, jittered so that replicas spread out.

    `work` returns whether more is waiting; then it runs again after MORE_SECONDS.

    What goes wrong is logged, and the next time comes all the same: `later` is the message where the database does not
    answer, and `failed` that of any other error.
    """
    while True:
        is_more = False
        try:
            is_more = await work()
        except DatabaseUnavailable:
            logger.warning(later)
        except Exception:
            logger.exception(failed)
        await asyncio.sleep((MORE_SECONDS if is_more else seconds) * JITTER.uniform(0.5, 1.5))
