"""The way to PostgreSQL: engine, transactions, time limits, and what a driver's error means."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import ContextVar
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

CONNECT_TIMEOUT = 5.0  # seconds, where there is no other limit
# Of a request's time, what the server allows one statement: its own word about a slow one costs no connection.
STATEMENT_SHARE = 0.9
# What the statements are written for, whatever ALTER ROLE and ALTER DATABASE set.
SETTINGS_OF_TEXT = {"timezone": "UTC", "datestyle": "ISO, MDY", "standard_conforming_strings": "on"}
PINNED_SETTINGS = {
    **SETTINGS_OF_TEXT,
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
    "jit": "off",  # every statement here is short; compiling one costs more than running it
}
# For PgBouncer in transaction mode, which passes only these settings on and may give each transaction another server:
# https://www.pgbouncer.org/features.html
POOLER_OPTIONS = {
    "server_settings": NAME | SETTINGS_OF_TEXT,
    "statement_cache_size": 0,
    "prepared_statement_cache_size": 0,
    "prepared_statement_name_func": lambda: "",  # the unnamed one, which nobody has to remove
}


# Begins a statement that does many callers' work: it waits 100 ms for each row, unless told otherwise. What the
# statement writes has to be joined with it, else it is not carried out. PostgreSQL gives up with 55P03; then each
# caller's work is tried alone.
PATIENCE = "patience AS MATERIALIZED (SELECT set_config('lock_timeout', :patience, true))"
PATIENCE_OF_A_BATCH = bindparam("patience", "100ms", type_=Text)
AS_LONG_AS_IT_TAKES = "0"  # for work that is alone


class DatabaseUnavailable(UnavailableError):
    """PostgreSQL cannot be reached, is shutting down, or took too long.

    A write that ends so may or may not have been stored.
    """

    code = "database-unavailable"
    title = "Database unavailable"
    retry_after = 1

    def __str__(self) -> str:
        return "The database does not answer just now; try again in a moment."


# What no parameter of a new connection can set: a superuser alone switches triggers, and an operator may want commits
# that are safer than the usual ones, but not weaker.
BEGIN_CONNECTION = """
    DO $$
    BEGIN
        IF current_setting('session_replication_role') = 'replica' THEN
            RAISE object_not_in_prerequisite_state
            USING MESSAGE = 'session_replication_role is replica, so nothing is counted; reset it for the role';
        END IF;
        IF current_setting('synchronous_commit') IN ('off', 'local') THEN
            PERFORM set_config('synchronous_commit', 'on', false);
        END IF;
    END
    $$
