"""A webhook that the service disables: recorded in the audit log, and staff get an e-mail, after a warning."""

from __future__ import annotations

import asyncio

import pytest

from provider_registration.notifications import sender
from tests.mail_server import mailbox

from .conftest import staffed
from .receivers import OK, answer, receiving

STAFF = ("one@supply.example", "two@supply.example")
FAILED_FOR = """
    UPDATE webhooks
    SET failing_since = clock_timestamp() - $1 * interval '1 day', last_failure_at = clock_timestamp(),
        warned_at = clock_timestamp() - $2 * interval '1 day'
"""


@pytest.fixture
async def box():
    async with mailbox() as box:
        yield box


@pytest.fixture
async def mailing(own_database_url, shared_billing_url, box, monkeypatch):
    """A service that sends e-mails to STAFF, and of companies' e-mails none."""
    monkeypatch.setattr(sender, "SECONDS", 0.05)
    settings = {
        "smtp_url": box.url(),
        "mail_from": "supply@supply.example",
        "staff_mail_to": ",".join(STAFF),
        "public_url": "https://supply.example",
        "admin_pages": True,
    }
    async with staffed(own_database_url, shared_billing_url, **settings) as staff:
        yield staff


async def recorded(staff):
    """What the audit log says about webhooks that the service disabled."""
    events = (await staff.client.get("/audit", params={"type": "webhook.disabled"})).json()["events"]
    return [(event["actor"]["kind"], event["subject"]["id"], event["data"]) for event in events]


async def mails(box, count):
    """The subjects of the e-mails to each of STAFF, once each has so many."""
    async with asyncio.timeout(20):
        while any(len(box.to(address)) < count for address in STAFF):
            await asyncio.sleep(0.02)
    one, two = ([mail["Subject"] for mail in box.to(address)] for address in STAFF)
    assert one == two
    return one


async def disabled(staff, webhook_id):
    async with asyncio.timeout(20):
        while (await staff.webhook(webhook_id))["enabled"]:
            await asyncio.sleep(0.02)


async def test_a_410_is_recorded_and_told(mailing, box):
    async with receiving(answer(410)) as receiver:
        webhook = await mailing.add(receiver, "/hook?token=secret")
        added = await mailing.webhook(webhook)
        await mailing.register()
        await disabled(mailing, webhook)
        assert (await mailing.webhook(webhook))["updated_at"] > added["updated_at"]

        assert await mails(box, 1) == [f"Webhook disabled: 127.0.0.1:{receiver.port}"]

    assert await recorded(mailing) == [("service", webhook, {"reason": "gone"})]
    [mail] = box.to(STAFF[0])
    text = mail.get_body(("plain",)).get_content()
    assert f"https://supply.example/admin/webhooks/{webhook}" in text
    assert "410" in text
    assert "secret" not in text


async def test_days_of_failures_are_told_before_and_when_the_webhook_is_disabled(mailing, box):
    async with receiving(answer(500)) as receiver:
        webhook = await mailing.add(receiver)
        await mailing.register()
        await mailing.until(webhook, state="pending", attempts=1)
        for attempts, warned_days in ((2, None), (3, 0.5)):
            await mailing.database.execute(FAILED_FOR, 6, warned_days)
            await mailing.make_due(webhook)
            await mailing.until(webhook, state="pending", attempts=attempts)
        host = f"127.0.0.1:{receiver.port}"
        assert await mails(box, 1) == [f"Webhook failing: {host}"]
        assert await recorded(mailing) == []

        await mailing.database.execute(FAILED_FOR, 6, 3)
        await mailing.make_due(webhook)
        await disabled(mailing, webhook)

        assert await mails(box, 2) == [f"Webhook failing: {host}", f"Webhook disabled: {host}"]
    assert await recorded(mailing) == [("service", webhook, {"reason": "failing"})]


async def test_what_staff_disable_is_their_own_event_and_no_mail(mailing, box):
    async with receiving() as receiver:
        webhook = await mailing.add(receiver)
    await mailing.client.patch(f"/webhooks/{webhook}", json={"enabled": False})

    assert await recorded(mailing) == []
    assert await mailing.database.fetchval("SELECT count(*) FROM deliveries WHERE target LIKE 'staff:%'") == 0


async def test_without_its_event_a_webhook_is_not_disabled(mailing):
    await mailing.database.execute("ALTER TABLE audit_events ADD CHECK (type <> 'webhook.disabled')")
    async with receiving(answer(410)) as receiver:
        webhook = await mailing.add(receiver)
        await mailing.register()
        await receiver.has(1)
        await mailing.until(webhook, state="pending", attempts=1)  # recorded as an unexpected error

    assert (await mailing.webhook(webhook))["enabled"]
    assert await mailing.database.fetchval("SELECT count(*) FROM deliveries WHERE target LIKE 'staff:%'") == 0


async def test_about_a_deleted_webhook_nothing_is_told(mailing, box):
    box.always["RCPT"] = "451 4.3.0 later"
    async with receiving(answer(410)) as receiver:
        webhook = await mailing.add(receiver, types=["candidate.registered"])
        await mailing.register()
        await disabled(mailing, webhook)
    await mailing.client.delete(f"/webhooks/{webhook}")
    box.always.clear()
    retry = "UPDATE deliveries SET next_attempt_at = now() WHERE state = 'pending'"
    ended = "SELECT count(*) FROM deliveries WHERE target LIKE 'staff:%' AND last_error = 'the webhook was deleted'"
    async with asyncio.timeout(20):
        while await mailing.database.fetchval(ended) < len(STAFF):
            await mailing.database.execute(retry)
            await asyncio.sleep(0.05)

    assert [box.to(address) for address in STAFF] == [[], []]


@pytest.mark.parametrize("without", [{"smtp_url": None}, {"staff_mail_to": ""}])
async def test_without_e_mail_or_recipients_only_the_log_tells(own_database_url, shared_billing_url, box, without):
    settings = {"smtp_url": box.url(), "mail_from": "supply@supply.example", "staff_mail_to": STAFF[0], **without}
    async with staffed(own_database_url, shared_billing_url, **settings) as staff, receiving(answer(410)) as receiver:
        webhook = await staff.add(receiver)
        await staff.register()
        await disabled(staff, webhook)

        assert await recorded(staff) == [("service", webhook, {"reason": "gone"})]
        assert await staff.database.fetchval("SELECT count(*) FROM deliveries WHERE target LIKE 'staff:%'") == 0


async def test_a_late_success_does_not_hide_when_a_webhook_was_disabled(mailing):
    arrived = asyncio.Queue()

    async def respond(_message, writer):
        future = asyncio.get_running_loop().create_future()
        await arrived.put(future)
        writer.write(await future)

    async with receiving() as receiver:
        receiver.respond = respond
        webhook = await mailing.add(receiver)
        await mailing.database.execute(FAILED_FOR, 0.1, None)  # else a success has nothing to end
        await mailing.register()
        await mailing.register()
        slow, gone = await arrived.get(), await arrived.get()
        gone.set_result(answer(410))
        await disabled(mailing, webhook)
        slow.set_result(OK)
        async with asyncio.timeout(20):
            while "delivered" not in {row["state"] for row in await mailing.deliveries(webhook)}:
                await asyncio.sleep(0.02)

    assert await mailing.database.fetchval("SELECT last_failure_at IS NOT NULL FROM webhooks")
