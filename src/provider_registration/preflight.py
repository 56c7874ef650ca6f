"""The checks of `check` before a deployment, which `serve` also logs as warnings at startup."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from threading import Thread
from typing import Any, Literal
from urllib.parse import urlsplit

from sqlalchemy import Row, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine
from sqlalchemy.pool import NullPool

from provider_registration.billing.systems import find_mistakes
from provider_registration.db.database import POOLER_OPTIONS, reason_of
from provider_registration.db.grants import FIND_ROLE, find_deviations
from provider_registration.db.retention import find_longer_minimum, find_obstacle
from provider_registration.db.revisions import VERSION_TABLE, SchemaState, find_schema, refusal_of_encoding
from provider_registration.environment import SettingsError, find_misspelled, find_unparsable, load_settings
from provider_registration.notifications.errors import MailServerUnavailable
from provider_registration.notifications.mail_server import MailServer
from provider_registration.settings import DatabaseSettings, Settings
from provider_registration.web.rate_limits import redis_responds

logger = logging.getLogger(__name__)

OLDEST_SERVER = 150000
TIME_LIMIT = 5.0  # seconds for all statements on a database
CANNOT_BE_USED = (SQLAlchemyError, OSError, TimeoutError, ValueError)  # ValueError: asyncpg, for invalid URL parameters
START_DELAY = 0.5  # seconds that the start waits for the checks; they continue and log later

# Properties of the database and of the role's sessions; `read_only` is true on every standby.
DESCRIBE = text("""
    SELECT CAST(current_setting('server_version_num') AS integer) AS version,
           current_setting('server_version') AS version_name,
           current_setting('server_encoding') AS encoding,
           -- The locale of the provider, in a column whose name depends on the version, or that of libc.
           CASE CAST(datlocprovider AS text) WHEN 'c' THEN datctype
                ELSE coalesce(to_jsonb(pg_database) ->> 'datlocale', to_jsonb(pg_database) ->> 'daticulocale', datctype)
           END AS ctype,
           current_user AS role,
           CAST(current_setting('transaction_read_only') AS boolean) AS read_only,
           current_setting('session_replication_role') AS replication_role,
           current_setting('synchronous_commit') AS synchronous_commit,
           current_setting('default_transaction_isolation') AS isolation
    FROM pg_database
    WHERE datname = current_database()
""")

# Schemas with our tables that are not in the role's search path.
FIND_HIDDEN_TABLES = text("""
    SELECT string_agg(CAST(CAST(relnamespace AS regnamespace) AS text), ', ')
    FROM pg_class
    WHERE relname = :table AND relkind = 'r' AND NOT pg_table_is_visible(oid)