"""


class UnfitSession(ConnectionError):
    """PostgreSQL gives the role sessions in which the service would do harm."""


class RowHeld(DatabaseUnavailable):
    """Another transaction holds a row for longer than the statement waits for it; nothing was written."""


class _Turn:
    """The time that one caller has with a connection, from standing in line to giving it back.

    While it waits for one, its task is cancelled when the time is over; once it has one, that is cut instead: whatever
    the caller awaits on it then fails at once, and nothing more is waited for, such as a rollback's answer.
    """

    def __init__(self, time_limit: float | None) -> None:
        self.waiting = asyncio.timeout(time_limit)
        self._cutting: asyncio.TimerHandle | None = None
        self._is_cut = False

    @property
    def is_over(self) -> bool:
        """Whether it was ended for taking too long."""
        return self._is_cut or self.waiting.expired()

    def begin(self, connection: asyncpg.Connection) -> None:
        """The connection is there."""
        when = self.waiting.when()
        if when is not None and not self.waiting.expired():
            self.waiting.reschedule(None)
            self._cutting = asyncio.get_running_loop().call_at(when, self._cut, connection)

    def end(self) -> None:
        """The connection is given back."""
        if self._cutting:
            self._cutting.cancel()

    def _cut(self, connection: asyncpg.Connection) -> None:
        self._is_cut = True
        connection.terminate()


_turn_var: ContextVar[_Turn] = ContextVar("turn")


class Database:
    """One engine and the transactions on it. Close it when done."""

    def __init__(
        self, url: str, *, pool_size: int, time_limit: float | None = None, prepared_statements: bool = True
    ) -> None:
        """Nobody waits longer than `time_limit`, in seconds, in line and for answers together; None: for commands.

        Without `prepared_statements`, nothing is expected of a connection that outlasts a transaction.
        """
        self.time_limit = time_limit
        self.keeps_connections = prepared_statements  # so that one statement's server is the next one's too
        self._logger = RateLimitedLogger(logger)
        self._engine = create_async_engine(
            url,
            pool_size=pool_size,
            max_overflow=0,
            hide_parameters=True,  # an error's text must not carry people's addresses into the logs
            connect_args={
                "timeout": time_limit or CONNECT_TIMEOUT,
                **(_session_options(time_limit) if prepared_statements else POOLER_OPTIONS),
            },
        )
        event.listen(self._engine.sync_engine, "connect", _begin_connection)
        event.listen(self._engine.sync_engine, "checkout", _begin_turn)
        event.listen(self._engine.sync_engine, "handle_error", _leave_standby)
        # First come, first served; SQLAlchemy's own queue lets newcomers overtake those who wait.
        self._turns = asyncio.Semaphore(pool_size)
        self._transactions = async_sessionmaker(self._engine)
        self._statements = async_sessionmaker(self._engine.execution_options(isolation_level="AUTOCOMMIT"))

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncSession]:
        """One transaction: committed when the block ends, rolled back when it raises.

        Raises:
            DatabaseUnavailable: PostgreSQL does not answer; whether a commit under way was stored is unknown.
        """
        async with self._turn(), self._transactions.begin() as session:
            yield session

    @asynccontextmanager
    async def statement(self) -> AsyncIterator[AsyncSession]:
        """For one statement, which PostgreSQL makes a transaction of by itself: two round trips fewer.

        Raises:
            DatabaseUnavailable: PostgreSQL does not answer; whether a statement that writes was carried out is unknown.
        """
        async with self._turn(), self._statements() as session:
            yield session

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        """Have a connection free during the block; an error there because PostgreSQL is away is DatabaseUnavailable."""
        started = perf_counter()
        turn = _Turn(self.time_limit)
        try:
            async with turn.waiting:
                with DATABASE_WAITING.track_inprogress():
                    await self._turns.acquire()
                DATABASE_WAIT_SECONDS.observe(perf_counter() - started)
                before = _turn_var.set(turn)
                try:
                    with DATABASE_CONNECTIONS_IN_USE.track_inprogress():
                        yield
                finally:
                    turn.end()
                    _turn_var.reset(before)
                    self._turns.release()
        except AttributeError as error:  # asyncpg's, of a connection that is cut while it prepares a statement
            if not turn.is_over:
                raise
            self._logger.warning("the database is unavailable", reason=f"no answer within {self.time_limit} s")
            raise DatabaseUnavailable from error
        except (SQLAlchemyError, OSError, TimeoutError) as error:
            if sqlstate_of(error) == LOCK_NOT_AVAILABLE:
                raise RowHeld from error
            if is_unavailable(error):
                reason = f"no answer within {self.time_limit} s" if turn.is_over else reason_of(error)
                self._logger.warning("the database is unavailable", reason=reason)
                raise DatabaseUnavailable from error
            raise

    async def ping(self) -> Schema:
        """What schema the database has, which answers.

        Raises:
            DatabaseUnavailable: it does not.
        """
        async with self.statement() as session:
            return await find_schema(session)

    @property
    def engine(self) -> Engine:
        """Where to listen for what happens; statements go through `transaction` and `statement`."""
        return self._engine.sync_engine

    async def close(self) -> None:
        """Close every connection."""
        await self._engine.dispose()


def _session_options(time_limit: float | None) -> dict[str, object]:
    statement_timeout = int((time_limit or 0) * STATEMENT_SHARE * 1000)  # ms; 0: none
    return {"server_settings": {**SESSION_SETTINGS, "statement_timeout": str(statement_timeout)}}


def _begin_connection(connection: AdaptedConnection, _record: object) -> None:
    try:
        connection.run_async(lambda driver_connection: driver_connection.execute(BEGIN_CONNECTION))
    except asyncpg.ObjectNotInPrerequisiteStateError as error:
        raise UnfitSession(str(error)) from error


def _begin_turn(connection: AdaptedConnection, _record: object, _proxy: object) -> None:
    """Have the pool replace a connection that was cut while it was idle; asking the driver costs no round trip."""
    if connection.driver_connection.is_closed():
        raise DisconnectionError
    _turn_var.get().begin(connection.driver_connection)


READ_ONLY_TRANSACTION = "25006"
LOCK_NOT_AVAILABLE = "55P03"


def _leave_standby(context: ExceptionContext) -> None:
    """Have the pool replace its connections when the server turns out to be a standby: the primary is another now."""
    if getattr(context.original_exception, "sqlstate", None) == READ_ONLY_TRANSACTION:
        context.is_disconnect = True


UNAVAILABLE_SQLSTATE_CLASSES = (
    "08",  # connection exception
    "28",  # the role or its password is refused, as while it is being changed
    "3D",  # there is no such database, as while it is being restored
    "53",  # insufficient resources: too many connections, disk full
    "55",  # a lock; not in prerequisite state: the database is not accepting connections
    "57",  # operator intervention: shutdown, statement timeout
    "58",  # system error
    READ_ONLY_TRANSACTION,  # connected to a standby
    "40",  # serialization failure, deadlock: safe to repeat
)


def sqlstate_of(error: BaseException) -> str | None:
    """PostgreSQL's code of a driver's error."""
    return getattr(error.orig, "sqlstate", None) if isinstance(error, DBAPIError) else None


def is_unavailable(error: BaseException) -> bool:
    """Whether a driver's or pool's error means that PostgreSQL could not do the work now."""
    if isinstance(error, DBAPIError):
        sqlstate = sqlstate_of(error)
        if sqlstate is None:
            return error.connection_invalidated or isinstance(error, InterfaceError | OperationalError)
        return bool(sqlstate.startswith(UNAVAILABLE_SQLSTATE_CLASSES))
    return isinstance(error, OSError | TimeoutError)


def reason_of(error: BaseException | None) -> str:
    """What the driver says went wrong."""
    cause = error.orig.__cause__ if isinstance(error, DBAPIError) and error.orig else error
    return f"{type(cause).__name__}: {cause}"


def constraint_name(error: IntegrityError) -> str | None:
    """Name of the constraint that refused a row."""
    name = getattr(error.orig.__cause__ if error.orig else None, "constraint_name", None)
    return name if isinstance(name, str) else None
