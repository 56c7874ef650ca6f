"""Named points at which a test can kill or pause the process.

Nothing in the package sets the hook, so outside tests every point is passed immediately.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

hook: Callable[[str], Awaitable[None]] | None = None


async def reach(name: str) -> None:
    """Pass the point `name`."""
    if hook is not None:
        await hook(name)
