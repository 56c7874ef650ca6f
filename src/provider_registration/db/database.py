"""Access to PostgreSQL: engine, transactions, time limits, and classification of driver errors."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from time import perf_counter

import asyncpg
from sqlalchemy import Text, bindparam, event
from sqlalchemy.engine import AdaptedConnection, Engine, ExceptionContext
from sqlalchemy.exc import (
    DBAPIError,
    DisconnectionError,
    IntegrityError,
    InterfaceError,
    OperationalError,
    SQLAlchemyError,
)
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine

from provider_registration.db.revisions import Schema, find_schema
from provider_registration.errors import UnavailableError
from provider_registration.observability.logs import RateLimitedLogger
from provider_registration.observability.metrics import (
    DATABASE_CONNECTIONS_IN_USE,
    DATABASE_WAIT_SECONDS,
    DATABASE_WAITING,
)

logger = logging.getLogger(__name__)

CONNECT_TIMEOUT = 5.0  # seconds, without another limit
# The statement timeout as a share of a request's time: a timeout on the server does not cost the connection.
STATEMENT_SHARE = 0.9
# Required by the statements; override ALTER ROLE and ALTER DATABASE.
TEXT_SETTINGS = {"timezone": "UTC", "datestyle": "ISO, MDY", "standard_conforming_strings": "on"}
PINNED_SETTINGS = {
    **TEXT_SETTINGS,
    "default_transaction_isolation": "read committed",
    "default_transaction_deferrable": "off",
    "lock_timeout": "0",
    "intervalstyle": "postgres",
    "bytea_output": "hex",
}
NAME = {"application_name": "provider-registration"}
SESSION_SETTINGS = {
    **NAME,
    **PINNED_SETTINGS,
    "idle_in_transaction_session_timeout": "15s",
    "jit": "off",  # statements are short; compiling one costs more than running it
}
# For PgBouncer in transaction mode, which only forwards these settings and may use another server per transaction:
# https://www.pgbouncer.org/features.html
POOLER_OPTIONS = {
    "server_settings": NAME | TEXT_SETTINGS,
    "statement_cache_size": 0,
    "prepared_statement_cache_size": 0,
    "prepared_statement_name_func": lambda: "",  # the unnamed statement, which needs no cleanup
}


# Starts a batched statement, which then waits at most 100 ms (by default) for each row lock. Its writes must join this
# CTE; otherwise PostgreSQL does not execute the CTE. After error 55P03, the items are retried one by one.
LOCK_TIMEOUT_CTE = "lock_timeout AS MATERIALIZED (SELECT set_config('lock_timeout', :lock_timeout, true))"
BATCH_LOCK_TIMEOUT = bindparam("lock_timeout", "100ms", type_=Text)
NO_LOCK_TIMEOUT = "0"  # for single items


class DatabaseUnavailable(UnavailableError):
    """PostgreSQL cannot be reached, is shutting down, or took too long.

    A write that fails with this may have been stored.
    """

    code = "database-unavailable"
    title = "Database unavailable"
    retry_after = 1

    def __str__(self) -> str:
        return "The database is temporarily unavailable. Try again in a moment."


# Checks that connection parameters cannot do: only a superuser can disable triggers, and an operator may choose safer
# commits than the default, but not weaker ones.
CHECK_CONNECTION = """
    DO $$
    BEGIN
        IF current_setting('session_replication_role') = 'replica' THEN
            RAISE object_not_in_prerequisite_state
            USING MESSAGE = 'session_replication_role is replica, so triggers do not run; reset it for the role';
        END IF;
        IF current_setting('synchronous_commit') IN ('off', 'local') THEN
            PERFORM set_config('synchronous_commit', 'on', false);
        END IF;
    END
    $$
"""


class UnsafeSession(ConnectionError):
    """The settings of the role's sessions would make the service corrupt data."""


class RowLocked(DatabaseUnavailable):
    """Another transaction held a row lock longer than the statement waits; nothing was written."""


class _Turn:
    """The time limit of one caller, from waiting for a connection to returning it.

    While it waits for a connection, its task is cancelled at the limit. Once it has one, the connection is closed
    instead: whatever the caller awaits on it fails immediately, without waiting for a rollback.
    """

    def __init__(self, time_limit: float | None) -> None:
        self.waiting = asyncio.timeout(time_limit)
        self._cutting: asyncio.TimerHandle | None = None
        self._is_cut = False

    @property
    def is_over(self) -> bool:
        """Whether the time limit was reached."""
        return self._is_cut or self.waiting.expired()

    def start(self, connection: asyncpg.Connection) -> None:
        """Apply the limit to the connection."""
        when = self.waiting.when()
        if when is not None and not self.waiting.expired():
            self.waiting.reschedule(None)
            self._cutting = asyncio.get_running_loop().call_at(when, self._cut, connection)

    def end(self) -> None:
        """End the limit: the connection is returned."""
        if self._cutting:
            self._cutting.cancel()

    def _cut(self, connection: asyncpg.Connection) -> None:
        self._is_cut = True
        connection.terminate()


