"""Log lines: one JSON object each, without data from requests."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime

import asyncpg
import pytest

from provider_registration.observability.logs import (
    QUIET_SECONDS,
    LineFormatter,
    LogHandler,
    RateLimitedLogger,
    RateLimitedWarnings,
    request_id_var,
)

SENT = "maria@obsthof.example"


@pytest.fixture
def line():
    """The line that a record produces, parsed as JSON."""
    formatter = LineFormatter()

    def line(message="it failed", error=None, **fields):
        info = (type(error), error, error.__traceback__) if error else None
        record = logging.LogRecord("tests", logging.ERROR, __file__, 1, message, None, info)
        vars(record).update(fields)
        text = formatter.format(record)
        assert "\n" not in text
        return json.loads(text)

    return line


def test_a_line_has_what_was_given_and_nothing_else_of_the_record(line):
    told = line(endpoint="/candidates", duration_ms=1.5, color_message="for terminals")

    assert datetime.fromisoformat(told.pop("time")).tzinfo is UTC
    assert told == {
        "level": "ERROR",
        "logger": "tests",
        "message": "it failed",
        "endpoint": "/candidates",
        "duration_ms": 1.5,
    }


def raised(error, cause=None):
    """The error with a traceback, as if it had been caught."""
    with pytest.raises(type(error)) as caught:
        raise error from cause
    return caught.value


def test_an_exception_is_logged_as_its_traceback_and_type(line):
    story = line(error=raised(ValueError(f"{SENT} is strange")))["exc_info"]

    assert "in raised" in story
    assert story.endswith("ValueError")
    assert SENT not in story


def test_causes_are_logged_before_the_exception(line):
    story = line(error=raised(KeyError(SENT), raised(ValueError(SENT))))["exc_info"]

    before, after = story.split("\nwhich caused:\n")
    assert before.endswith("ValueError")
    assert after.endswith("KeyError")
    assert SENT not in story


def test_the_members_of_a_group_are_logged(line):
    story = line(error=raised(ExceptionGroup(SENT, [raised(ValueError(SENT)), KeyError(SENT)])))["exc_info"]

    assert "ExceptionGroup" in story
    assert "ValueError" in story
    assert "KeyError" in story
    assert SENT not in story


def test_cyclic_causes_are_logged_once(line):
    first, second = raised(ValueError(SENT)), raised(KeyError(SENT))
    first.__cause__, second.__cause__ = second, first

    story = line(error=first)["exc_info"]

    assert story.count("KeyError") == story.count("ValueError") == 1


def test_errors_of_the_system_and_of_postgresql_have_their_numbers(line):
    assert line(error=raised(ConnectionRefusedError(111, SENT)))["exc_info"].endswith(
        "ConnectionRefusedError: errno 111"
    )
    assert line(error=raised(asyncpg.UniqueViolationError(SENT)))["exc_info"].endswith("SQLSTATE 23505")


@pytest.mark.asvs("V16.4.1")
@pytest.mark.parametrize("text", ["a\r\nb", 'a"}\n{"level":"ERROR"', "a\x1b[31mb", "a\u2028b", "\x00"])
def test_no_text_ends_a_line_early(line, text):
    assert line(text, field=text)["message"] == text


def test_the_request_is_named(line):
    token = request_id_var.set("abc")
    try:
        assert line()["request_id"] == "abc"
    finally:
        request_id_var.reset(token)


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def told(caplog):
    """What was logged: level, message, number of suppressed lines, and the reason."""
    caplog.set_level(logging.WARNING)
    return lambda: [
        (record.levelname, record.getMessage(), record.suppressed, getattr(record, "reason", None))
        for record in caplog.records
    ]


def test_a_line_that_repeats_is_written_once_in_a_while_with_the_number_left_out(told):
    clock = Clock()
    limited = RateLimitedLogger(logging.getLogger("limited"), clock)

    for second in range(60):  # 600 in a minute
        clock.now = 1000.0 + second
        for _ in range(10):
            limited.warning("it is away", reason=str(second))

    assert told() == [
        ("WARNING", "it is away", 0 if second == 0 else 99, str(second)) for second in range(0, 60, int(QUIET_SECONDS))
    ]


def test_another_line_is_not_kept_back_and_neither_is_another_logger(told):
    clock = Clock()
    one, other = (RateLimitedLogger(logging.getLogger("limited"), clock) for _ in range(2))

    one.warning("it is away")
    one.warning("it is elsewhere")
    other.warning("it is away")

    assert [message for _, message, _, _ in told()] == ["it is away", "it is elsewhere", "it is away"]


def test_a_line_after_a_quiet_time_says_that_none_was_left_out(told):
    clock = Clock()
    limited = RateLimitedLogger(logging.getLogger("limited"), clock)

    for _ in range(3):
        limited.warning("it is away")
        clock.now += QUIET_SECONDS

    assert [suppressed for _, _, suppressed, _ in told()] == [0, 0, 0]


def test_a_rate_limited_exception_is_logged_with_its_traceback(caplog):
    limited = RateLimitedLogger(logging.getLogger("limited"), Clock())
    for _ in range(2):
        try:
            {}[SENT]
        except KeyError:
            limited.exception("a sweep failed")

    [record] = caplog.records
    assert record.levelname == "ERROR"
    assert record.exc_info[0] is KeyError


def test_a_warning_that_any_stranger_can_cause_is_written_seldom():
    now = 0.0
    seldom = RateLimitedWarnings(lambda: now)

    def passes(level, message="Invalid HTTP request received."):
        record = logging.LogRecord("uvicorn.error", level, __file__, 1, message, None, None)
        return seldom.filter(record), getattr(record, "suppressed", None)

    assert passes(logging.WARNING) == (True, 0)
    assert [passes(logging.WARNING)[0] for _ in range(3)] == [False] * 3
    assert passes(logging.WARNING, "Unsupported upgrade request.") == (True, 0)
    assert [passes(logging.ERROR)[0] for _ in range(2)] == [True] * 2
    now = QUIET_SECONDS
    assert passes(logging.WARNING) == (True, 3)


class Unprintable:
    def __str__(self):
        raise RuntimeError(SENT)


@pytest.mark.parametrize("arguments", [(SENT, "x"), (Unprintable(), 1)])
def test_an_unformattable_line_names_its_logger_without_data(arguments):
    written = []

    class Writer:
        write = written.append

    record = logging.LogRecord("a.library", logging.WARNING, __file__, 1, "%s of %d", arguments, None)
    LogHandler(Writer()).emit(record)

    [line] = map(json.loads, written)
    assert (line["level"], line["logger"]) == ("ERROR", "a.library")
    assert "arguments" in line["message"]
    assert SENT not in written[0]
