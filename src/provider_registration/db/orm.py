"""The tables as SQLAlchemy models, only for `alembic revision --autogenerate` and `alembic check`.

The service uses SQL; triggers and their functions are in the migrations and in schema.sql.
"""

from __future__ import annotations

from datetime import date, datetime
from typing import Any, ClassVar
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    DDL,
    JSON,
    BigInteger,
    CheckConstraint,
    DateTime,
    ForeignKey,
    Identity,
    Index,
    Integer,
    MetaData,
    SmallInteger,
    String,
    Text,
    TextClause,
    UniqueConstraint,
    event,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

# Of a GIN index, in kB: the longer its list of pending entries, the longer its merging into the index takes at a time.
PENDING_KEYS = {"gin_pending_list_limit": "512"}


class Base(DeclarativeBase):
    """The base of all tables; it names constraints like the migrations."""

    metadata = MetaData(
        naming_convention={
            "pk": "pk_%(table_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        }
    )
    type_annotation_map: ClassVar = {datetime: DateTime(timezone=True), str: Text()}


def _index_of_product(product: str, has_it: TextClause) -> Index:
    """The index of candidates with one product, in the order of lists."""
    return Index(
        f"ix_candidates_{product}",
        text("created_at DESC"),
        text("id DESC"),
        postgresql_include=["status"],
        postgresql_where=has_it,
    )


class Candidate(Base):
    """A company that registered, and the decision."""

    __tablename__ = "candidates"
    __table_args__ = (
        CheckConstraint("status::text IN ('pending', 'approved', 'rejected')", name="status"),
        CheckConstraint("cardinality(products) > 0", name="products_not_empty"),
        CheckConstraint(
            "products <@ ARRAY['apples', 'oranges', 'grapes', 'bananas', 'mangoes']", name="products_known"
        ),
        CheckConstraint("truck_count > 0", name="truck_count"),
        CheckConstraint("capacity_tons_per_day > 0", name="capacity_tons_per_day"),
        CheckConstraint("version >= 1", name="version"),
        CheckConstraint("(status = 'approved') = (provider_id IS NOT NULL)", name="approved_has_provider"),
        CheckConstraint("provider_id >= 1", name="provider_id"),
        CheckConstraint("rejection_reason IS NULL OR status = 'rejected'", name="reason_only_when_rejected"),
        CheckConstraint("rejected_by IS NULL OR status = 'rejected'", name="rejected_by_only_when_rejected"),
        CheckConstraint("company_name <> '' AND company_name = btrim(company_name)", name="company_name_trimmed"),
        CheckConstraint("length(language) <= 35 AND language ~ '^[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*$'", name="language"),
        Index("uq_candidates_contact_email_canonical", "contact_email_canonical", unique=True),
        Index("uq_candidates_contact_email_lower", text("lower(contact_email)"), unique=True),
        Index("uq_candidates_provider_id", "provider_id", unique=True),
        Index(
            "uq_candidates_status_secret_hash",
            "status_secret_hash",
            unique=True,
            postgresql_where=text("status_secret_hash IS NOT NULL"),
        ),
        _index_of_product("apples", text("products @> ARRAY['apples']")),
        _index_of_product("oranges", text("products @> ARRAY['oranges']")),
        _index_of_product("grapes", text("products @> ARRAY['grapes']")),
        _index_of_product("bananas", text("products @> ARRAY['bananas']")),
        _index_of_product("mangoes", text("products @> ARRAY['mangoes']")),
        Index("ix_candidates_created_at_id", text("created_at DESC"), text("id DESC")),
        Index("ix_candidates_updated_at_id", "updated_at", "id"),
        Index("ix_candidates_capacity_id", "capacity_tons_per_day", "id"),
        Index("ix_candidates_trucks_id", "truck_count", "id"),
        Index("ix_candidates_company_name_id", "company_name", "id"),
        Index(
            "ix_candidates_search_text",
            "search_text",
            postgresql_using="gin",
            postgresql_ops={"search_text": "gin_trgm_ops"},
            postgresql_with={"gin_pending_list_limit": "256"},
        ),
        Index("ix_candidates_without_search_text", "id", postgresql_where=text("search_text IS NULL")),
        Index(
            "ix_candidates_decided_at",
            "updated_at",
            postgresql_include=["status", "created_at"],
            postgresql_where=text("status <> 'pending'"),
        ),
        Index("ix_candidates_status_created_at_id", "status", text("created_at DESC"), text("id DESC")),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, server_default=func.gen_random_uuid())
    status: Mapped[str] = mapped_column(String(20), server_default="pending")
    company_name: Mapped[str] = mapped_column(String(255))
    contact_email: Mapped[str] = mapped_column(String(255))
    phone: Mapped[str | None] = mapped_column(String(50))
    products: Mapped[list[str]] = mapped_column(ARRAY(Text()))
    truck_count: Mapped[int]
    capacity_tons_per_day: Mapped[int]
    location: Mapped[str | None] = mapped_column(String(255))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())
    provider_id: Mapped[int | None]
    version: Mapped[int] = mapped_column(server_default="1")
    rejection_reason: Mapped[str | None] = mapped_column(String(1000))
    status_secret_hash: Mapped[bytes | None]
    rejected_by: Mapped[UUID | None] = mapped_column(ForeignKey("users.id"))
    contact_email_canonical: Mapped[str | None]
    search_text: Mapped[str | None]
    language: Mapped[str | None]


