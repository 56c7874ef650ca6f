"""The service sends each mail once, over a real SMTP connection, whatever fails between."""

from __future__ import annotations

import asyncio
import json
import logging
from contextlib import asynccontextmanager
from datetime import timedelta

import httpx
import pytest
from click.testing import CliRunner

from provider_registration import failpoints
from provider_registration.cli import main
from provider_registration.notifications import mail_server, service
from provider_registration.notifications.composing import Composer
from provider_registration.notifications.service import MAILS_PER_CONNECTION, WAITS
from provider_registration.observability.metrics import MAIL_OUTAGE_SECONDS
from tests.mail_server import DIE_AFTER, HANG, SLOW, mailbox
from tests.notifications.conftest import secret_in, text_of
from tests.ports import a_port
from tests.programs.faults.kills import MAILING
from tests.running_service import serving
from tests.service import a_registration


async def test_a_company_gets_its_link_and_then_the_decision_in_its_language(post):
    one = await post.register(language="es-MX", contact_email="ana@bücher.example")
    other = await post.register()
    [received] = await post.mails(1, "ana@xn--bcher-kva.example")
    assert received["Subject"] == "Hemos recibido su solicitud"
    assert await post.shows_application(secret_in(received))
    assert one["status_url"].removeprefix("/applications/") != secret_in(received)

    await post.decide(one, "approve")
    await post.decide(other, "reject", reason="No cold chain")

    [_, approved] = await post.mails(2, "ana@xn--bcher-kva.example")
    [_, rejected] = await post.mails(2, other["contact_email"])
    assert (approved["Subject"], rejected["Subject"]) == (
        "Su solicitud ha sido aceptada",
        "The decision on your application",
    )
    assert "> No cold chain" in text_of(rejected)
    assert await post.shows_application(secret_in(approved))
    assert await post.shows_application(secret_in(received))
    assert {row["state"] for row in await post.deliveries()} == {"delivered"}


async def test_an_approval_without_an_e_mail(post):
    candidate = await post.register()
    await post.decide(candidate, "approve", notify=False)

    await post.mails(1)
    events = (await post.client.get(f"/candidates/{candidate['candidate_id']}/events")).json()["events"]
    assert events[0]["data"]["notify"] is False


async def test_a_rejection_without_an_e_mail(post):
    candidate = await post.register()
    await post.decide(candidate, "reject", notify=False)

    await post.mails(1)
    events = (await post.client.get(f"/candidates/{candidate['candidate_id']}/events")).json()["events"]
    assert events[0]["data"] == {"notify": False}


@pytest.mark.parametrize("value", ["no", 0, None])
async def test_notify_is_true_or_false(post, value):
    candidate = await post.register()

    for decision in ("approve", "reject"):
        response = await post.client.post(f"/candidates/{candidate['candidate_id']}/{decision}", json={"notify": value})
        assert response.status_code == 422


async def test_an_approval_that_waits_for_billing_keeps_that_no_e_mail_is_wanted(post_office, shared_billing_url):
    async with post_office(billing_max_tries=1) as post:
        candidate = await post.register()
        url = f"/candidates/{candidate['candidate_id']}"
        async with _failing_billing(shared_billing_url, candidate["company_name"]):
            assert (await post.client.post(f"{url}/approve", json={"notify": False})).status_code >= 500
        assert (await post.client.post(f"{url}/approval/retry")).status_code == 200

        await post.mails(1)


async def test_an_approval_that_is_asked_for_again_without_an_e_mail_sends_none(post_office, shared_billing_url):
    async with post_office(billing_max_tries=1) as post:
        candidate = await post.register()
        url = f"/candidates/{candidate['candidate_id']}/approve"
        async with _failing_billing(shared_billing_url, candidate["company_name"]):
            assert (await post.client.post(url)).status_code >= 500
            response = await post.client.post(url, json={"notify": False})
            assert response.status_code >= 500, response.text
        async with asyncio.timeout(60):
            while (await post.client.get(f"/candidates/{candidate['candidate_id']}")).json()["status"] == "pending":
                await post.client.post(f"/candidates/{candidate['candidate_id']}/approval/retry")
                await asyncio.sleep(0.1)

        await post.mails(1)


