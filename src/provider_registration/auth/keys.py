"""API keys: their format, those that this process knows, and who uses them."""

from __future__ import annotations

import hashlib
import logging
import re
import secrets
import string
import sys
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from provider_registration.auth import queries
from provider_registration.auth.models import Program, Role
from provider_registration.db.batching import Batcher
from provider_registration.db.database import Database
from provider_registration.observability.logs import RateLimitedLogger
from provider_registration.periodic import repeat

logger = logging.getLogger(__name__)

PREFIX = "prk_"  # so that scanners find keys in the wrong places
SECRET_LENGTH = 43  # characters: 256 bits
SHOWN_LENGTH = len(PREFIX) + 8  # by which people recognise a key
ALPHABET = string.ascii_letters + string.digits
API_KEY = re.compile(rf"{PREFIX}[A-Za-z0-9]{{{SECRET_LENGTH}}}")
MAX_KNOWN = 4096  # keys of one process
KNOWN_SECONDS = 60.0  # then a key is looked up again; RevocationWatch remembers revoked ones for longer
WRITE_SECONDS = 15.0  # between writes of the times of use


@dataclass(frozen=True, slots=True)
class NewKey:
    """A new key: itself, what is stored, and what is shown later."""

    key: str
    key_hash: bytes
    prefix: str


def new_key() -> NewKey:
    """Make a key."""
    key = PREFIX + "".join(secrets.choice(ALPHABET) for _ in range(SECRET_LENGTH))
    return NewKey(key, _hash(key), key[:SHOWN_LENGTH])


def is_api_key(token: str) -> bool:
    """Whether a token has the format of a key."""
    return API_KEY.fullmatch(token) is not None


class KnownKeys:
    """The keys that this process found in the database; unknown ones are not remembered."""

    def __init__(self) -> None:
        self._known: OrderedDict[bytes, tuple[Program, float]] = OrderedDict()  # with the time to look it up again

    def holder(self, token: str) -> Program | None:
        """The program for which to count a request with this key, which may have been revoked since."""
        return self._known.get(_hash(token), (None, 0.0))[0] if is_api_key(token) else None

    def find(self, token: str) -> Program | None:
        """The program of a key that was looked up a short time ago and has not expired."""
        program, until = self._known.get(_hash(token), (None, 0.0))
        return program if program and until > _now() and not program.has_expired else None

    def remember(self, token: str, program: Program) -> None:
        """Remember a key that was just read."""
        self._known[_hash(token)] = (program, _now() + KNOWN_SECONDS)
        self._known.move_to_end(_hash(token))
        if len(self._known) > MAX_KNOWN:
            self._known.popitem(last=False)

    def forget(self, token: str) -> None:
        """Forget a key that no longer works."""
        self._known.pop(_hash(token), None)


class KeyVerifier:
    """Finds the programs of keys, and stores when they were used."""

    def __init__(self, database: Database, known: KnownKeys) -> None:
        self._database = database
        self._known = known
        self._lookups = Batcher(self._look_up, time_limit=database.time_limit)
        self._used: dict[UUID, float] = {}  # since the last write: when last, by `_now`

    async def find(self, token: str) -> Program | None:
        """The program of a key; None if it is unknown, expired or was revoked before the last look-up.

        Raises:
            DatabaseUnavailable: unknown.
        """
        if program := self._known.find(token):
            return program
        program = await self._lookups.do(_hash(token)) if is_api_key(token) else None
        if program is None or program.has_expired:
            self._known.forget(token)
            return None
        self._known.remember(token, program)
        return program

    def note_use(self, program: Program) -> None:
        """Note that a program made a request now."""
        self._used[program.api_key_id] = _now()

    def forget(self, token: str) -> None:
        """Forget a key that was revoked."""
        self._known.forget(token)

    async def write_uses(self) -> bool:
        """Store when keys were used since the last time."""
        if self._used:
            used, self._used = self._used, {}
            try:
                await self._write(used)
            except BaseException:
                self._used = used | self._used
                raise
        return False

    async def run(self) -> None:
        """Write until cancelled, and what is left after that."""
        limited = RateLimitedLogger(logger)
        later = "the database does not respond; the times of use of API keys will be stored later"
        failed = "the times of use of API keys could not be stored"
        try:
            await repeat(self.write_uses, seconds=WRITE_SECONDS, logger=limited, later=later, failed=failed)
        finally:
            await self.write_uses()

    async def _look_up(self, hashes: Sequence[bytes]) -> list[Program | None]:
        async with self._database.statement() as session:
            rows = await session.execute(queries.FIND_API_KEYS, {"hashes": list(hashes)})
            found = {row.key_hash: Program(row.id, row.expires_at, role=Role(row.role)) for row in rows}
        return [found.get(key_hash) for key_hash in hashes]

    async def _write(self, used: dict[UUID, float]) -> None:
        now = _now()
        parameters = {"ids": list(used), "ages": [now - at for at in used.values()]}
        async with self._database.statement() as session:
            await session.execute(queries.STORE_KEY_USES, parameters)


def _hash(key: str) -> bytes:
    """A fast hash is enough: the key is random and cannot be guessed."""
    return hashlib.sha256(key.encode()).digest()


def _now() -> float:
    """Seconds on a clock that cannot be set and keeps running during suspend, as in revocations."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if sys.platform == "linux" else time.monotonic()