# For gin_trgm_ops.
CREATE_EXTENSION = DDL("CREATE EXTENSION IF NOT EXISTS pg_trgm")  # type: ignore[no-untyped-call]
event.listen(Base.metadata, "before_create", CREATE_EXTENSION)


class CandidateCount(Base):
    """The number of candidates, by status and product, updated by a trigger. Product '' counts all of a status."""

    __tablename__ = "candidate_counts"
    __table_args__ = (
        {
            "postgresql_with": {
                "fillfactor": 50,
                "autovacuum_vacuum_scale_factor": 0,
                "autovacuum_vacuum_threshold": 1000,
            }
        },
    )

    product: Mapped[str] = mapped_column(primary_key=True)
    status: Mapped[str] = mapped_column(String(20), primary_key=True)
    shard: Mapped[int] = mapped_column(SmallInteger, primary_key=True, autoincrement=False)
    count: Mapped[int] = mapped_column(BigInteger)
    tons_per_day: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))


class User(Base):
    """A user: a member of staff."""

    __tablename__ = "users"
    __table_args__ = (
        CheckConstraint("role::text IN ('admin', 'auditor', 'viewer')", name="role"),
        Index("uq_users_email_canonical", "email_canonical", unique=True),
        Index("uq_users_email_lower", text("lower(email)"), unique=True),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, server_default=func.gen_random_uuid())
    email: Mapped[str] = mapped_column(String(255))
    password_hash: Mapped[str]
    role: Mapped[str] = mapped_column(String(20))
    disabled_at: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())
    email_canonical: Mapped[str | None]


class Session(Base):
    """A session, from sign-in to sign-out."""

    __tablename__ = "sessions"
    __table_args__ = (
        Index("ix_sessions_revoked_at", "revoked_at", postgresql_where=text("revoked_at IS NOT NULL")),
        CheckConstraint("expires_at <= created_at + '168:00:00'::interval", name="length"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, server_default=func.gen_random_uuid())
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"), index=True)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    expires_at: Mapped[datetime] = mapped_column(index=True)
    revoked_at: Mapped[datetime | None]


class RefreshToken(Base):
    """A refresh token, which continues a session once."""

    __tablename__ = "refresh_tokens"

    token_hash: Mapped[bytes] = mapped_column(primary_key=True)
    session_id: Mapped[UUID] = mapped_column(ForeignKey("sessions.id", ondelete="CASCADE"), index=True)
    expires_at: Mapped[datetime]
    used_at: Mapped[datetime | None]


class BrowserSession(Base):
    """The browser cookie of a session."""

    __tablename__ = "browser_sessions"

    secret_hash: Mapped[bytes] = mapped_column(primary_key=True)
    session_id: Mapped[UUID] = mapped_column(ForeignKey("sessions.id", ondelete="CASCADE"), index=True)
    seen_at: Mapped[datetime] = mapped_column(server_default=func.now())


class ApiKey(Base):
    """A key of a program; it stays when it is revoked, because events name it."""

    __tablename__ = "api_keys"
    __table_args__ = (
        UniqueConstraint("key_hash"),
        CheckConstraint("char_length(name) BETWEEN 1 AND 100", name="name"),
        CheckConstraint("octet_length(key_hash) = 32", name="key_hash"),
        CheckConstraint("role IN ('viewer', 'auditor', 'admin')", name="role"),
        CheckConstraint("expires_at > created_at", name="expires_at"),
        Index("ix_api_keys_created_at", "created_at", "id"),
        Index("ix_api_keys_revoked_at", "revoked_at", postgresql_where=text("revoked_at IS NOT NULL")),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, server_default=func.gen_random_uuid())
    name: Mapped[str]
    key_hash: Mapped[bytes]
    prefix: Mapped[str]
    role: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    created_by: Mapped[UUID | None] = mapped_column(ForeignKey("users.id"))
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None]


