"""The service's own statements, as PostgreSQL receives them; only this module knows their names."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import date, datetime
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import TextClause
from sqlalchemy.dialects.postgresql import asyncpg as dialect

from provider_registration.approvals import queries as approval_queries
from provider_registration.candidates import queries
from provider_registration.candidates.company import Company, Product
from provider_registration.candidates.list_queries import list_statement, names_of_clauses
from provider_registration.candidates.models import Registration, registrations_json
from provider_registration.candidates.selection import Order
from provider_registration.candidates.status_secrets import new_status_secret
from provider_registration.events import queries as event_queries
from provider_registration.statistics import queries as statistics_queries
from provider_registration.statistics.models import Grouping, Interval
from provider_registration.statistics.service import MAX_UNCOUNTED, MEASURES
from provider_registration.web.pagination import NEWEST_END

PAGE = 20
FIRST_PLACE = {"after": NEWEST_END.at, "after_id": NEWEST_END.id}


def get(candidate_id: UUID) -> tuple[TextClause, dict[str, Any]]:
    """Read one candidate: the statement of a batch, of one."""
    return queries.FIND_RECORDS, {"candidate_ids": [candidate_id]}


def register(email: str, company_name: str = "Huerta del Sol S.L.") -> tuple[TextClause, dict[str, Any]]:
    """Register a company that has a status page: the statement of a batch, of one."""
    company = Company.model_construct(
        company_name=company_name,
        contact_email=email,
        phone="+34 963 555 017",
        products=[Product.ORANGES, Product.GRAPES],
        truck_count=12,
        capacity_tons_per_day=80,
        location="Valencia, Spain",
    )
    registration = Registration.of(company, new_status_secret(), "es")
    return queries.INSERT_CANDIDATES, {"registrations": registrations_json([registration])}


def claim(candidate_id: UUID, user_id: UUID) -> tuple[TextClause, dict[str, Any]]:
    """The beginning of an approval: the statement of a batch, of one."""
    request = {"candidate_id": str(candidate_id), "idempotency_key": str(uuid4()), "claim_id": str(uuid4())}
    request |= {"actor": {"kind": "user", "id": str(user_id)}, "expected": None, "is_retry": False, "notify": True}
    return approval_queries.CLAIM, {"requests": json.dumps([request]), "lease_seconds": 30.0}


def approve(candidate_id: UUID) -> tuple[TextClause, dict[str, Any]]:
    """The end of an approval: the statement of a batch, of one."""
    made = {"candidate_id": str(candidate_id), "candidate_version": 1, "provider_id": 2**31 - 1}
    made |= {"idempotency_key": str(uuid4()), "event": "approved"}
    return approval_queries.FINISH, {"created": json.dumps([made])}


def reject(candidate_id: UUID) -> tuple[TextClause, dict[str, Any]]:
    """The UPDATE of a rejection: the statement of a batch, of one."""
    actor = {"kind": "service", "id": None}
    rejection = {"candidate_id": str(candidate_id), "reason": "No cold chain", "actor": actor, "expected": None}
    return queries.REJECT_CANDIDATES, {"rejections": json.dumps([rejection])}


def dispatch(last: int) -> tuple[TextClause, dict[str, Any]]:
    """Number the queued events after this position."""
    return event_queries.NUMBER_EVENTS, {"last": last, "limit": 500}


def page(
    *, status: str | None = None, product: str | None = None, place: tuple[datetime, UUID] | None = None
) -> tuple[TextClause, dict[str, Any]]:
    """One page, from the beginning or from a cursor's place."""
    filters = {name: value for name, value in {"status": status, "product": product}.items() if value is not None}
    clauses = names_of_clauses(filters)
    statement = list_statement(("all", "records"), clauses, (), Order.NEWEST, "counts", has_position=True)
    after = {"after": place[0], "after_id": place[1]} if place else FIRST_PLACE
    return statement, {**after, "status": status, "product": product, "limit": PAGE}


def statistics(first: date, last: date, by: Grouping | None = None) -> tuple[TextClause, dict[str, Any]]:
    """The counts of these days, by day."""
    return statistics_queries.READ_COUNTS, {**_days(first, last, by), "measures": list(MEASURES[by]), "max_values": 20}


def backlog(first: date, last: date) -> tuple[TextClause, dict[str, Any]]:
    """How many candidates were pending at the end of each day."""
    return statistics_queries.READ_BACKLOG, _days(first, last, None)


def _days(first: date, last: date, by: Grouping | None) -> dict[str, Any]:
    return {"dimension": by or "", "first": first, "last": last, "interval": Interval.DAY, "limit": MAX_UNCOUNTED}


def page_by(order: Order) -> tuple[TextClause, dict[str, Any]]:
    """The first page in another order."""
    statement = list_statement(("all", "records"), frozenset(), (), order, "counts")
    return statement, {"status": None, "product": None, "limit": PAGE}


def matches(order: Order = Order.FIRST_NAME, **filters: object) -> tuple[TextClause, dict[str, Any]]:
    """The first page of the rows that match filters without kept counts, and their number."""
    statement = list_statement(("matched", "records"), names_of_clauses(filters), (), order, "matched")
    return statement, {**filters, "limit": PAGE}


def compiled(statement: TextClause, parameters: Mapping[str, Any]) -> tuple[str, list[Any]]:
    """The statement with $1, $2 … and their values, as asyncpg takes them."""
    made = statement.compile(dialect=dialect.dialect())
    return str(made), [{**made.params, **parameters}[name] for name in made.positiontup or ()]


def literal(statement: TextClause, parameters: Mapping[str, Any], *, raw: Mapping[str, str]) -> str:
    """The statement with its values written out, for pgbench; `raw` has SQL to put in for some of the parameters."""
    made = statement.compile(dialect=dialect.dialect())
    names, values = made.positiontup or (), {**made.params, **parameters}

    def put(match: re.Match[str]) -> str:
        name = names[int(match[1]) - 1]
        return raw.get(name) or _quoted(values[name])

    return re.sub(r"\$(\d+)", put, str(made))


def _quoted(value: object) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, list):
        return f"'{{{','.join(value)}}}'"
    text = value.isoformat(" ") if isinstance(value, datetime) else str(value)
    quoted = "'" + text.replace("'", "''").replace(":", "' || chr(58) || '") + "'"  # pgbench's variables start with :
    return f"({quoted})" if ":" in text else quoted


async def blocks(connection: Any, statement: TextClause, parameters: Mapping[str, Any]) -> int:
    """Blocks of shared memory that a statement touches; what it writes is taken back."""
    text, values = compiled(statement, parameters)
    transaction = connection.transaction()
    await transaction.start()
    try:
        told = await connection.fetchval(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {text}", *values)
    finally:
        await transaction.rollback()
    plan = json.loads(told)[0]["Plan"]
    return int(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])
