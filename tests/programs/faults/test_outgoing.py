"""Whatever dies while messages are sent: each arrives, and one that comes again has the same ID and content."""

from __future__ import annotations

from .kills import CALLING, DISPATCHING, MAILING, PUBLISHING
from .outgoing import DATABASE_PLACES, kill_database_of_senders_at, kill_senders_at


async def test_killed_while_they_send_processes_lose_no_message_and_change_none(world, random):
    places = [
        random.choice(each) for each in (MAILING, CALLING, PUBLISHING, DISPATCHING)
    ]  # the full run tests them all
    findings = await kill_senders_at(world, places, random)

    assert not findings.problems, (places, findings.problems)


async def test_while_postgresql_is_killed_no_message_is_lost(mortal_world, random):
    place = random.choice(DATABASE_PLACES)
    findings = await kill_database_of_senders_at(mortal_world, [place], random)

    assert not findings.problems, (place, findings.problems)
