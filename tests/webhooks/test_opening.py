"""What a process does about webhooks without being able to send."""

from __future__ import annotations

from tests.webhooks.conftest import staffed
from tests.webhooks.receivers import receiving


async def test_a_process_without_the_key_queues_events_for_those_that_have_it(own_database_url, shared_billing_url):
    async with receiving() as receiver:
        async with staffed(own_database_url, shared_billing_url, workers=False) as staff:
            webhook = await staff.add(receiver)
        async with staffed(own_database_url, shared_billing_url, secrets_key=None) as staff:
            await staff.register()
            row = await staff.until(webhook, state="pending")

    assert (row["attempts"], receiver.messages) == (0, [])
