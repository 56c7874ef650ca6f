"""Whatever dies while messages are sent: each arrives, and one that comes again has the same ID and content."""

from __future__ import annotations

from .kills import CALLING, DISPATCHING, MAILING, PUBLISHING
from .outgoing import DATABASE_PLACES, kill_database_of_senders_at, kill_senders_at


async def test_killed_at_any_point_processes_lose_no_message_and_change_none(at_each):
    groups = {"e-mail": MAILING, "webhooks": CALLING, "events and broker": (*DISPATCHING, *PUBLISHING)}
    await at_each(
        {
            group: lambda world, random, places=places: kill_senders_at(world, places, random)
            for group, places in groups.items()
        }
    )


async def test_while_postgresql_is_killed_no_message_is_lost(mortal_world, random):
    places = random.sample(DATABASE_PLACES, 2)  # the full run tests them all
    findings = await kill_database_of_senders_at(mortal_world, places, random)

    assert not findings.problems, (places, findings.problems)
