"""How processes find keys: what they remember, what they ask the database, and when keys were last used."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import asyncpg
import pytest
from sqlalchemy.dialects.postgresql import asyncpg as dialect

from provider_registration.api_keys.service import ApiKeyService
from provider_registration.audit.models import SERVICE
from provider_registration.auth import keys as keys_module
from provider_registration.auth import queries
from provider_registration.auth.errors import NotAuthenticated
from provider_registration.auth.keys import MAX_KNOWN, KeyVerifier, KnownKeys, new_key
from provider_registration.auth.models import Program, Role
from provider_registration.auth.revocations import STALE_SECONDS, RevocationWatch
from provider_registration.auth.service import AuthService
from provider_registration.db.database import Database, DatabaseUnavailable
from provider_registration.settings import DatabaseSettings

LAST_USED = "SELECT last_used_at FROM api_keys WHERE id = $1"


class Clock:
    def __init__(self):
        self.ahead = 0.0
        self._real = keys_module._now

    def __call__(self):
        return self._real() + self.ahead


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(keys_module, "_now", clock)
    return clock


@pytest.fixture
async def service_database(migrated_database_url):
    url = DatabaseSettings(_env_file=None, database_url=migrated_database_url).database_url
    database = Database(url, pool_size=2)
    yield database
    await database.close()


class CountingDatabase:
    """The database, with the number of statements; without it, as if it did not respond."""

    def __init__(self, database):
        self._database = database
        self.time_limit = database.time_limit
        self.statements = 0
        self.is_away = False

    def statement(self):
        if self.is_away:
            raise DatabaseUnavailable
        self.statements += 1
        return self._database.statement()


@pytest.fixture
def counted(service_database):
    return CountingDatabase(service_database)


@pytest.fixture
def known():
    return KnownKeys()


@pytest.fixture
def verifier(counted, known):
    return KeyVerifier(counted, known)


@pytest.fixture
def create(service_database):
    async def create(expires_at=None):
        service = ApiKeyService(service_database)
        return await service.create(f"ERP {uuid4().hex}", Role.VIEWER, expires_at, actor=SERVICE)

    return create


async def test_a_key_is_looked_up_once_a_minute(verifier, counted, create, clock):
    key = (await create()).key
    for _ in range(5):
        assert await verifier.find(key) is not None
    assert counted.statements == 1

    clock.ahead = 61
    await verifier.find(key)

    assert counted.statements == 2


async def test_requests_are_counted_for_a_known_key_until_a_look_up_finds_it_revoked(
    verifier, known, create, clock, service_database
):
    made = await create()
    assert known.holder(made.key) is None
    await verifier.find(made.key)

    clock.ahead = 61
    assert known.holder(made.key).api_key_id == made.api_key.api_key_id
    await ApiKeyService(service_database).revoke(made.api_key.api_key_id, actor=SERVICE)

    assert await verifier.find(made.key) is None
    assert known.holder(made.key) is None


async def test_unknown_keys_are_not_remembered_and_malformed_ones_not_looked_up(verifier, counted, known):
    unknown = [new_key().key for _ in range(200)]

    assert await asyncio.gather(*map(verifier.find, unknown)) == 200 * [None]
    assert await verifier.find("prk_" + "x" * 10_000) is None

    assert counted.statements < 20  # together, since they came together
    assert not known._known


async def test_a_key_that_was_just_created_is_found(verifier, create):
    key = new_key().key
    assert await verifier.find(key) is None
    made = await create()

    assert (await verifier.find(made.key)).api_key_id == made.api_key.api_key_id


def test_the_least_recently_found_key_is_forgotten_beyond_the_limit(known):
    keys = [new_key().key for _ in range(MAX_KNOWN + 1)]
    for key in keys:
        known.remember(key, Program(uuid4(), None, role=Role.VIEWER))

    assert len(known._known) == MAX_KNOWN
    assert known.find(keys[0]) is None
    assert known.find(keys[-1]) is not None


async def test_a_known_key_is_refused_from_the_second_of_its_expiry(verifier, known, monkeypatch):
    key, expires_at = new_key().key, datetime.now(UTC) + timedelta(hours=1)
    program = Program(uuid4(), expires_at, role=Role.VIEWER)
    known.remember(key, program)
    assert await verifier.find(key) == program

    class AtExpiry(datetime):
        @classmethod
        def now(cls, tz=None):
            return expires_at

    monkeypatch.setattr("provider_registration.auth.models.datetime", AtExpiry)

    assert known.find(key) is None
    assert await verifier.find(key) is None


@pytest.fixture
def auth(service_database, counted, verifier):
    watch = RevocationWatch(counted)
    return AuthService(service_database, None, None, watch, None, verifier)


async def test_a_known_key_that_another_process_revoked_is_refused_after_the_next_poll(
    auth, create, service_database, known
):
    made = await create()
    assert (await auth.authenticate(made.key)).api_key_id == made.api_key.api_key_id

    await ApiKeyService(service_database).revoke(made.api_key.api_key_id, actor=SERVICE)
    await auth._revocations.refresh()

    with pytest.raises(NotAuthenticated):
        await auth.authenticate(made.key)
    assert known.find(made.key) is None
    with pytest.raises(NotAuthenticated):  # nor is it found again
        await auth.authenticate(made.key)


async def test_a_key_revoked_between_its_look_up_and_its_use_is_refused(auth, create, service_database):
    made = await create()
    await auth._revocations.refresh()

    await auth._keys.find(made.key)
    await ApiKeyService(service_database, on_revoked=auth.note_revoked).revoke(made.api_key.api_key_id, actor=SERVICE)

    with pytest.raises(NotAuthenticated):
        await auth.authenticate(made.key)


async def test_without_the_database_keys_are_refused_as_sessions_are(auth, create, counted, monkeypatch):
    made = await create()
    await auth.authenticate(made.key)
    counted.is_away = True
    await auth.authenticate(made.key)  # the last poll is recent
    real = auth._revocations._polled_at
    monkeypatch.setattr(auth._revocations, "_polled_at", real - STALE_SECONDS)

    with pytest.raises(DatabaseUnavailable):
        await auth.authenticate(made.key)
    with pytest.raises(DatabaseUnavailable):
        await auth.authenticate(new_key().key)


async def test_the_time_of_use_is_stored_to_the_minute_by_few_writes(auth, verifier, counted, create, database, clock):
    made, unused = await create(), await create()
    before = datetime.now(UTC).replace(second=0, microsecond=0)
    for _ in range(20):
        await auth.authenticate(made.key)
    counted.statements = 0

    await verifier.write_uses()
    await verifier.write_uses()

    assert counted.statements == 1
    stored = await database.fetchval(LAST_USED, made.api_key.api_key_id)
    assert (stored.second, stored.microsecond) == (0, 0)
    assert before <= stored <= datetime.now(UTC)
    assert await database.fetchval(LAST_USED, unused.api_key.api_key_id) is None


async def test_a_late_write_does_not_set_the_time_of_use_back(auth, verifier, create, database, clock):
    made = await create()
    await auth.authenticate(made.key)
    later = datetime.now(UTC).replace(second=0, microsecond=0) + timedelta(minutes=5)
    await database.execute("UPDATE api_keys SET last_used_at = $2 WHERE id = $1", made.api_key.api_key_id, later)

    await verifier.write_uses()

    assert await database.fetchval(LAST_USED, made.api_key.api_key_id) == later


async def test_uses_that_could_not_be_stored_are_stored_later(auth, verifier, counted, create, database):
    made = await create()
    await auth.authenticate(made.key)
    counted.is_away = True
    with pytest.raises(DatabaseUnavailable):
        await verifier.write_uses()
    counted.is_away = False

    await verifier.write_uses()

    assert await database.fetchval(LAST_USED, made.api_key.api_key_id) is not None


async def test_a_use_during_a_write_that_fails_is_stored_and_not_the_one_before(
    auth, verifier, counted, create, database, clock, monkeypatch
):
    made = await create()
    program = await auth.authenticate(made.key)

    def fail():
        clock.ahead = 600
        verifier.note_use(program)
        raise DatabaseUnavailable

    with monkeypatch.context() as patched, pytest.raises(DatabaseUnavailable):
        patched.setattr(counted, "statement", fail)
        await verifier.write_uses()
    await verifier.write_uses()

    stored = await database.fetchval(LAST_USED, made.api_key.api_key_id)
    assert datetime.now(UTC) - stored < timedelta(minutes=5)


async def test_what_is_left_is_stored_when_the_process_stops(auth, verifier, create, database):
    made = await create()
    running = asyncio.create_task(verifier.run())
    await asyncio.sleep(0.05)
    await auth.authenticate(made.key)

    running.cancel()
    await asyncio.wait([running])

    assert await database.fetchval(LAST_USED, made.api_key.api_key_id) is not None


async def test_a_locked_key_keeps_no_other_from_being_written(auth, verifier, create, database, migrated_database_url):
    held, other = await create(), await create()
    for each in (held, other):
        await auth.authenticate(each.key)
    connection = await asyncpg.connect(migrated_database_url)
    async with connection.transaction():
        await connection.execute("SELECT FROM api_keys WHERE id = $1 FOR UPDATE", held.api_key.api_key_id)
        await verifier.write_uses()
        assert await database.fetchval(LAST_USED, other.api_key.api_key_id) is not None
    await connection.close()


async def test_the_poll_and_the_look_up_read_few_rows_of_many(own_database_url):
    connection = await asyncpg.connect(own_database_url)
    await connection.execute("""
        INSERT INTO api_keys (name, key_hash, prefix, role, revoked_at)
        SELECT 'ERP', sha256(convert_to(number::text, 'UTF8')), 'prk_', 'viewer',
               CASE WHEN number % 2 = 0 THEN now() - interval '1 day' END
        FROM generate_series(1, 20000) AS number
    """)
    await connection.execute("VACUUM ANALYZE api_keys")
    values = {"last_poll": datetime.now(UTC), "seconds": 60, "hashes": [b"x" * 32]}
    for statement in (queries.LIST_REVOKED, queries.FIND_API_KEYS):
        compiled = statement.compile(dialect=dialect.dialect())
        arguments = [values[name] for name in compiled.positiontup]

        [plan] = json.loads(
            await connection.fetchval(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {compiled}", *arguments)
        )

        assert plan["Plan"]["Shared Hit Blocks"] + plan["Plan"]["Shared Read Blocks"] < 20
    await connection.close()
