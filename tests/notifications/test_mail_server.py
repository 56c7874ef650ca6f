"""The client of the mail server, against a real one that accepts, refuses, hangs and dies."""

from __future__ import annotations

import asyncio

import pytest

from provider_registration.notifications import mail_server
from provider_registration.notifications.composing import Mail
from provider_registration.notifications.errors import (
    MailDeferred,
    MailRefused,
    MailServerUnavailable,
    MailUncertain,
)
from provider_registration.notifications.mail_server import MailServer
from tests.mail_server import DIE, DIE_AFTER, HANG, certificate, mailbox
from tests.ports import a_port

RIGHT_USER = "us%40er:pa%2Fss@"


def a_mail(recipient="ventas@huerta.example", text="Hello", *, needs_utf8=False):
    content = f"From: a@supply.example\r\nSubject: Hello\r\n\r\n{text}\r\n".encode()
    return Mail("a@supply.example", recipient, content, needs_utf8)


async def send(url, *mails):
    """Send over one connection; the outcome of each."""
    outcomes = []
    async with MailServer(url).connect() as connection:
        for mail in mails:
            try:
                outcomes.append(await connection.send(mail))
            except (MailDeferred, MailRefused, MailUncertain) as error:
                outcomes.append(error)
    return outcomes


@pytest.fixture
async def box():
    async with mailbox() as box:
        yield box


@pytest.fixture(autouse=True)
def short_timeouts(monkeypatch):
    monkeypatch.setattr(mail_server, "TIMEOUT", 0.5)
    monkeypatch.setattr(mail_server, "ACCEPTING_SECONDS", 0.5)


async def test_several_mails_go_over_one_connection_as_they_were_written(box):
    text = "one\r\n.\r\n..two\r\n.three"

    assert await send(box.url(), a_mail(text=text), a_mail("other@huerta.example")) == [None, None]

    assert box.envelopes[0].original_content.decode().partition("\r\n\r\n")[2] == f"{text}\r\n"
    assert box.recipients == ["ventas@huerta.example", "other@huerta.example"]
    assert box.sessions == 1


@pytest.mark.parametrize("command", ["MAIL", "RCPT", "DATA"])
@pytest.mark.parametrize(
    ("answer", "error", "reason"),
    [
        ("451 4.7.1 <ventas@huerta.example> comes too soon", MailDeferred, "451 4.7.1 to {}"),
        ("550 5.1.1 <ventas@huerta.example> is unknown", MailRefused, "550 5.1.1 to {}"),
        ("552 ventas@huerta.example 5.1.1", MailRefused, "552 to {}"),
    ],
)
async def test_a_refused_mail_has_the_codes_and_no_address_and_the_next_one_is_sent(
    box, command, answer, error, reason
):
    box.answers[command] = [answer]

    [refused, other] = await send(box.url(), a_mail(), a_mail())

    assert type(refused) is error
    assert refused.status == int(answer[:3])
    assert str(refused) == reason.format("the message" if command == "DATA" else command)
    assert other is None
    assert len(box.mails) == 1


@pytest.mark.parametrize("how", [HANG, DIE])
@pytest.mark.parametrize("command", ["MAIL", "RCPT"])
async def test_before_the_message_a_lost_connection_only_defers_it(box, command, how):
    box.answers[command] = [how]

    [error] = await send(box.url(), a_mail())

    assert type(error) is MailDeferred
    assert error.status is None
    assert box.mails == []


@pytest.mark.parametrize("how", [HANG, DIE, DIE_AFTER])
async def test_after_the_message_a_lost_connection_leaves_it_uncertain(box, how):
    box.answers["DATA"] = [how]

    [error] = await send(box.url(), a_mail())

    assert type(error) is MailUncertain


@pytest.mark.parametrize("answer", ["354 go on", "100 x", "0 x", "-50 x", "25 x", "650 x", "hello"])
async def test_after_the_message_a_reply_of_neither_success_nor_failure_leaves_it_uncertain(box, answer):
    box.answers["DATA"] = [answer]

    [error, other] = await send(box.url(), a_mail(), a_mail())

    assert (type(error), error.status) == (MailUncertain, None)
    assert type(other) is MailDeferred  # the replies that follow may be to something else


@pytest.mark.parametrize("answer", ["100 x", "0 x", "-50 x", "650 x", "hello"])
@pytest.mark.parametrize("command", ["MAIL", "RCPT"])
async def test_before_the_message_a_reply_that_is_none_defers_it_without_a_status(box, command, answer):
    box.answers[command] = [answer]

    [error] = await send(box.url(), a_mail())

    assert (type(error), error.status) == (MailDeferred, None)
    assert box.mails == []