_turn_var: ContextVar[_Turn] = ContextVar("turn")


@dataclass(frozen=True, slots=True)
class _AutocommitSession:
    """An open session, and its connection."""

    session: AsyncSession
    connection: asyncpg.Connection


class Database:
    """One engine and its transactions. Close it when done."""

    def __init__(
        self,
        url: str,
        *,
        pool_size: int,
        time_limit: float | None = None,
        prepared_statements: bool = True,
        name: str = "database",
    ) -> None:
        """`time_limit` in seconds covers waiting for a connection and the statements; None: no limit, for commands.

        Without `prepared_statements`, connections keep no state between transactions. `name` is for the log.
        """
        self.time_limit = time_limit
        self._unavailable = f"the {name} is unavailable"
        self.keeps_connections = prepared_statements  # successive statements run on the same server
        self._logger = RateLimitedLogger(logger)
        self._engine = create_async_engine(
            url,
            pool_size=pool_size,
            max_overflow=0,
            hide_parameters=True,  # error messages must not put personal data into the logs
            connect_args={
                "timeout": time_limit or CONNECT_TIMEOUT,
                **(_session_options(time_limit) if prepared_statements else POOLER_OPTIONS),
            },
        )
        event.listen(self._engine.sync_engine, "connect", _check_connection)
        event.listen(self._engine.sync_engine, "checkout", _start_turn)
        event.listen(self._engine.sync_engine, "handle_error", _leave_standby)
        # First come, first served; SQLAlchemy's own queue lets new callers overtake waiting ones.
        self._turns = asyncio.Semaphore(pool_size)
        self._pool_size = pool_size
        self._used = 0  # connections, or places for them
        self._transactions = async_sessionmaker(self._engine)
        self._statements = async_sessionmaker(self._engine.execution_options(isolation_level="AUTOCOMMIT"))
        self._idle: list[_AutocommitSession] = []  # the last used is the next to be used

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncSession]:
        """One transaction: committed at the end of the block, rolled back if it raises.

        Raises:
            DatabaseUnavailable: PostgreSQL does not respond; a commit may have been stored.
        """
        async with self._turn():
            if self._used + len(self._idle) > self._pool_size:
                await self._idle.pop(0).session.close()
            async with self._transactions.begin() as session:
                yield session

    @asynccontextmanager
    async def statement(self) -> AsyncIterator[AsyncSession]:
        """A session for one statement in autocommit mode, which saves two round trips.

        It stays open, with its connection, for later statements: opening and closing one costs more than a statement.

        Raises:
            DatabaseUnavailable: PostgreSQL does not respond; a write may have been stored.
        """
        async with self._turn() as turn, AsyncExitStack() as unless_kept:
            taken = await self._take_idle(turn)
            session = await unless_kept.enter_async_context(taken.session if taken else self._statements())
            if taken is None:
                connection = await session.connection()  # checked out, so the turn has started
                taken = _AutocommitSession(session, (await connection.get_raw_connection()).driver_connection)
            yield session
            unless_kept.pop_all()
            self._idle.append(taken)

    async def _take_idle(self, turn: _Turn) -> _AutocommitSession | None:
        """The idle session used last, if its connection is still open."""
        while self._idle:
            taken = self._idle.pop()
            if not taken.connection.is_closed():
                turn.start(taken.connection)
                return taken
            await taken.session.invalidate()
        return None

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[_Turn]:
        """Reserve a connection for the block, and turn errors of an unavailable PostgreSQL into DatabaseUnavailable."""
        started = perf_counter()
        turn = _Turn(self.time_limit)
        try:
            async with turn.waiting:
                with DATABASE_WAITING.track_inprogress():
                    await self._turns.acquire()
                DATABASE_WAIT_SECONDS.observe(perf_counter() - started)
                before = _turn_var.set(turn)
                self._used += 1
                try:
                    with DATABASE_CONNECTIONS_IN_USE.track_inprogress():
                        yield turn
                finally:
                    turn.end()
                    self._used -= 1
                    _turn_var.reset(before)
                    self._turns.release()
        except AttributeError as error:  # from asyncpg, if the connection is closed while it prepares a statement
            if not turn.is_over:
                raise
            self._logger.warning(self._unavailable, reason=f"no response within {self.time_limit} s")
            raise DatabaseUnavailable from error
        except (SQLAlchemyError, asyncpg.InternalClientError, OSError, TimeoutError) as error:
            if sqlstate_of(error) == LOCK_NOT_AVAILABLE:
                raise RowLocked from error
            if is_unavailable(error):
                reason = f"no response within {self.time_limit} s" if turn.is_over else reason_of(error)
                self._logger.warning(self._unavailable, reason=reason)
                await self._close_idle()  # the pool checks their connections
                raise DatabaseUnavailable from error
            raise

    async def _close_idle(self) -> None:
        while self._idle:
            await self._idle.pop().session.close()

    async def ping(self) -> Schema:
        """Return the schema of the database.

        Raises:
            DatabaseUnavailable: it does not respond.
        """
        async with self.statement() as session:
            return await find_schema(session)

    @property
    def engine(self) -> Engine:
        """The engine, only for event listeners; use `transaction` and `statement` for statements."""
        return self._engine.sync_engine

    async def close(self) -> None:
        """Close every connection, when running work has returned its own: a batch may outlive its callers."""
        async with AsyncExitStack() as turns:
            for _ in range(self._pool_size):
                await turns.enter_async_context(self._turns)
            await self._close_idle()
            await self._engine.dispose()