class ApprovalIntent(Base):
    """An unfinished approval."""

    __tablename__ = "approval_intents"
    __table_args__ = (
        UniqueConstraint("idempotency_key"),
        Index("uq_approval_intents_provider_name", "provider_name", unique=True),
        CheckConstraint("requested_by_kind IN ('user', 'api_key')", name="requested_by_kind"),
    )

    candidate_id: Mapped[UUID] = mapped_column(ForeignKey("candidates.id", ondelete="RESTRICT"), primary_key=True)
    idempotency_key: Mapped[UUID]
    provider_name: Mapped[str] = mapped_column(String(255))
    requested_by: Mapped[UUID]
    requested_at: Mapped[datetime] = mapped_column(server_default=func.now())
    claim_id: Mapped[UUID | None]
    next_attempt_at: Mapped[datetime] = mapped_column(index=True)
    attempts: Mapped[int] = mapped_column(server_default="1")
    last_error: Mapped[str | None]
    in_doubt_since: Mapped[datetime | None]
    requested_by_kind: Mapped[str] = mapped_column(server_default=text("'user'::text"))


class ApprovalEvent(Base):
    """One event of an approval."""

    __tablename__ = "approval_events"
    __table_args__ = (
        CheckConstraint(
            "event::text IN ('requested', 'retry_requested', 'failed', 'in_doubt', 'linked', 'let_go', 'approved', "
            "'orphaned')",
            name="event",
        ),
        Index("ix_approval_events_candidate_id", "candidate_id", "id"),
        Index("ix_approval_events_at", "at", "id"),
        Index("ix_approval_events_orphaned", "id", postgresql_where=text("event = 'orphaned'")),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    candidate_id: Mapped[UUID] = mapped_column(ForeignKey("candidates.id", ondelete="RESTRICT"))
    idempotency_key: Mapped[UUID]
    event: Mapped[str] = mapped_column(String(20))
    at: Mapped[datetime] = mapped_column(server_default=func.now())
    user_id: Mapped[UUID | None] = mapped_column(ForeignKey("users.id"))
    provider_id: Mapped[int | None]
    detail: Mapped[str | None]


class CandidateEvent(Base):
    """One event of a candidate, without personal data."""

    __tablename__ = "candidate_events"
    __table_args__ = (
        CheckConstraint("type ~ '^candidate\\.[a-z_]{1,40}$'::text", name="type"),
        CheckConstraint(
            "actor_kind IN ('applicant', 'user', 'api_key', 'service') "
            "AND (actor_id IS NOT NULL) = (actor_kind IN ('user', 'api_key'))",
            name="actor",
        ),
        Index("ix_candidate_events_candidate_id", "candidate_id", "at", "id"),
        Index(
            "ix_candidate_events_provider_orphaned",
            "candidate_id",
            postgresql_where=text("type = 'candidate.provider_orphaned'"),
        ),
        Index("ix_candidate_events_at_id", "at", "id"),
        Index(
            "uq_candidate_events_approval_event_id",
            "approval_event_id",
            unique=True,
            postgresql_where=text("approval_event_id IS NOT NULL"),
        ),
        Index("ix_candidate_events_type", "type", "at", "id", postgresql_where=text("type <> 'candidate.registered'")),
        Index(
            "ix_candidate_events_actor_id",
            *("actor_id", "type", "at", "id"),
            postgresql_where=text("actor_id IS NOT NULL"),
        ),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    candidate_id: Mapped[UUID] = mapped_column(ForeignKey("candidates.id", ondelete="RESTRICT"))
    type: Mapped[str]
    at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    actor_kind: Mapped[str]
    actor_id: Mapped[UUID | None]
    version: Mapped[int | None]
    data: Mapped[dict[str, Any]] = mapped_column(JSONB, server_default=text("'{}'::jsonb"))
    approval_event_id: Mapped[int | None] = mapped_column(BigInteger)


class CandidateEventDetails(Base):
    """The personal data of an event, until it is erased."""

    __tablename__ = "candidate_event_details"

    event_id: Mapped[int] = mapped_column(
        BigInteger, ForeignKey("candidate_events.id", ondelete="CASCADE"), primary_key=True, autoincrement=False
    )
    candidate_id: Mapped[UUID] = mapped_column(index=True)
    details: Mapped[dict[str, Any]] = mapped_column(JSONB)


class QueuedEvent(Base):
    """An event without a position; a trigger writes it with the event."""

    __tablename__ = "event_queue"
    __table_args__ = (
        {"postgresql_with": {"autovacuum_vacuum_scale_factor": "0", "autovacuum_vacuum_threshold": "1000"}},
    )

    event_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    candidate_id: Mapped[UUID]


class EventPosition(Base):
    """The position of an event in the feed, and its number among the candidate's events."""

    __tablename__ = "event_positions"
    __table_args__ = (UniqueConstraint("event_id"), UniqueConstraint("candidate_id", "sequence"))

    position: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    event_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("candidate_events.id", ondelete="CASCADE"))
    candidate_id: Mapped[UUID]
    sequence: Mapped[int]


class EventDispatcher(Base):
    """The last position; the process that locks the row may give the next ones."""

    __tablename__ = "event_dispatcher"
    __table_args__ = (CheckConstraint("is_only", name="is_only"), {"postgresql_with": {"fillfactor": "10"}})

    is_only: Mapped[bool] = mapped_column(primary_key=True, server_default=text("true"))
    last_position: Mapped[int] = mapped_column(BigInteger)
    pruned_position: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))


