"""The way to PostgreSQL: engine, transactions, time limits, and what a driver's error means."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import perf_counter

from sqlalchemy import event, text
from sqlalchemy.engine import AdaptedConnection, ExceptionContext
from sqlalchemy.exc import (
    DBAPIError,
    DisconnectionError,
    IntegrityError,
    InterfaceError,
    OperationalError,
    SQLAlchemyError,
)
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine

from provider_registration.errors import UnavailableError
from provider_registration.metrics import DATABASE_CONNECTIONS_IN_USE, DATABASE_WAIT_SECONDS, DATABASE_WAITING

logger = logging.getLogger(__name__)

CONNECT_TIMEOUT = 5.0  # seconds
COMMAND_TIMEOUT = 12.0  # seconds until a silent network counts as lost; longer than statement_timeout, which says more
POOL_TIMEOUT = 5.0  # seconds a request waits for a connection before it is refused
SERVER_SETTINGS = {
    "application_name": "provider-registration",
    "timezone": "UTC",
    "statement_timeout": "10s",
    "lock_timeout": "5s",
    "idle_in_transaction_session_timeout": "15s",
    "jit": "off",  # every statement here is short; compiling one costs more than running it
}

# Whether somebody migrated the database that answers.
SCHEMA_EXISTS = text("SELECT to_regclass('candidates') IS NOT NULL")


class DatabaseUnavailable(UnavailableError):
    """PostgreSQL cannot be reached, is shutting down, or took too long.

    A write that ends so may or may not have been stored.
    """

    code = "database-unavailable"
    title = "Database unavailable"
    retry_after = 1

    def __str__(self) -> str:
        return "The database does not answer just now; try again in a moment."


class Database:
    """One engine and the transactions on it. Close it when done."""

    def __init__(self, url: str, *, pool_size: int, patient: bool = False) -> None:
        """A `patient` one sets statements no time limit: for commands that read whole tables."""
        self._engine = create_async_engine(
            url,
            pool_size=pool_size,
            max_overflow=0,
            hide_parameters=True,  # an error's text must not carry people's addresses into the logs
            connect_args={
                "timeout": CONNECT_TIMEOUT,
                "command_timeout": None if patient else COMMAND_TIMEOUT,
                "server_settings": SERVER_SETTINGS | ({"statement_timeout": "0"} if patient else {}),
            },
        )
        event.listen(self._engine.sync_engine, "checkout", _refuse_closed)
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
        """A connection is free during the block; what goes wrong there for want of PostgreSQL is said so."""
        started = perf_counter()
        try:
            with DATABASE_WAITING.track_inprogress():
                async with asyncio.timeout(POOL_TIMEOUT):
                    await self._turns.acquire()
            DATABASE_WAIT_SECONDS.observe(perf_counter() - started)
            try:
                with DATABASE_CONNECTIONS_IN_USE.track_inprogress():
                    yield
            finally:
                self._turns.release()
        except (SQLAlchemyError, OSError, TimeoutError) as error:
            if is_unavailable(error):
                logger.warning("the database is unavailable", extra={"reason": _reason(error)})
                raise DatabaseUnavailable from error
            raise

    async def ping(self) -> None:
        """Return when the database answers and has the tables.

        Raises:
            DatabaseUnavailable: it does not, or has not.
        """
        async with self.statement() as session:
            if not await session.scalar(SCHEMA_EXISTS):
                logger.warning("the database has no tables; run: provider-registration migrate")
                raise DatabaseUnavailable

    async def close(self) -> None:
        """Close every connection."""
        await self._engine.dispose()


def _refuse_closed(connection: AdaptedConnection, _record: object, _proxy: object) -> None:
    """Have the pool replace a connection that was cut while it was idle; asking the driver costs no round trip."""
    if connection.driver_connection.is_closed():
        raise DisconnectionError


READ_ONLY_TRANSACTION = "25006"


def _leave_standby(context: ExceptionContext) -> None:
    """Have the pool replace its connections when the server turns out to be a standby: the primary is another now."""
    if getattr(context.original_exception, "sqlstate", None) == READ_ONLY_TRANSACTION:
        context.is_disconnect = True


UNAVAILABLE_SQLSTATE_CLASSES = (
    "08",  # connection exception
    "28",  # the role or its password is refused, as while it is being changed
    "3D",  # there is no such database, as while it is being restored
    "53",  # insufficient resources: too many connections, disk full
    "55",  # lock_not_available; not in prerequisite state: the database is not accepting connections
    "57",  # operator intervention: shutdown, statement timeout
    "58",  # system error
    READ_ONLY_TRANSACTION,  # connected to a standby
    "40",  # serialization failure, deadlock: safe to repeat
)


def is_unavailable(error: BaseException) -> bool:
    """Whether a driver's or pool's error means that PostgreSQL could not do the work now."""
    if isinstance(error, DBAPIError):
        sqlstate = getattr(error.orig, "sqlstate", None)
        if sqlstate is None:
            return error.connection_invalidated or isinstance(error, InterfaceError | OperationalError)
        return bool(sqlstate.startswith(UNAVAILABLE_SQLSTATE_CLASSES))
    return isinstance(error, OSError | TimeoutError)


def _reason(error: BaseException) -> str:
    cause = error.orig.__cause__ if isinstance(error, DBAPIError) and error.orig else error
    return f"{type(cause).__name__}: {cause}"


def constraint_name(error: IntegrityError) -> str | None:
    """Name of the constraint that refused a row."""
    name = getattr(error.orig.__cause__ if error.orig else None, "constraint_name", None)
    return name if isinstance(name, str) else None