""").bindparams(table=VERSION_TABLE)

IS_STANDBY = text("SELECT pg_is_in_recovery()")

LOCAL_HOSTS = ("localhost", "127.0.0.1", "::1")  # browsers keep Secure cookies from these without TLS

Level = Literal["ok", "warning", "error"]


@dataclass(frozen=True, slots=True)
class Finding:
    """`error`: the service could not serve; `warning`: it can serve, with a problem."""

    level: Level
    subject: str
    sentence: str

    def __str__(self) -> str:
        return f"{self.level:<7}  {self.subject}: {self.sentence}"


async def check() -> list[Finding]:
    """All findings about the settings and the services that they name."""
    try:
        settings = load_settings(Settings)
    except SettingsError as error:
        found = [Finding("error", "settings", problem) for problem in error.problems]
    else:
        return [Finding("ok", "settings", "all required settings are set and valid"), *await _check_services(settings)]
    try:
        url = load_settings(DatabaseSettings).database_url
    except SettingsError:
        return found
    return [*found, *_misspelled(), *await _database(url)]


def find_refusal_at_start(settings: Settings) -> str | None:
    """The reason not to start, if found in time: a wrong encoding, the only error that cannot be fixed later.

    All other findings of `check` are logged; the start does not wait for them.
    """
    found: list[Finding] = []
    thread = Thread(target=lambda: asyncio.run(_log(settings, found)), name="preflight", daemon=True)
    thread.start()
    thread.join(START_DELAY)
    return next((each.sentence for each in found if (each.level, each.subject) == ("error", "encoding")), None)


async def _log(settings: Settings, found: list[Finding]) -> None:
    try:
        findings = await _check_services(settings)
    except Exception:
        logger.exception("the startup checks failed")
        return
    found += findings
    for finding in findings:
        if finding.level != "ok":
            logger.warning("%s: %s", finding.subject, finding.sentence)


async def _check_services(settings: Settings) -> list[Finding]:
    """Findings about valid settings and the services that they name, which are checked concurrently."""
    checks: list[Coroutine[Any, Any, list[Finding]]] = [
        _database(
            settings.database_url,
            pinned=settings.database_prepared_statements,
            retention_days=settings.retention_events_days,
        )
    ]
    if settings.database_read_url:
        checks.append(_replica(settings.database_read_url))
    if settings.smtp_url:
        checks.append(_mail(settings.smtp_url.get_secret_value()))
    if settings.rate_limit_storage_url:
        checks.append(_redis(settings.rate_limit_storage_url.get_secret_value()))
    if settings.events_nats_url:
        checks.append(_broker(settings.events_nats_url.get_secret_value()))
    unparsable = [Finding("warning", "settings", sentence) for sentence in find_unparsable()]
    found = [*unparsable, *_misspelled(), *_gateways(settings), *_public_url(settings)]
    found += [Finding("warning", "billing", sentence) for sentence in find_mistakes(settings)]
    for findings in await asyncio.gather(*checks):
        found += findings
    return found


def _misspelled() -> list[Finding]:
    return [
        Finding("warning", "settings", f"{name} is not a setting; did you mean {meant}?")
        for name, meant in find_misspelled(Settings).items()
    ]


def _gateways(settings: Settings) -> list[Finding]:
    if settings.forwarded_allow_ips != "*":
        return []
    sentence = "FORWARDED_ALLOW_IPS is *: a client that bypasses the gateway can claim any IP address"
    return [Finding("warning", "settings", sentence)]


def _public_url(settings: Settings) -> list[Finding]:
    if settings.smtp_url and not settings.links_begin_with:
        sentence = "PUBLIC_URL is not set: e-mails have no links, and companies cannot ask for a lost one"
        return [Finding("warning", "settings", sentence)]
    host = urlsplit(settings.public_url).hostname
    if settings.public_url.startswith("http:") and settings.admin_pages and host not in LOCAL_HOSTS:
        sentence = "PUBLIC_URL starts with http://: browsers do not keep the console's cookies, so no one can sign in"
        return [Finding("warning", "settings", sentence)]
    if settings.public_url or not (settings.admin_pages and settings.public_pages):
        return []
    sentence = (
        "PUBLIC_URL is not set: the console's status links start with http:// behind a gateway that terminates TLS, "
        "unless it sends Host and X-Forwarded-Proto"
    )
    return [Finding("warning", "settings", sentence)]


async def _database(url: str, *, pinned: bool = True, retention_days: int | None = None) -> list[Finding]:
    try:
        async with asyncio.timeout(TIME_LIMIT), _connect(url) as connection:
            return [finding async for finding in _describe(connection, pinned=pinned, retention_days=retention_days)]
    except CANNOT_BE_USED as error:
        return [Finding("error", "database", f"cannot be used: {_reason(error)}")]


async def _describe(connection: AsyncConnection, *, pinned: bool, retention_days: int | None) -> AsyncIterator[Finding]:
    database = (await connection.execute(DESCRIBE)).one()
    yield Finding("ok", "database", f"connected as {database.role}")
    if database.read_only:
        yield Finding("error", "database", "read-only: a standby, or default_transaction_read_only is on")
    if database.version < OLDEST_SERVER:
        yield Finding("error", "server", f"PostgreSQL {database.version_name}; 15 or later is required")
    else:
        yield Finding("ok", "server", f"PostgreSQL {database.version_name}")
    if refusal := refusal_of_encoding(database.encoding):
        yield Finding("error", "encoding", refusal)
    else:
        yield Finding("ok", "encoding", "UTF8")
    if database.ctype in ("C", "POSIX"):
        sentence = "PostgreSQL recognises only ASCII letters; create the database with a UTF-8 locale, such as C.UTF-8"
        yield Finding("warning", "LC_CTYPE", f"{database.ctype}: {sentence}")
    else:
        yield Finding("ok", "LC_CTYPE", database.ctype)
    for finding in _sessions(database, pinned=pinned):
        yield finding
    schema = await find_schema(connection)
    level: Level = "error" if not schema.is_usable else "warning" if schema.state is SchemaState.UNKNOWN else "ok"
    yield Finding(level, "schema", str(schema))
    if schema.state is SchemaState.MISSING:
        if hidden := await connection.scalar(FIND_HIDDEN_TABLES):
            sentence = f"the tables are in {hidden}, which it does not include; set it for {database.role}"
            yield Finding("error", "search_path", sentence)
    else:
        async for finding in _role(connection, database.role, retention_days=retention_days):
            yield finding


def _sessions(database: Row[Any], *, pinned: bool) -> Iterator[Finding]:
    """Settings from ALTER ROLE or ALTER DATABASE; direct connections override some of them, a pooler's do not."""
    if database.replication_role == "replica":
        sentence = "session_replication_role is replica: triggers would not run, so all requests fail"
        yield Finding("error", "sessions", f"{sentence}; reset it for {database.role}")
    if pinned:
        return
    if database.synchronous_commit in ("off", "local"):
        sentence = f"synchronous_commit is {database.synchronous_commit}: acknowledged writes may be lost in a crash"
        yield Finding("error", "sessions", f"{sentence}; reset it for {database.role}")
    if database.isolation != "read committed":
        sentence = f"default_transaction_isolation is {database.isolation}: concurrent requests would fail"
        yield Finding("error", "sessions", f"{sentence}; reset it for {database.role}")


