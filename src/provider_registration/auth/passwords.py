"""Password hashing with Argon2id, kept off the event loop."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import TypeVar

from passlib.hash import argon2
from zxcvbn.frequency_lists import FREQUENCY_LISTS

from provider_registration.auth.errors import LoginsBusy, UnacceptablePassword
from provider_registration.web.text import MAX_PASSWORD_LENGTH, prepare_password

# OWASP Password Storage Cheat Sheet: 19 MiB of memory, two passes, one lane.
ARGON2ID = argon2.using(type="ID", memory_cost=19_456, rounds=2, parallelism=1)

MAX_QUEUED = 40  # sign-ins at once: a check takes about 40 ms of a core, so the last one waits about a second
MAX_QUEUED_PER_NETWORK = 10  # so that one client cannot fill the queue
THREADS = 2
MIN_LENGTH = 8
COMMON_PASSWORDS = frozenset(FREQUENCY_LISTS["passwords"])

WRONG_LENGTH = f"A password must have {MIN_LENGTH} to {MAX_PASSWORD_LENGTH} characters."

Result = TypeVar("Result")
CheckClient = Callable[[], Awaitable[None]]  # raises if the client has disconnected


@dataclass(frozen=True, slots=True)
class PasswordCheck:
    """Whether a password is correct; `new_hash` should replace a stored hash that is outdated."""

    is_correct: bool
    new_hash: str | None = None


class PasswordHasher:
    """Hashes and checks passwords in at most `threads` threads, so that sign-ins do not starve other work."""

    def __init__(self, *, threads: int = THREADS) -> None:
        self._queued: Counter[str] = Counter()  # by IP network
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="password")
        self._turns = asyncio.Semaphore(threads)  # first come, first served
        self._decoy = _decoy()

    @contextmanager
    def queue(self, address: str) -> Iterator[None]:
        """Hold one of MAX_QUEUED places during the block, which bounds the waiting time.

        Raises:
            LoginsBusy: the queue is full, or has MAX_QUEUED_PER_NETWORK sign-ins from this IP network.
        """
        if self._queued.total() >= MAX_QUEUED or self._queued[address] >= MAX_QUEUED_PER_NETWORK:
            raise LoginsBusy
        self._queued[address] += 1
        try:
            yield
        finally:
            self._queued[address] -= 1
            if not self._queued[address]:
                del self._queued[address]

    async def hash(self, password: str) -> str:
        """Hash `password`, prepared as RFC 8265 says.

        Raises:
            UnacceptablePassword: it is too short, too long, among the most common ones, or has forbidden characters.
        """
        if not MIN_LENGTH <= len(password) <= MAX_PASSWORD_LENGTH:
            raise UnacceptablePassword(WRONG_LENGTH)
        try:
            prepared = prepare_password(password)
        except ValueError:
            raise UnacceptablePassword("A password may not contain control or invisible characters.") from None
        if len(prepared) < MIN_LENGTH:
            raise UnacceptablePassword(WRONG_LENGTH)
        if prepared.lower() in COMMON_PASSWORDS:
            raise UnacceptablePassword("This password is among the most common ones; choose another.")
        return await self._run(ARGON2ID.hash, prepared)

    async def verify(
        self, password: str, password_hash: str | None, *, check_client: CheckClient | None = None
    ) -> PasswordCheck:
        """Check `password` against the hash; without a hash, take the same time and return False.

        `check_client` is called when a thread is free; if it raises, nothing is hashed.
        """
        async with self._turns:
            if check_client is not None:
                await check_client()
            return await self._verify(password, password_hash)

    async def _verify(self, password: str, password_hash: str | None) -> PasswordCheck:
        """Earlier releases hashed the password as typed: if that differs from the prepared one, try it next."""
        if password_hash is None or not ARGON2ID.identify(password_hash):  # an erased user has no valid hash
            password_hash = None
        spellings = _spellings(password)
        for spelling in spellings:
            is_correct = await self._run(ARGON2ID.verify, spelling, password_hash or self._decoy)
            if is_correct and password_hash is not None:
                if spelling == spellings[0] and not ARGON2ID.needs_update(password_hash):
                    return PasswordCheck(is_correct=True)
                return PasswordCheck(is_correct=True, new_hash=await self._run(ARGON2ID.hash, spellings[0]))
        return PasswordCheck(is_correct=False)

    def close(self) -> None:
        """Stop the threads."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def _run(self, function: Callable[..., Result], *arguments: str) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._pool, function, *arguments)


@cache
def _decoy() -> str:
    """What is checked instead of the hash of a user who does not exist."""
    return str(ARGON2ID.hash("nobody's password"))


def _spellings(password: str) -> list[str]:
    """The prepared password and, if it differs, the password as typed."""
    try:
        prepared = prepare_password(password)
    except ValueError:
        return [password]
    return [prepared] if prepared == password else [prepared, password]
