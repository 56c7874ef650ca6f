"""Access log lines: in the format of `logs`, and written in batches."""

from __future__ import annotations

import asyncio
import json
import logging
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from provider_registration.observability import logs
from provider_registration.observability.logs import AccessLog, LineFormatter, access_logger, request_id_var

REQUEST = {"method": "GET", "endpoint": "/candidates/{candidate_id}", "status": 200}


class Writes:
    """A writer that records what each call wrote."""

    def __init__(self):
        self.given = []

    def write(self, text):
        self.given.append(text)


@pytest.fixture
def written(monkeypatch):
    writes = Writes()
    monkeypatch.setattr(logs, "log_writer", writes)
    return writes.given


@pytest.fixture(autouse=True)
def level(request, monkeypatch):
    monkeypatch.setattr(access_logger, "level", getattr(request, "param", logging.INFO))
    access_logger.manager._clear_cache()


def formatted(**fields):
    """The line that a `logging` record with these fields produces."""
    record = logging.LogRecord(access_logger.name, logging.INFO, "", 0, "request", None, None)
    vars(record).update(fields)
    return LineFormatter().format(record)


async def test_a_line_has_the_id_of_an_api_key(written):
    api_key_id = uuid4()
    AccessLog().add(**REQUEST, seconds=0, user_id=None, api_key_id=api_key_id, request_id="abc-1")
    await asyncio.sleep(0)

    line = json.loads(written[0])
    assert line["api_key_id"] == str(api_key_id)
    assert "user_id" not in line


@pytest.mark.parametrize("user_id", [None, uuid4()])
async def test_a_line_is_what_logging_would_make_of_it(written, user_id):
    AccessLog().add(**REQUEST, seconds=0.0123456, user_id=user_id, request_id="abc-1")
    await asyncio.sleep(0)

    [text] = written
    staff = {"user_id": str(user_id)} if user_id else {}
    token = request_id_var.set("abc-1")
    try:
        expected = json.loads(formatted(**REQUEST, duration_ms=12.35, **staff))
    finally:
        request_id_var.reset(token)
    line = json.loads(text)
    assert text.endswith("}\n")
    assert list(line) == list(expected)
    times = [datetime.fromisoformat(each.pop("time")) for each in (line, expected)]
    assert times[0].tzinfo is UTC
    assert timedelta() <= times[1] - times[0] < timedelta(seconds=5)
    assert line == expected


async def test_lines_of_one_turn_of_the_loop_leave_together(written):
    log = AccessLog()
    for number in range(3):
        log.add(**REQUEST, seconds=0, user_id=None, request_id=str(number))
    await asyncio.sleep(0)
    log.add(**REQUEST, seconds=0, user_id=None, request_id="3")
    await asyncio.sleep(0)

    first, second = written
    assert [json.loads(line)["request_id"] for line in first.splitlines()] == ["0", "1", "2"]
    assert json.loads(second)["request_id"] == "3"


@pytest.mark.parametrize("level", [logging.WARNING], indirect=True)
async def test_nothing_is_written_below_the_level(written):
    AccessLog().add(**REQUEST, seconds=0, user_id=None, request_id="0")
    await asyncio.sleep(0)

    assert written == []
