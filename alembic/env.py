"""Runs alembic's commands: online through asyncpg, or with `--sql` without a database."""

from __future__ import annotations

import logging.config
import re
import secrets
import time
from collections.abc import Iterable

from alembic import context
from alembic.operations import MigrationScript
from alembic.runtime.migration import MigrationContext
from alembic.util import CommandError
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError, PendingRollbackError

from provider_registration.db.database import is_unavailable, reason_of
from provider_registration.db.index_builds import LOCK_TIMEOUT
from provider_registration.db.migrations import DATABASE_URL, RETRY_SECONDS, on_locked_connection, run
from provider_registration.db.orm import Base
from provider_registration.environment import SettingsError, load_settings
from provider_registration.settings import DatabaseSettings

RAISE_EXCEPTION = "P0001"  # raised by a migration: RAISE EXCEPTION in a DO block
LOCK_NOT_AVAILABLE = "55P03"
DUPLICATE_TABLE = "42P07"
INTEGRITY_CONSTRAINT_VIOLATION = "23"  # the class
REVISION_ID_LENGTH = 32  # alembic_version.version_num is a varchar(32)

# A migration that waits for a table's lock makes every request wait behind it, and a registration waits for 100 ms at
# most: give up before, and retry.
TIMEOUTS = (LOCK_TIMEOUT, "SET statement_timeout = 0")
SHORTEST_PAUSE, LONGEST_PAUSE = 0.1, 1.0  # seconds between attempts; random, to avoid a periodic lock
JITTER = secrets.SystemRandom()

log = logging.getLogger("alembic.env")


class TableLocked(CommandError):
    """Another transaction held a lock on a table for too long."""

    def __init__(self) -> None:
        super().__init__("A table stayed locked for too long; run the same command again. Completed steps are kept.")


def number_revision(
    _context: MigrationContext, _revision: str | Iterable[str | None] | Iterable[str], directives: list[MigrationScript]
) -> None:
    """Name a new revision by its number and its message: `008_add_notes`."""
    for script in directives:
        head = context.script.get_current_head()
        number = int(head.split("_")[0]) + 1 if head else 0
        slug = re.sub(r"\W+", "_", (script.message or "").lower()).strip("_")
        script.rev_id = f"{number:03d}_{slug}".rstrip("_")  # `alembic check` has no message
        if len(script.rev_id) > REVISION_ID_LENGTH:
            raise CommandError(f"{script.rev_id} is longer than {REVISION_ID_LENGTH} characters; shorten the message")


def run_offline() -> None:
    """Write the SQL to standard output."""
    context.configure(
        dialect_name="postgresql+asyncpg",
        target_metadata=Base.metadata,
        literal_binds=True,
        transaction_per_migration=True,
        process_revision_directives=number_revision,
    )
    for statement in TIMEOUTS:
        context.execute(statement)
    context.run_migrations()


def run_online(connection: Connection) -> None:
    """Migrate, or compare, over an open connection; every step has its own transaction."""
    for statement in TIMEOUTS:
        connection.exec_driver_sql(statement)
    recorded = MigrationContext.configure(connection).get_current_heads()
    if len(recorded) > 1:
        raise CommandError(
            f"alembic_version has more than one row ({', '.join(sorted(recorded))}); "
            "keep only the row of the migration that ran last."
        )
    connection.commit()  # alembic does not commit a transaction that is already open
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        compare_type=True,
        compare_server_default=True,
        autogenerate_plugins=["alembic.autogenerate.*", "alembic.ext.checkconstraint_byname"],
        transaction_per_migration=True,
        process_revision_directives=number_revision,
    )
    try:
        context.run_migrations()
    except DBAPIError as error:
        sqlstate = getattr(error.orig, "sqlstate", None) or ""
        if sqlstate == RAISE_EXCEPTION:
            raise CommandError(str(error.orig.__cause__)) from error
        if sqlstate == LOCK_NOT_AVAILABLE:
            raise TableLocked from error
        if sqlstate == DUPLICATE_TABLE:
            raise CommandError(
                "The tables already exist, but alembic_version does not contain their revision; "
                "if they belong to the service, record it: alembic stamp REVISION"
            ) from error
        if sqlstate.startswith(INTEGRITY_CONSTRAINT_VIOLATION):
            # Its text would quote the row. Steps check for such rows first: this one was stored after the check.
            raise CommandError(
                "A row stored while the migration ran violates its new constraint; run the command again to see which."
            ) from None
        raise


def database_url() -> str:
    """The URL that the caller passed, or DATABASE_URL."""
    if given := context.config.attributes.get(DATABASE_URL):
        return str(given)
    try:
        return load_settings(DatabaseSettings).database_url
    except SettingsError as error:
        raise CommandError(str(error)) from error


def migrate() -> None:
    """Migrate, or compare; a step that finds a table locked is retried."""
    deadline = time.monotonic() + RETRY_SECONDS
    while not try_to_migrate(is_last=time.monotonic() > deadline):
        log.info("a table is locked; the step will be retried")
        time.sleep(JITTER.uniform(SHORTEST_PAUSE, LONGEST_PAUSE))


def try_to_migrate(*, is_last: bool) -> bool:
    """Whether it finished; a locked table may be free at the next attempt."""
    try:
        run(on_locked_connection(database_url(), run_online))
    except TableLocked:
        # A relative target such as -1 would be counted from where this attempt ended.
        if is_last or str(context.get_revision_argument()).startswith(("+", "-")):
            raise
        return False
    except (DBAPIError, PendingRollbackError) as error:
        cause: BaseException | None = error
        while isinstance(cause, PendingRollbackError):  # alembic continued on the closed connection
            cause = cause.__context__
        if cause is None or not is_unavailable(cause):
            raise
        raise CommandError(
            f"The database ended the connection ({reason_of(cause)}); run the same command again. "
            "Completed steps are kept."
        ) from error
    return True


if context.config.config_file_name and DATABASE_URL not in context.config.attributes:
    # Logging of the command line; a calling program has its own.
    logging.config.fileConfig(context.config.config_file_name, disable_existing_loggers=False)

if context.is_offline_mode():
    run_offline()
else:
    migrate()
