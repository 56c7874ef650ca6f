"""The tested failpoints are all those in the source."""

from __future__ import annotations

import re
from pathlib import Path

import provider_registration
from provider_registration import failpoints

from .kills import CALLING, COUNTING, DISPATCHING, FAILPOINTS, IMPORTING, KEEPING, MAILING, PUBLISHING, WORKING

SOURCE = Path(provider_registration.__file__).parent


def test_every_failpoint_of_the_source_is_tried():
    text = "".join(path.read_text() for path in SOURCE.rglob("*.py"))

    assert set(re.findall(r'\breach\("([^"]+)"\)', text)) == {
        *FAILPOINTS,
        *COUNTING,
        *DISPATCHING,
        *MAILING,
        *CALLING,
        *PUBLISHING,
        *KEEPING,
        *WORKING,
        *IMPORTING,
    }
    assert text.count("await reach(") == len(re.findall(r'\bawait reach\("', text))


def test_nothing_in_the_source_sets_the_hook():
    text = "".join(path.read_text() for path in SOURCE.rglob("*.py") if path.name != "failpoints.py")

    assert "failpoints.hook" not in text
    assert failpoints.hook is None


async def test_a_hook_gets_the_name_of_the_point(monkeypatch):
    reached = []

    async def note(name):
        reached.append(name)

    monkeypatch.setattr(failpoints, "hook", note)
    await failpoints.reach("billing.before-send")

    assert reached == ["billing.before-send"]