@asynccontextmanager
async def _failing_billing(url, name):
    async with httpx.AsyncClient(base_url=url) as client:
        await client.put("/sandbox/faults", json={"mode": "fail_500", "names": [name]})
        yield
        await client.put("/sandbox/faults", json={"mode": "none"})


async def test_what_another_release_registered_or_rejected_is_not_told(post):
    await post.connection.execute(
        "INSERT INTO candidates (company_name, contact_email, products, truck_count, capacity_tons_per_day) "
        "VALUES ('x', 'x@y.example', '{apples}', 1, 1)"
    )
    await post.connection.execute("UPDATE candidates SET status = 'rejected'")
    other = await post.register()
    await post.mails(1)
    await post.connection.execute(
        "WITH approved AS ("
        "    UPDATE candidates SET status = 'approved', provider_id = 7 WHERE company_name = $1 RETURNING id"
        ") INSERT INTO approval_events (candidate_id, idempotency_key, event, provider_id) "
        "SELECT id, gen_random_uuid(), 'approved', 7 FROM approved",
        other["company_name"],
    )

    await post.mails(1)


async def test_erased_people_get_no_mail(post, own_database_url):
    post.box.always["RCPT"] = "451 4.3.0 later"
    candidate = await post.register()
    await _until(post, lambda row: row["attempts"] == 1)
    await _erase(own_database_url, candidate["contact_email"])
    post.box.always.clear()
    await post.make_due()

    await post.rest()
    [row] = await post.deliveries()
    assert (row["state"], row["last_error"], post.box.mails) == ("failed", "the personal data was erased", [])
    assert await post.connection.fetchval("SELECT count(*) FROM status_links") == 0


async def _erase(database_url, email):
    arguments = ("erase-data", email, "--yes")
    result = await asyncio.to_thread(CliRunner().invoke, main, arguments, env={"DATABASE_URL": database_url})
    assert result.exit_code == 0, result.output


async def _until(post, has):
    async with asyncio.timeout(20):
        while not ((rows := await post.deliveries()) and all(has(row) for row in rows)):
            await asyncio.sleep(0.02)
    return rows


async def test_a_mail_refused_for_now_is_sent_later_and_waits_longer_each_time(post):
    post.box.always["RCPT"] = "451 4.7.1 <somebody@example.com> later"
    await post.register()
    waits = []
    for attempt in range(1, len(WAITS) + 1):
        [row] = await _until(
            post, lambda row, attempt=attempt: row["attempts"] == attempt and row["state"] == "pending"
        )
        waits.append((row["next_attempt_at"] - row["updated_at"]).total_seconds())
        assert (row["last_status"], row["last_error"]) == (451, "451 4.7.1 to RCPT")
        if attempt < len(WAITS):
            await post.make_due()

    assert [wait / expected for wait, expected in zip(waits, WAITS, strict=True)] == pytest.approx([1] * 7, abs=0.06)
    assert timedelta(hours=22) < timedelta(seconds=sum(WAITS)) <= timedelta(hours=24)
    assert (WAITS[0], WAITS[-1]) == (60, 12 * 3600)
    assert await post.connection.fetchval("SELECT count(*) FROM status_links") == 0

    await post.make_due()
    [row] = await _until(post, lambda row: row["attempts"] == len(WAITS) + 1 and row["state"] != "delivering")
    assert row["state"] == "dead"


async def test_a_mail_refused_for_good_is_not_sent_again(post):
    post.box.answers["RCPT"] = ["550 5.1.1 unknown"]
    candidate = await post.register()
    await post.register()

    [other] = await post.mails(1)
    assert other["To"] != candidate["contact_email"]
    rows = await post.deliveries()
    assert [(row["state"], row["last_status"], row["attempts"]) for row in rows] == [
        ("failed", 550, 1),
        ("delivered", None, 1),
    ]
    assert await post.connection.fetchval("SELECT count(*) FROM status_links") == 1


