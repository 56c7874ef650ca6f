"""The revisions of the database schema, and whether a database's revision fits this release."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from sqlalchemy import TextClause, text
from sqlalchemy.exc import ProgrammingError

# Oldest first, as in alembic/versions, which may be missing at run time. The code needs the last one.
REVISIONS = (
    "000_initial_schema",
    "001_add_version_column",
    "002_add_rejection_reason",
    "003_timestamps_with_time_zone",
    "004_email_unique_ignoring_case",
    "005_users",
    "006_approval_intents",
    "007_decision_checks",
    "008_sessions",
    "009_list_indexes_and_counts",
    "010_product_indexes",
    "011_status_links",
    "012_browser_sessions",
    "013_capacity_counts",
    "014_search_indexes",
    "015_rejected_by",
    "016_canonical_email",
    "017_search_text",
    "018_functions_and_sessions",
    "019_language",
    "020_candidate_events",
    "021_event_feed",
    "022_audit_events",
    "023_notifications",
    "024_webhooks",
    "025_broker",
    "026_event_retention",
    "027_delivery_indexes",
    "028_candidate_keys",
    "029_api_keys",
    "030_idempotency_keys",
    "031_search",
    "032_statistics",
    "033_jobs",
    "034_imports",
    "035_uncounted_events",
    "036_unfinished_approval",
    "037_pending_keys",
    "038_ended_deliveries",
)
REQUIRED_REVISION = REVISIONS[-1]
VERSION_TABLE = "alembic_version"

# The revisions that Alembic recorded: one row, none before the first migration, more only if edited by hand.
FIND_REVISIONS = text("SELECT array_agg(version_num ORDER BY version_num) FROM alembic_version")
SHOW_ENCODING = text("SHOW server_encoding")


class SchemaState(StrEnum):
    """The state of a database's schema, compared with what this release needs."""

    CURRENT = "current"
    NEWER = "newer"  # an unknown revision: this release still works while a newer one migrates
    OLDER = "older"
    MISSING = "missing"
    UNKNOWN = "unknown"  # the role cannot read it, it has several rows, or the database does not respond


STATE_OF_ERROR = {
    "42P01": SchemaState.MISSING,  # undefined_table
    "42501": SchemaState.UNKNOWN,  # insufficient_privilege
}


@dataclass(frozen=True, slots=True)
class Schema:
    """The schema of a database; `str()` describes it in a sentence, with what to do if necessary."""

    state: SchemaState
    revision: str | None = None

    @property
    def is_usable(self) -> bool:
        """Whether this release can work with it, as far as known."""
        return self.state not in (SchemaState.OLDER, SchemaState.MISSING)

    def __str__(self) -> str:
        match self.state:
            case SchemaState.CURRENT:
                return f"the database's schema is at {self.revision}, which this release needs"
            case SchemaState.NEWER:
                return f"the database's schema is at {self.revision}, which is newer than this release"
            case SchemaState.OLDER:
                return (
                    f"the database's schema is at {self.revision}, and this release needs {REQUIRED_REVISION}; "
                    "run: provider-registration migrate"
                )
            case SchemaState.MISSING:
                return "the database has no tables, or no revision; run: provider-registration migrate"
            case SchemaState.UNKNOWN if self.revision:
                return (
                    f"{VERSION_TABLE} has more than one row ({self.revision}); "
                    "keep only the row of the migration that ran last"
                )
            case SchemaState.UNKNOWN:
                return (
                    "the role cannot read the revision of the database's schema; "
                    "run as the owner: provider-registration migrate --grant-to ROLE"
                )


class CanRead(Protocol):
    """A session or connection of SQLAlchemy."""

    async def scalar(self, statement: TextClause, /) -> Any:  # noqa: ANN401 - as SQLAlchemy has it
        """Execute, and return the first value of the first row."""


async def find_schema(database: CanRead) -> Schema:
    """Find the schema of the database with one statement."""
    try:
        revisions = await database.scalar(FIND_REVISIONS)
    except ProgrammingError as error:
        state = STATE_OF_ERROR.get(getattr(error.orig, "sqlstate", None) or "")
        if state is None:
            raise
        return Schema(state)
    if revisions is None:
        return Schema(SchemaState.MISSING)
    if len(revisions) > 1:
        return Schema(SchemaState.UNKNOWN, ", ".join(revisions))
    [revision] = revisions
    if revision == REQUIRED_REVISION:
        return Schema(SchemaState.CURRENT, revision)
    return Schema(SchemaState.OLDER if revision in REVISIONS else SchemaState.NEWER, revision)


def refusal_of_encoding(encoding: str) -> str | None:
    """The reason why a database with this encoding cannot be used; None if it can."""
    if encoding == "UTF8":
        return None
    return (
        f"the database's encoding is {encoding}, which cannot hold every name; "
        "create one from template0 with ENCODING 'UTF8' and a UTF-8 locale, and load the data into it"
    )