async def test_a_connection_that_was_lost_carries_nothing_more(box):
    box.answers["DATA"] = [DIE]

    async with MailServer(box.url()).connect() as connection:
        assert connection.is_open
        with pytest.raises(MailUncertain):
            await connection.send(a_mail())
        assert not connection.is_open
        with pytest.raises(MailDeferred):
            await connection.send(a_mail())


async def test_an_address_beyond_ascii_is_sent_as_it_is_if_the_server_can(box):
    assert await send(box.url(), a_mail("josé@xn--bcher-kva.example", needs_utf8=True)) == [None]

    assert box.recipients == ["josé@xn--bcher-kva.example"]
    assert "SMTPUTF8" in box.envelopes[0].mail_options


async def test_an_address_beyond_ascii_is_refused_if_the_server_cannot():
    async with mailbox(utf8=False) as box:
        [error, other] = await send(box.url(), a_mail("josé@huerta.example", needs_utf8=True), a_mail())

    assert type(error) is MailRefused
    assert other is None


@pytest.mark.parametrize("recipient", ["a@b.example>\r\nRCPT TO:<c@d.example", "a b@c.example", "a@b.example> SIZE=1"])
async def test_an_address_cannot_become_a_command(box, recipient):
    await send(box.url(), a_mail(recipient))

    assert set(box.recipients) <= {"a@b.example"}
    assert all(envelope.mail_options == [] for envelope in box.envelopes)


async def test_a_server_that_does_not_listen():
    with pytest.raises(MailServerUnavailable, match="ConnectionRefusedError"):
        await send(f"smtp://127.0.0.1:{a_port()}?starttls=off", a_mail())


@pytest.mark.parametrize("answer", ["421 4.3.2 later", "554 5.3.2 never", HANG, DIE])
async def test_a_server_that_does_not_begin(box, monkeypatch, answer):
    monkeypatch.setattr(mail_server, "CONNECTING_SECONDS", 0.5)
    box.always = {"EHLO": answer}

    with pytest.raises(MailServerUnavailable):
        await send(box.url(), a_mail())


async def test_a_name_that_does_not_exist():
    with pytest.raises(MailServerUnavailable):
        await send("smtp://mail.invalid?starttls=off", a_mail())


@pytest.mark.parametrize("scheme", ["smtp", "smtps"])
async def test_certificates_are_checked(tmp_path, monkeypatch, scheme):
    file, tls = certificate(tmp_path, "127.0.0.1")
    async with mailbox(tls=tls, is_smtps=scheme == "smtps") as box:
        url = box.url(scheme, query="")
        with pytest.raises(MailServerUnavailable, match="CERTIFICATE_VERIFY_FAILED"):
            await send(url, a_mail())
        monkeypatch.setenv("SSL_CERT_FILE", str(file))
        assert await send(url, a_mail()) == [None]


async def test_a_certificate_for_another_name_is_refused(tmp_path, monkeypatch):
    file, tls = certificate(tmp_path, "mail.example")
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    async with mailbox(tls=tls) as box:
        with pytest.raises(MailServerUnavailable, match="CERTIFICATE_VERIFY_FAILED"):
            await send(box.url(query=""), a_mail())


async def test_without_starttls_nothing_is_sent(box):
    with pytest.raises(MailServerUnavailable):
        await send(box.url(user=RIGHT_USER, query=""), a_mail())

    assert box.mails == []


@pytest.mark.parametrize("with_tls", [True, False])
async def test_the_user_signs_in(tmp_path, monkeypatch, with_tls):
    file, tls = certificate(tmp_path, "127.0.0.1")
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    async with mailbox(tls=tls if with_tls else None, auth=True) as box:
        query = "" if with_tls else "?starttls=off"
        with pytest.raises(MailServerUnavailable, match="535") as refused:
            await send(box.url(user="us%40er:wrong@", query=query), a_mail())
        assert "us@er" not in str(refused.value)
        assert await send(box.url(user=RIGHT_USER, query=query), a_mail()) == [None]


async def test_a_cancelled_connection_is_closed(box):
    box.answers["DATA"] = [HANG]
    task = asyncio.create_task(send(box.url(), a_mail()))
    while not box.most_at_once:
        await asyncio.sleep(0.01)

    task.cancel()

    [outcome] = await asyncio.wait_for(task, 5)
    assert isinstance(outcome, MailUncertain)
    async with asyncio.timeout(10):
        while box.at_once:
            await asyncio.sleep(0.01)