class BrokerPosition(Base):
    """How far the feed is published to a broker, and which process is publishing; `used_at` is exact to an hour."""

    __tablename__ = "broker_positions"
    __table_args__ = ({"postgresql_with": {"fillfactor": "10"}},)

    name: Mapped[str] = mapped_column(primary_key=True)
    position: Mapped[int] = mapped_column(BigInteger)
    holder: Mapped[UUID | None]
    lease_ends_at: Mapped[datetime | None]
    used_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Delivery(Base):
    """One message to one target, without personal data."""

    __tablename__ = "deliveries"
    __table_args__ = (
        UniqueConstraint("event_id", "kind", "target"),
        CheckConstraint("kind ~ '^[a-z_]{1,40}$'::text", name="kind"),
        CheckConstraint(
            "state IN ('pending', 'delivering', 'delivered', 'failed', 'dead', 'unknown') "
            "AND (next_attempt_at IS NOT NULL) = (state IN ('pending', 'delivering'))",
            name="state",
        ),
        Index(
            "ix_deliveries_due",
            "kind",
            "target",
            "next_attempt_at",
            postgresql_where=text("state IN ('pending', 'delivering')"),
        ),
        Index(
            "ix_deliveries_queued_at",
            "kind",
            "target",
            "queued_at",
            postgresql_where=text("state IN ('pending', 'delivering')"),
        ),
        Index("ix_deliveries_kind_state_id", "kind", "state", "id"),
        Index("ix_deliveries_kind_target_state_id", "kind", "target", "state", "id"),
        Index("ix_deliveries_ended", "updated_at", postgresql_where=text("state NOT IN ('pending', 'delivering')")),
        {"postgresql_with": {"fillfactor": "70"}},
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    kind: Mapped[str]
    target: Mapped[str]
    event_id: Mapped[int | None] = mapped_column(BigInteger, ForeignKey("candidate_events.id", ondelete="CASCADE"))
    state: Mapped[str] = mapped_column(server_default=text("'pending'::text"))
    attempts: Mapped[int] = mapped_column(server_default="0")
    next_attempt_at: Mapped[datetime | None] = mapped_column(server_default=func.clock_timestamp())
    last_status: Mapped[int | None]
    last_error: Mapped[str | None]
    data: Mapped[dict[str, Any]] = mapped_column(JSONB, server_default=text("'{}'::jsonb"))
    created_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    updated_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    queued_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())