def _session_options(time_limit: float | None) -> dict[str, object]:
    statement_timeout = int((time_limit or 0) * STATEMENT_SHARE * 1000)  # ms; 0: none
    return {"server_settings": {**SESSION_SETTINGS, "statement_timeout": str(statement_timeout)}}


def _check_connection(connection: AdaptedConnection, _record: object) -> None:
    try:
        connection.run_async(lambda driver_connection: driver_connection.execute(CHECK_CONNECTION))
    except asyncpg.ObjectNotInPrerequisiteStateError as error:
        raise UnsafeSession(str(error)) from error
    except (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError) as error:
        if not getattr(error, "sqlstate", None) or error.sqlstate.startswith(UNAVAILABLE_SQLSTATE_CLASSES):
            raise ConnectionError(str(error)) from error  # SQLAlchemy does not translate errors of a listener
        raise


def _start_turn(connection: AdaptedConnection, _record: object, _proxy: object) -> None:
    """Let the pool replace a connection that was closed while idle; the check needs no round trip."""
    if connection.driver_connection.is_closed():
        raise DisconnectionError
    _turn_var.get().start(connection.driver_connection)


READ_ONLY_TRANSACTION = "25006"
LOCK_NOT_AVAILABLE = "55P03"


def _leave_standby(context: ExceptionContext) -> None:
    """Let the pool replace its connections if the server is a standby: the primary has changed."""
    if getattr(context.original_exception, "sqlstate", None) == READ_ONLY_TRANSACTION:
        context.is_disconnect = True


UNAVAILABLE_SQLSTATE_CLASSES = (
    "08",  # connection exception
    "28",  # invalid role or password, for example while it is being changed
    "3D",  # unknown database, for example while it is being restored
    "53",  # insufficient resources: too many connections, disk full
    "55",  # a lock; not in prerequisite state: the database is not accepting connections
    "57",  # operator intervention: shutdown, statement timeout
    "58",  # system error
    READ_ONLY_TRANSACTION,  # connected to a standby
    "40",  # serialization failure, deadlock: safe to repeat
)


def sqlstate_of(error: BaseException) -> str | None:
    """PostgreSQL's error code (SQLSTATE) in a driver error."""
    return getattr(error.orig, "sqlstate", None) if isinstance(error, DBAPIError) else None


def is_unavailable(error: BaseException) -> bool:
    """Whether an error of the driver or pool means that PostgreSQL is temporarily unavailable."""
    if isinstance(error, DBAPIError):
        sqlstate = sqlstate_of(error)
        if sqlstate is None:
            return error.connection_invalidated or isinstance(error, InterfaceError | OperationalError)
        return bool(sqlstate.startswith(UNAVAILABLE_SQLSTATE_CLASSES))
    # The driver's InternalClientError, mostly a lost connection, is not translated by SQLAlchemy.
    return isinstance(error, asyncpg.InternalClientError | OSError | TimeoutError)


def reason_of(error: BaseException | None) -> str:
    """The driver's error message."""
    cause = error.orig.__cause__ if isinstance(error, DBAPIError) and error.orig else error
    return f"{type(cause).__name__}: {cause}"


def constraint_name(error: IntegrityError) -> str | None:
    """The name of the violated constraint."""
    name = getattr(error.orig.__cause__ if error.orig else None, "constraint_name", None)
    return name if isinstance(name, str) else None
