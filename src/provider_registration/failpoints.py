"""Named places where a test can make the process die or stand still.

Nothing in the package sets the hook, so outside tests every place is passed at once.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

hook: Callable[[str], Awaitable[None]] | None = None


async def reach(name: str) -> None:
    """Pass the place called `name`."""
    if hook is not None:
        await hook(name)