class AuditEvent(Base):
    """One act of staff, without personal data."""

    __tablename__ = "audit_events"
    __table_args__ = (
        CheckConstraint("type ~ '^[a-z_]{1,40}\\.[a-z_]{1,40}$'::text", name="type"),
        CheckConstraint(
            "actor_kind IN ('user', 'api_key', 'service') "
            "AND (actor_id IS NOT NULL) = (actor_kind IN ('user', 'api_key'))",
            name="actor",
        ),
        CheckConstraint(
            "subject_kind ~ '^[a-z_]{1,40}$'::text AND (subject_id IS NOT NULL) = (subject_kind IS NOT NULL)",
            name="subject",
        ),
        Index("ix_audit_events_at", "at", "id"),
        Index("ix_audit_events_type", "type", "at", "id"),
        Index(
            "ix_audit_events_actor_id",
            *("actor_id", "type", "at", "id"),
            postgresql_where=text("actor_id IS NOT NULL"),
        ),
        Index(
            "uq_audit_events_session_failed",
            "subject_id",
            text("date_trunc('hour'::text, (at AT TIME ZONE 'UTC'::text))"),
            unique=True,
            postgresql_nulls_not_distinct=True,
            postgresql_where=text("type = 'session.failed'"),
        ),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    type: Mapped[str]
    at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    actor_kind: Mapped[str]
    actor_id: Mapped[UUID | None]
    subject_kind: Mapped[str | None]
    subject_id: Mapped[UUID | None]
    data: Mapped[dict[str, Any]] = mapped_column(JSONB, server_default=text("'{}'::jsonb"))


class EventRetention(Base):
    """For how many days events are kept at least; the owner writes the only row."""

    __tablename__ = "event_retention"
    __table_args__ = (
        CheckConstraint("only_one", name="only_one"),
        CheckConstraint("minimum_days BETWEEN 1 AND 36500", name="minimum_days"),
    )

    only_one: Mapped[bool] = mapped_column(server_default=text("true"), primary_key=True)
    minimum_days: Mapped[int]


class PrunedSequence(Base):
    """The highest sequence of a candidate's deleted events."""

    __tablename__ = "pruned_sequences"

    candidate_id: Mapped[UUID] = mapped_column(primary_key=True)
    sequence: Mapped[int]


class StatusLink(Base):
    """A link to a candidate's status page in an e-mail, beside its own link."""

    __tablename__ = "status_links"
    __table_args__ = (
        CheckConstraint("octet_length(secret_hash) = 32", name="secret_hash"),
        Index("ix_status_links_candidate_id", "candidate_id", "created_at"),
    )

    secret_hash: Mapped[bytes] = mapped_column(primary_key=True)
    candidate_id: Mapped[UUID] = mapped_column(ForeignKey("candidates.id", ondelete="CASCADE"))
    created_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())


class CandidateKeys(Base):
    """Hashes by which similar companies and words are found; NULL until a process has computed them."""

    __tablename__ = "candidate_keys"
    __table_args__ = (
        Index("ix_candidate_keys_keys", "keys", postgresql_using="gin", postgresql_with=PENDING_KEYS),
        Index("ix_candidate_keys_empty", "candidate_id", postgresql_where=text("keys IS NULL")),
        Index("ix_candidate_keys_word_keys", "word_keys", postgresql_using="gin", postgresql_with=PENDING_KEYS),
        Index("ix_candidate_keys_without_words", "candidate_id", postgresql_where=text("word_keys IS NULL")),
    )

    candidate_id: Mapped[UUID] = mapped_column(ForeignKey("candidates.id", ondelete="CASCADE"), primary_key=True)
    keys: Mapped[list[int] | None] = mapped_column(ARRAY(BigInteger))
    word_keys: Mapped[list[int] | None] = mapped_column(ARRAY(Integer))


class IdempotencyKeys(Base):
    """The answers to requests with an Idempotency-Key; `answer` is NULL while it follows from an approval's state.

    Without a foreign key: `candidate_id` may be one that a request asked for in vain.
    """

    __tablename__ = "idempotency_keys"
    __table_args__ = (
        CheckConstraint("octet_length(key_hash) = 32", name="key_hash"),
        Index("ix_idempotency_keys_created_at", "created_at"),
        Index("ix_idempotency_keys_candidate_id", "candidate_id", postgresql_where=text("candidate_id IS NOT NULL")),
    )

    key_hash: Mapped[bytes] = mapped_column(primary_key=True)
    fingerprint: Mapped[bytes]
    candidate_id: Mapped[UUID | None]
    answer: Mapped[dict[str, Any] | None] = mapped_column(JSONB)
    created_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())


