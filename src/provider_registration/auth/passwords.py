"""Password hashing with Argon2id, kept off the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from passlib.hash import argon2

from provider_registration.auth.errors import UnacceptablePassword

# OWASP Password Storage Cheat Sheet: 19 MiB of memory, two passes, one lane.
_ARGON2ID = argon2.using(type="ID", memory_cost=19_456, rounds=2, parallelism=1)

Result = TypeVar("Result")

MIN_LENGTH = 8
MAX_LENGTH = 128


class PasswordHasher:
    """Hashes and checks passwords in at most `threads` threads, so that logins never crowd out other work."""

    def __init__(self, *, threads: int = 2) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="password")
        self._decoy = ""

    async def hash(self, password: str) -> str:
        """Make a new hash of `password`.

        Raises:
            UnacceptablePassword: it is not 8 to 128 characters long.
        """
        if not MIN_LENGTH <= len(password) <= MAX_LENGTH:
            raise UnacceptablePassword(f"A password has {MIN_LENGTH} to {MAX_LENGTH} characters.")
        return await self._run(_ARGON2ID.hash, password)

    async def verify(self, password: str, password_hash: str | None) -> bool:
        """Whether `password` is the one behind the hash; without a hash, take as long and say no."""
        if password_hash is None:
            self._decoy = self._decoy or await self._run(_ARGON2ID.hash, "nobody's password")
            await self._run(_ARGON2ID.verify, password, self._decoy)
            return False
        return bool(await self._run(_ARGON2ID.verify, password, password_hash))

    async def _run(self, function: Callable[..., Result], *arguments: str) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._pool, function, *arguments)

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown(wait=False, cancel_futures=True)