async def _role(connection: AsyncConnection, role: str, *, retention_days: int | None) -> AsyncIterator[Finding]:
    if retention_days is not None:
        if obstacle := await find_obstacle(connection) or await find_longer_minimum(connection, retention_days):
            yield Finding("warning", "retention", obstacle)
        else:
            yield Finding("ok", "retention", "old events can be removed")
    if (await connection.execute(FIND_ROLE, {"role": role})).one().is_owner:
        yield Finding("warning", "role", f"{role} owns the tables or is a superuser; use a separate serving role")
        return
    cure = f"run as the owner: provider-registration migrate --grant-to {role}"
    deviations = await find_deviations(connection)
    if deviations.missing:
        # Without access to the revision's table, only the schema check fails.
        level: Level = "warning" if all(each.endswith(f" {VERSION_TABLE}") for each in deviations.missing) else "error"
        yield Finding(level, "role", f"{role} lacks {', '.join(deviations.missing)}; {cure}")
    if deviations.excess:
        yield Finding(
            "warning", "role", f"{role} has more privileges than it needs: {', '.join(deviations.excess)}; {cure}"
        )
    if not deviations.missing + deviations.excess:
        yield Finding("ok", "role", f"{role} has exactly the privileges that the service needs")


async def _replica(url: str) -> list[Finding]:
    try:
        async with asyncio.timeout(TIME_LIMIT), _connect(url) as connection:
            is_standby = await connection.scalar(IS_STANDBY)
    except CANNOT_BE_USED as error:
        return [Finding("warning", "replica", f"cannot be used, so the primary is used instead: {_reason(error)}")]
    if not is_standby:
        return [Finding("warning", "replica", "DATABASE_READ_URL points to a primary, not to a standby")]
    return [Finding("ok", "replica", "responds and is a standby")]


async def _mail(url: str) -> list[Finding]:
    try:
        async with MailServer(url).connect():
            return [Finding("ok", "mail", "the mail server responds")]
    except MailServerUnavailable as error:
        return [Finding("warning", "mail", f"the mail server cannot be used, so e-mails wait: {error}")]


async def _redis(url: str) -> list[Finding]:
    if await redis_responds(url):
        return [Finding("ok", "redis", "responds")]
    return [Finding("warning", "redis", "cannot be reached; until it can, no one can sign in")]


async def _broker(url: str) -> list[Finding]:
    from provider_registration.broker.jetstream import find_problem  # noqa: PLC0415 - its dependency is an extra

    if problem := await find_problem(url):
        return [Finding("warning", "broker", f"{problem}; until it is fixed, events are not published but kept")]
    return [Finding("ok", "broker", "responds and has a stream for events")]


@asynccontextmanager
async def _connect(url: str) -> AsyncIterator[AsyncConnection]:
    """A connection that also works through PgBouncer; each statement is a transaction."""
    options = {**POOLER_OPTIONS, "timeout": TIME_LIMIT}
    engine = create_async_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT", connect_args=options)
    try:
        async with engine.connect() as connection:
            yield connection
    finally:
        await engine.dispose()


def _reason(error: Exception) -> str:
    return f"no response within {TIME_LIMIT:.0f} s" if isinstance(error, TimeoutError) else reason_of(error)
