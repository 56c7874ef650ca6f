"""CSV files are written in threads: a hostile text takes seconds, during which the event loop would be blocked."""

from __future__ import annotations

import json
import threading
from datetime import UTC, datetime

import pytest

from provider_registration.activity.export import as_csv as activity_as_csv
from provider_registration.activity.models import Activity
from provider_registration.audit.models import SERVICE, AuditType
from provider_registration.candidates.exports import FIELDS
from provider_registration.candidates.exports import as_csv as candidates_as_csv
from provider_registration.imports.failed import failed_as_csv
from provider_registration.imports.models import FileRow, RowErrors, RowOutcome
from provider_registration.web import csv_files
from provider_registration.web.pagination import NEWEST_END

HOSTILE = ";=" * 100
AT = datetime(2026, 3, 14, 9, 26, 53, tzinfo=UTC)


async def only(value):
    yield value


def of_candidates():
    facts = {
        "company_name": HOSTILE,
        "contact_email": "a@b.example",
        "phone": None,
        "products": ["apples"],
        "location": None,
        "truck_count": 1,
        "capacity_tons_per_day": 1,
    }
    return candidates_as_csv(only(json.dumps(dict.fromkeys(FIELDS) | facts) + "\n"))


def of_activity():
    about = {"subject": None, "version": None, "data": {"error": HOSTILE}, "position": NEWEST_END}
    return activity_as_csv(only(Activity("1", AuditType.AUDIT_EXPORTED, AT, SERVICE, **about)))


def of_failed_rows():
    errors = RowErrors(1, 2, RowOutcome.INVALID, [])
    return failed_as_csv(["Company"], only([(FileRow(1, 2, [HOSTILE]), errors)]))


@pytest.mark.parametrize("rows_of", [of_candidates, of_activity, of_failed_rows])
async def test_rows_are_written_in_a_thread(monkeypatch, rows_of):
    threads = []

    def in_thread(value, neutral=csv_files._neutral):
        if HOSTILE in str(value):
            threads.append(threading.current_thread())
        return neutral(value)

    monkeypatch.setattr(csv_files, "_neutral", in_thread)
    text = "".join([part async for part in rows_of()])

    assert text.count(";'=") == len(HOSTILE) // 2
    assert threads
    assert threading.main_thread() not in threads