async def test_a_mail_that_may_have_arrived_is_not_sent_again_by_itself(post):
    post.box.answers["DATA"] = [DIE_AFTER]
    await post.register()

    [row] = await _until(post, lambda row: row["state"] == "unknown")
    assert row["attempts"] == 1
    [mail] = post.box.mails
    assert await post.shows_application(secret_in(mail))

    response = await post.client.post(f"/deliveries/{row['id']}/retry")
    assert response.status_code < 300
    [_, again] = await post.mails(2)
    assert again["Message-ID"] == mail["Message-ID"]


async def test_while_the_mail_server_is_away_no_try_is_used_up_and_then_everything_arrives_once(
    post_office, monkeypatch, caplog
):
    now = [0.0]
    monkeypatch.setattr(service, "monotonic", lambda: now[0])
    port = a_port()
    async with post_office(smtp_url=f"smtp://127.0.0.1:{port}?starttls=off") as post:
        candidates = [await post.register() for _ in range(5)]
        async with asyncio.timeout(30):
            while MAIL_OUTAGE_SECONDS._value.get() < 3600:
                now[0] += 60
                await asyncio.sleep(0.02)
        await _until(post, lambda row: row["attempts"] == 0)
        assert sum("mail server cannot be used" in record.message for record in caplog.records) < 5

        async with mailbox(port=port) as box:
            post.box = box
            now[0] += 60
            mails = await post.mails(len(candidates))

    assert {mail["To"] for mail in mails} == {candidate["contact_email"] for candidate in candidates}
    assert len({mail["Message-ID"] for mail in mails}) == len(candidates)
    assert MAIL_OUTAGE_SECONDS._value.get() == 0


@pytest.mark.parametrize("point", MAILING)
async def test_after_a_crash_a_mail_arrives_at_most_twice_with_one_message_id(post_office, monkeypatch, point):
    reached = asyncio.Event()

    async def stop_there(name):
        if name == point:
            reached.set()
            await asyncio.sleep(3600)

    monkeypatch.setattr(service, "STOP_SECONDS", 0)
    async with post_office() as post:
        monkeypatch.setattr(failpoints, "hook", stop_there)
        await post.register()
        await asyncio.wait_for(reached.wait(), 20)
    monkeypatch.setattr(failpoints, "hook", None)

    async with post_office() as post:
        await post.connection.execute("UPDATE deliveries SET next_attempt_at = now() WHERE state = 'delivering'")
        mails = await post.mails(2 if point == "mail.after-send" else 1)

    assert len({mail["Message-ID"] for mail in mails}) == 1
    [row] = await post.deliveries()
    assert row["state"] == "delivered"


async def test_a_stop_waits_for_the_mail_under_way(post_office, box):
    async with post_office() as post:
        box.answers["DATA"] = [SLOW]
        await post.register()
        async with asyncio.timeout(20):
            while not box.at_once:
                await asyncio.sleep(0.01)

    [row] = await post.deliveries()
    assert (row["state"], len(box.mails)) == ("delivered", 1)


async def test_a_mail_without_a_reply_when_the_service_stops_is_not_sent_again_by_itself(post_office, box, monkeypatch):
    monkeypatch.setattr(service, "STOP_SECONDS", 0)
    box.answers["DATA"] = [HANG]
    async with post_office() as post:
        await post.register()
        async with asyncio.timeout(20):
            while not box.at_once:
                await asyncio.sleep(0.01)

    [row] = await post.deliveries()
    assert (row["state"], row["attempts"]) == ("unknown", 1)


async def test_an_unexpected_error_counts_as_an_attempt_and_has_an_end(post, monkeypatch):
    compose = Composer.compose

    def fail(self, letter, message_id):
        if letter.to == "unlucky@supply.example":
            raise KeyError(letter.to)
        return compose(self, letter, message_id)

    monkeypatch.setattr(Composer, "compose", fail)
    await post.register(contact_email="unlucky@supply.example")
    await post.register()
    await post.mails(1)
    row, _ = await _until(post, lambda row: row["state"] != "delivering")
    assert (row["state"], row["attempts"], row["last_error"]) == ("pending", 1, "unexpected error: KeyError")
    assert await post.connection.fetchval("SELECT count(*) FROM status_links") == 1

    await post.connection.execute(
        "UPDATE deliveries SET attempts = $1, next_attempt_at = now() WHERE state = 'pending'", len(WAITS)
    )
    await _until(post, lambda row: row["state"] in ("dead", "delivered"))


