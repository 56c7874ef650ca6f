"""Password hashing with Argon2id, kept off the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from passlib.hash import argon2
from zxcvbn.frequency_lists import FREQUENCY_LISTS

from provider_registration.auth.errors import LoginsBusy, UnacceptablePassword

# OWASP Password Storage Cheat Sheet: 19 MiB of memory, two passes, one lane.
ARGON2ID = argon2.using(type="ID", memory_cost=19_456, rounds=2, parallelism=1)

MAX_QUEUED = 40  # log-ins at once: a check takes some 40 ms of a core, so that the last one waits about a second
MIN_LENGTH = 8
MAX_LENGTH = 128
COMMON_PASSWORDS = frozenset(FREQUENCY_LISTS["passwords"])

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class PasswordCheck:
    """Whether a password is right; `better_hash` is to be stored when today's parameters are stronger."""

    is_right: bool
    better_hash: str | None = None


class PasswordHasher:
    """Hashes and checks passwords in at most `threads` threads, so that logins never crowd out other work."""

    def __init__(self, *, threads: int = 2) -> None:
        self._queued = 0
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="password")
        self._decoy: str = ARGON2ID.hash("nobody's password")

    @contextmanager
    def queue(self) -> Iterator[None]:
        """Hold one of MAX_QUEUED places during the block, so that nobody in the queue waits long.

        Raises:
            LoginsBusy: all are taken.
        """
        if self._queued >= MAX_QUEUED:
            raise LoginsBusy
        self._queued += 1
        try:
            yield
        finally:
            self._queued -= 1

    async def hash(self, password: str) -> str:
        """Make a new hash of `password`.

        Raises:
            UnacceptablePassword: it is too short, too long, or among the most common ones.
        """
        if not MIN_LENGTH <= len(password) <= MAX_LENGTH:
            raise UnacceptablePassword(f"A password has {MIN_LENGTH} to {MAX_LENGTH} characters.")
        if password.lower() in COMMON_PASSWORDS:
            raise UnacceptablePassword("This password is among the most common ones; choose another.")
        return await self._run(ARGON2ID.hash, password)

    async def verify(self, password: str, password_hash: str | None) -> PasswordCheck:
        """Compare `password` with what is behind the hash; without a hash, take as long and say no."""
        if password_hash is None or not ARGON2ID.identify(password_hash):  # that of an erased user is none
            password_hash = None
        is_right = await self._run(ARGON2ID.verify, password, password_hash or self._decoy)
        if not is_right or password_hash is None:
            return PasswordCheck(is_right=False)
        if ARGON2ID.needs_update(password_hash):
            return PasswordCheck(is_right=True, better_hash=await self._run(ARGON2ID.hash, password))
        return PasswordCheck(is_right=True)

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def _run(self, function: Callable[..., Result], *arguments: str) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._pool, function, *arguments)
