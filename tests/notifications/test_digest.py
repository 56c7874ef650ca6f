"""E-mails to staff about new applications: daily, hourly or each, to every address, and nothing twice."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from sqlalchemy import text

from provider_registration.db.database import Database
from provider_registration.notifications import queries, service
from provider_registration.settings import DatabaseSettings
from tests.notifications.conftest import PUBLIC_URL, text_of

STAFF = "one@supply.example,two@supply.example"
ONE, TWO = STAFF.split(",")


def to(post, address=ONE):
    return [text_of(mail) for mail in post.box.to(address)]


async def let_time_pass(post, interval):
    """Let the last digest be longer ago; the service looks every few hundredths of a second."""
    async with asyncio.timeout(20):
        while not await post.connection.fetchval("SELECT EXISTS (SELECT FROM staff_digest)"):
            await asyncio.sleep(0.02)
        await post.rest()
        await post.connection.execute(f"UPDATE staff_digest SET made_at = now() - interval '{interval}'")
        while await post.connection.fetchval(f"SELECT made_at < now() - interval '{interval}' / 2 FROM staff_digest"):
            await asyncio.sleep(0.02)
    await post.rest()


@pytest.mark.parametrize(("digest", "interval"), [("daily", "1 day"), ("hourly", "1 hour")])
async def test_each_address_gets_the_new_applications_once(post_office, digest, interval):
    async with post_office(staff_mail_to=STAFF, staff_digest=digest) as post:
        first, second = await post.register(), await post.register()
        await post.mails(2)
        await let_time_pass(post, interval)
        await post.mails(1, ONE)
        await post.mails(1, TWO)
        third = await post.register()
        await let_time_pass(post, interval)
        await post.mails(2, ONE)
        await let_time_pass(post, interval)
        [both, one] = to(post)

    for candidate in (first, second):
        assert candidate["company_name"] in " ".join(both.split())
        assert f"{PUBLIC_URL}/admin/candidates/{candidate['candidate_id']}" in both
        assert candidate["candidate_id"] not in one
    assert third["candidate_id"] in one
    assert "3 applications are waiting for a decision" in one


async def test_before_the_time_has_come_there_is_no_digest(post_office):
    async with post_office(staff_mail_to=STAFF, staff_digest="hourly") as post:
        await post.register()
        await post.mails(1)
        await asyncio.sleep(0.3)

        assert to(post) == []


async def test_with_each_every_application_is_a_mail(post_office):
    async with post_office(staff_mail_to=STAFF, staff_digest="each") as post:
        candidates = [await post.register() for _ in range(3)]
        mails = await post.mails(3, ONE)
        await post.mails(3, TWO)
        await let_time_pass(post, "1 day")

    assert [mail["Subject"] for mail in mails] == [f"New application: {each['company_name']}" for each in candidates]


async def test_a_digest_after_each_does_not_repeat_them(post_office):
    async with post_office(staff_mail_to=ONE, staff_digest="each") as post:
        await post.register()
        await post.mails(1, ONE)
        await let_time_pass(post, "1 day")
    async with post_office(staff_mail_to=ONE, staff_digest="daily") as post:
        await let_time_pass(post, "1 day")
        await post.mails(1, ONE)


async def test_several_processes_make_one_digest(post_office):
    async with (
        post_office(staff_mail_to=ONE, staff_digest="hourly") as post,
        post_office(staff_mail_to=ONE, staff_digest="hourly"),
    ):
        await post.register()
        await post.mails(1)
        await let_time_pass(post, "1 hour")
        await post.mails(1, ONE)


async def test_an_address_that_was_removed_gets_nothing_more(post_office, box):
    box.always["RCPT"] = "451 4.3.0 later"
    async with post_office(staff_mail_to=STAFF, staff_digest="each") as post:
        await post.register()
        async with asyncio.timeout(20):
            while len(await post.deliveries()) < 3:
                await asyncio.sleep(0.02)
        await post.rest()
    box.always.clear()
    async with post_office(staff_mail_to=ONE, staff_digest="each") as post:
        await post.make_due()
        await post.mails(2)
        rows = {row["target"]: row for row in await post.deliveries()}

    assert (rows["staff:2"]["state"], rows["staff:2"]["last_error"]) == (
        "failed",
        "STAFF_MAIL_TO has no such address any more",
    )


async def test_without_a_console_a_digest_has_no_links(post_office):
    async with post_office(staff_mail_to=ONE, staff_digest="each", admin_pages=False) as post:
        await post.register()
        [mail] = await post.mails(1, ONE)

    assert "http" not in text_of(mail)


@pytest.mark.parametrize(
    ("period", "offset", "now", "last", "is_due"),
    [
        ("day", timedelta(hours=6), "2026-03-14 05:59", "2026-03-13 06:01", False),
        ("day", timedelta(hours=6), "2026-03-14 06:01", "2026-03-13 06:01", True),
        ("day", timedelta(hours=6), "2026-03-14 06:01", "2026-03-14 06:00", False),
        ("hour", timedelta(), "2026-03-14 05:59", "2026-03-14 05:01", False),
        ("hour", timedelta(), "2026-03-14 06:00", "2026-03-14 05:01", True),
    ],
)
async def test_periods_begin_at_six_or_at_the_hour(own_database_url, connection, period, offset, now, last, is_due):
    await connection.execute("CREATE SCHEMA stopped")
    await connection.execute(
        f"CREATE FUNCTION stopped.clock_timestamp() RETURNS timestamptz LANGUAGE sql STABLE RETURN timestamptz '{now}Z'"
    )
    await connection.execute(f"INSERT INTO staff_digest (last_position, made_at) VALUES (0, timestamptz '{last}Z')")
    url = DatabaseSettings(_env_file=None, database_url=own_database_url).database_url
    database = Database(url, pool_size=1)
    async with database.transaction() as session:
        await session.execute(text("SET LOCAL search_path = stopped, pg_catalog, public"))
        await session.execute(queries.MAKE_DIGEST, {"period": period, "offset": offset, "recipients": 0})
    await database.close()

    made_at = f"SELECT made_at = timestamptz '{now}Z' FROM staff_digest"
    assert await connection.fetchval(made_at) is is_due


async def test_beyond_some_thousands_a_digest_does_not_count(post_office, monkeypatch):
    """A long import may have registered them: counting all would take longer than a statement may."""
    monkeypatch.setattr(service, "COUNTED", 2)
    async with post_office(staff_mail_to=STAFF, staff_digest="hourly") as post:
        for _ in range(3):
            await post.register()
        await post.mails(3)
        await let_time_pass(post, "1 hour")
        [mail] = [text_of(mail) for mail in await post.mails(1, ONE)]

    assert "Over 2 new applications" in mail