class DailyStatistics(Base):
    """Counts of one day in UTC: by product, by who decided, by reason, and of all."""

    __tablename__ = "daily_statistics"
    __table_args__ = (
        CheckConstraint("dimension IN ('', 'product', 'decided_by', 'reason')", name="dimension"),
        {"postgresql_with": {"fillfactor": "70"}},
    )

    dimension: Mapped[str] = mapped_column(primary_key=True)
    measure: Mapped[str] = mapped_column(primary_key=True)
    day: Mapped[date] = mapped_column(primary_key=True)
    value: Mapped[str] = mapped_column(primary_key=True)
    bucket: Mapped[int] = mapped_column(SmallInteger, primary_key=True)
    count: Mapped[int] = mapped_column(BigInteger)


class DailyBacklog(Base):
    """When the oldest candidate registered that was pending at the end of the day and is decided now."""

    __tablename__ = "daily_backlogs"
    __table_args__ = ({"postgresql_with": {"fillfactor": "70"}},)

    day: Mapped[date] = mapped_column(primary_key=True)
    oldest: Mapped[datetime]


class StatisticsProgress(Base):
    """One row: the last position that is counted."""

    __tablename__ = "statistics_progress"
    __table_args__ = (CheckConstraint("is_only", name="is_only"), {"postgresql_with": {"fillfactor": "10"}})

    is_only: Mapped[bool] = mapped_column(primary_key=True, server_default=text("true"))
    position: Mapped[int] = mapped_column(BigInteger)
    backfilled_to: Mapped[UUID | None]
    is_ready: Mapped[bool] = mapped_column(server_default=text("false"))


class StaffDigest(Base):
    """One row: the last event that staff were told of by e-mail, and when."""

    __tablename__ = "staff_digest"
    __table_args__ = (CheckConstraint("is_only", name="is_only"),)

    is_only: Mapped[bool] = mapped_column(primary_key=True, server_default=text("true"))
    last_position: Mapped[int] = mapped_column(BigInteger)
    made_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())


class Webhook(Base):
    """Where events are sent; the secrets are encrypted."""

    __tablename__ = "webhooks"
    __table_args__ = (
        CheckConstraint("disabled_reason IN ('staff', 'gone', 'failing')", name="disabled_reason"),
        CheckConstraint("(previous_secret IS NULL) = (previous_secret_expires_at IS NULL)", name="previous_secret"),
        CheckConstraint("(failing_since IS NULL) = (last_failure_at IS NULL)", name="failing"),
        CheckConstraint(
            "num_nulls(replay_since, replay_at, replay_id, replay_until) = ANY (ARRAY[0, 4])", name="replay"
        ),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    url: Mapped[str]
    types: Mapped[list[str]] = mapped_column(ARRAY(Text()), server_default=text("'{}'"))
    description: Mapped[str] = mapped_column(server_default="")
    secret: Mapped[bytes]
    previous_secret: Mapped[bytes | None]
    previous_secret_expires_at: Mapped[datetime | None]
    disabled_reason: Mapped[str | None]
    failing_since: Mapped[datetime | None]
    last_failure_at: Mapped[datetime | None]
    warned_at: Mapped[datetime | None]
    replay_since: Mapped[datetime | None]
    replay_at: Mapped[datetime | None]
    replay_id: Mapped[int | None] = mapped_column(BigInteger)
    replay_until: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    updated_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())