async def test_many_mails_share_a_few_connections(post):
    count = MAILS_PER_CONNECTION + 30
    await asyncio.gather(*(post.register() for _ in range(count)))

    mails = await post.mails(count)

    assert len({mail["To"] for mail in mails}) == count
    assert post.box.most_at_once <= service.CONNECTIONS
    assert post.box.sessions < count / 4


async def test_no_database_connection_is_held_while_the_mail_server_thinks(post_office, box, monkeypatch):
    monkeypatch.setattr(mail_server, "ACCEPTING_SECONDS", 30)
    box.always["DATA"] = HANG
    async with post_office(database_pool_size=1, database_timeout_seconds=2) as post:
        await post.register()
        async with asyncio.timeout(20):
            while not box.at_once:
                await asyncio.sleep(0.01)
        for _ in range(5):
            await post.register()
        monkeypatch.setattr(service, "STOP_SECONDS", 0)


async def test_addresses_and_names_are_in_no_log_metric_or_delivery(post_office, caplog):
    caplog.set_level(logging.DEBUG)
    async with post_office(metrics_access="anyone") as post:
        await _refuse_two_mails(post, caplog)


async def _refuse_two_mails(post, caplog):
    email, name = "maria.perez@huerta.example", "Huerta de Maria Perez"
    post.box.answers["RCPT"] = [f"550 5.1.1 <{email}> unknown", f"451 4.2.1 {email} later"]
    await post.register(contact_email=email, company_name=name)
    await post.register(contact_email=f"x{email}", company_name=f"{name} 2")
    await _until(post, lambda row: row["last_error"])
    metrics = (await post.client.get("/metrics")).text
    listed = (await post.client.get("/deliveries")).text

    ours = [record for record in caplog.records if record.name.startswith("provider_registration")]
    written = "".join(f"{record.getMessage()} {record.__dict__}" for record in ours)
    for text in (written, metrics, listed, json.dumps(await post.deliveries(), default=str)):
        assert "perez" not in text.lower()


async def test_a_new_link_ends_those_in_mails(post):
    candidate = await post.register()
    [mail] = await post.mails(1)

    response = await post.client.post(f"/candidates/{candidate['candidate_id']}/status-link")

    assert not await post.shows_application(secret_in(mail))
    assert await post.shows_application(response.json()["status_url"].rpartition("/")[2])


async def test_the_first_and_the_newest_links_work(post):
    candidate = await post.register()
    await post.mails(1)
    for _ in range(25):
        await post.connection.execute(
            "INSERT INTO deliveries (kind, target, data) "
            "VALUES ('email', 'applicant', jsonb_build_object('candidate_id', $1::text))",
            candidate["candidate_id"],
        )

    mails = await post.mails(26)

    assert await post.connection.fetchval("SELECT count(*) FROM status_links") == 20
    assert await post.shows_application(secret_in(mails[-1]))
    assert await post.shows_application(secret_in(mails[0]))
    assert not await post.shows_application(secret_in(mails[1]))
    assert await post.shows_application(candidate["status_url"].rpartition("/")[2])


async def test_without_public_url_mails_have_no_link(post_office):
    async with post_office(public_url="") as post:
        await post.register()
        [mail] = await post.mails(1)

    assert "http" not in text_of(mail)


async def test_without_workers_nothing_is_sent(post_office):
    async with post_office(workers=False) as post:
        await post.register()
        await asyncio.sleep(0.5)

        assert post.box.sessions == 0


async def test_without_the_api_a_process_sends_links_to_the_pages_of_others(post_office, mail_settings):
    async with post_office(workers=False) as post, serving(mail_settings(), api=False):
        await post.register()
        [mail] = await post.mails(1)

        assert await post.shows_application(secret_in(mail))


async def test_a_form_that_is_sent_in_spanish_is_answered_in_spanish(post):
    typed = a_registration() | {"key": "x" * 43, "website": ""}
    response = await post.client.post("/apply?language=es", data=typed, headers={"Accept": "text/html"})
    assert response.status_code == 303

    [mail] = await post.mails(1)
    assert mail["Content-Language"] == "es"