class Job(Base):
    """Work on many items; `parameters` may have personal data and are NULL once it has ended."""

    __tablename__ = "jobs"
    __table_args__ = (
        CheckConstraint("kind ~ '^[a-z_]{1,40}\\.[a-z_]{1,40}$'::text", name="kind"),
        CheckConstraint("state IN ('queued', 'running', 'done', 'cancelled')", name="state"),
        CheckConstraint("actor_kind IN ('user', 'api_key')", name="actor"),
        CheckConstraint("done BETWEEN 0 AND total", name="done"),
        CheckConstraint(
            "(state = 'cancelled') = (cancel_reason IS NOT NULL) "
            "AND (state IN ('done', 'cancelled')) = (ended_at IS NOT NULL) "
            "AND (due_at IS NOT NULL OR (ended_at IS NOT NULL AND claim_id IS NULL AND parameters IS NULL))",
            name="ended",
        ),
        Index("ix_jobs_due_at", "due_at", postgresql_where=text("due_at IS NOT NULL")),
        Index("ix_jobs_created_at", "created_at", "id"),
        Index("ix_jobs_ended_at", "ended_at", postgresql_where=text("ended_at IS NOT NULL")),
        {"postgresql_with": {"fillfactor": "70"}},
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    kind: Mapped[str]
    state: Mapped[str] = mapped_column(server_default=text("'queued'::text"))
    actor_kind: Mapped[str]
    actor_id: Mapped[UUID]
    parameters: Mapped[dict[str, Any] | None] = mapped_column(JSONB)
    is_partial: Mapped[bool] = mapped_column(server_default=text("false"))
    total: Mapped[int]
    done: Mapped[int] = mapped_column(server_default="0")
    summary: Mapped[dict[str, Any]] = mapped_column(JSONB, server_default=text("'{}'::jsonb"))
    cancel_reason: Mapped[str | None]
    claim_id: Mapped[UUID | None]
    due_at: Mapped[datetime | None] = mapped_column(server_default=func.clock_timestamp())
    created_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    worked_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    ended_at: Mapped[datetime | None]


class JobItem(Base):
    """One item of a job, with its result once `status` is set."""

    __tablename__ = "job_items"
    __table_args__ = (
        CheckConstraint("status ~ '^[a-z_]{1,40}$' AND (code IS NULL OR status = 'failed')", name="status"),
        Index("ix_job_items_left", "job_id", "number", postgresql_where=text("status IS NULL")),
        {"postgresql_with": {"fillfactor": "70"}},
    )

    job_id: Mapped[UUID] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    candidate_id: Mapped[UUID | None]
    version: Mapped[int | None]
    status: Mapped[str | None]
    code: Mapped[str | None]
    attempts: Mapped[int] = mapped_column(server_default="0")
    claim_id: Mapped[UUID | None]
    due_at: Mapped[datetime | None]


class Import(Base):
    """A file of companies; `touched_at`: when it was sent or last started, from which on it is kept for a while."""

    __tablename__ = "imports"
    __table_args__ = (
        CheckConstraint("actor_kind IN ('user', 'api_key')", name="actor"),
        CheckConstraint("(run > 0) = (job_id IS NOT NULL) AND (run > 0) = (is_dry_run IS NOT NULL)", name="run"),
        Index("ix_imports_created_at", "created_at", "id"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    is_read: Mapped[bool] = mapped_column(server_default=text("false"))
    format: Mapped[str | None]
    details: Mapped[dict[str, Any]] = mapped_column(JSONB, server_default=text("'{}'::jsonb"))
    columns: Mapped[list[str]] = mapped_column(JSONB, server_default=text("'[]'::jsonb"))
    mapping: Mapped[dict[str, Any]] = mapped_column(JSONB, server_default=text("'{}'::jsonb"))
    row_count: Mapped[int] = mapped_column(server_default="0")
    run: Mapped[int] = mapped_column(server_default="0")
    is_dry_run: Mapped[bool | None]
    notify: Mapped[bool] = mapped_column(server_default=text("false"))
    job_id: Mapped[UUID | None]
    actor_kind: Mapped[str]
    actor_id: Mapped[UUID]
    created_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    touched_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())


class ImportRow(Base):
    """A row of a file; `cells` are NULL once it is registered. `addresses`: its e-mail addresses, one a line."""

    __tablename__ = "import_rows"
    __table_args__ = (
        CheckConstraint(
            "outcome IN ('valid', 'invalid', 'registered', 'already_registered', 'erased')", name="outcome"
        ),
        Index(
            *("ix_import_rows_email_canonical", "import_id", "email_canonical"),
            postgresql_where=text("email_canonical IS NOT NULL"),
        ),
        {"postgresql_with": {"fillfactor": "70"}},
    )

    import_id: Mapped[UUID] = mapped_column(ForeignKey("imports.id", ondelete="CASCADE"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    row_number: Mapped[int]
    cells: Mapped[list[str] | None] = mapped_column(JSON)
    addresses: Mapped[str] = mapped_column(server_default=text("''::text"))
    run: Mapped[int] = mapped_column(server_default="0")
    outcome: Mapped[str | None]
    errors: Mapped[list[dict[str, Any]] | None] = mapped_column(JSON)
    email_canonical: Mapped[str | None]
