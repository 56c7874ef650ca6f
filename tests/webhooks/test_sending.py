"""One attempt: who is called, at which IP address, for how long, and what is made of the response."""

from __future__ import annotations

import asyncio
import gzip
import threading
import time
from ipaddress import ip_network

import pytest

from provider_registration.webhooks import sending
from provider_registration.webhooks.addresses import AddressRules
from provider_registration.webhooks.resolving import Resolver
from provider_registration.webhooks.sending import Sender
from provider_registration.webhooks.signing import new_secret, shown, signed_headers
from provider_registration.webhooks.urls import WebhookUrl

from .receivers import Authority, Names, answer, receiving

LOOPBACK = AddressRules([ip_network("127.0.0.1/32")])
BODY = b'{"type": "candidate.registered"}'


@pytest.fixture(scope="module")
def authority():
    return Authority()


@pytest.fixture
def sender_to(authority):
    """A sender with a name server of the test."""

    def sender_to(names=None, *, rules=LOOPBACK, seconds=sending.ATTEMPT_SECONDS, allow_http=True):
        resolver = Resolver(names or Names(receiver_example=[["127.0.0.1"]]))
        return Sender(rules, resolver, tls=authority.trusted(), allow_http=allow_http, seconds=seconds)

    return sender_to


def url_of(receiver, host="receiver.example", scheme="https", path="/hook?a=1"):
    return WebhookUrl.parse(f"{scheme}://{host}:{receiver.port}{path}", rules=LOOPBACK, allow_http=True)


async def test_a_message_arrives_signed_and_at_the_name_of_its_host(sender_to, authority):
    secret = new_secret()
    headers = signed_headers("4182", int(time.time()), BODY, secrets=[secret])
    async with receiving(tls=authority.server("receiver.example")) as receiver:
        response = await sender_to().post(url_of(receiver), headers, BODY)

    assert (response.status, response.text, response.error) == (200, "ok", None)
    [message] = receiver.messages
    assert message.verified(shown(secret)) == {"type": "candidate.registered"}
    assert message.path == "/hook?a=1"
    assert message.headers["host"] == f"receiver.example:{receiver.port}"
    assert message.headers["content-type"] == "application/json"
    assert receiver.names == ["receiver.example"]


async def test_a_certificate_of_the_ip_address_is_not_one_of_the_host(sender_to, authority):
    async with receiving(tls=authority.server("127.0.0.1", "other.example")) as receiver:
        response = await sender_to().post(url_of(receiver), {}, BODY)

    assert (response.status, receiver.messages) == (None, [])
    assert "certificate" in response.error


async def test_a_certificate_of_an_unknown_authority_is_refused(sender_to):
    async with receiving(tls=Authority().server("receiver.example")) as receiver:
        response = await sender_to().post(url_of(receiver), {}, BODY)

    assert "certificate" in response.error


async def test_a_url_may_have_an_ip_address_with_its_certificate(sender_to, authority):
    async with receiving(tls=authority.server("127.0.0.1")) as receiver:
        response = await sender_to().post(url_of(receiver, "127.0.0.1"), {}, BODY)

    assert response.is_success


@pytest.mark.asvs("V1.3.6", "API7")
@pytest.mark.parametrize(
    "answers", [["127.0.0.2"], ["127.0.0.1", "169.254.169.254"], ["::ffff:10.0.0.1"], ["64:ff9b::7f00:2"], ["::1"]]
)
async def test_a_host_with_an_internal_ip_address_is_not_called(sender_to, answers):
    async with receiving() as receiver:
        response = await sender_to(Names(receiver_example=[answers])).post(url_of(receiver, scheme="http"), {}, BODY)

    assert "neither public" in response.error
    assert receiver.connections == 0


@pytest.mark.asvs("V1.3.6", "API7")
async def test_a_name_that_changes_after_the_check_is_not_followed(sender_to):
    """DNS rebinding: the second answer of the name server is another host of ours."""
    names = Names(receiver_example=[["127.0.0.1"], ["127.0.0.2"]])
    async with receiving() as receiver, receiving(host="127.0.0.2") as inside:
        sender = sender_to(names)
        first = await sender.post(url_of(receiver, scheme="http"), {}, BODY)
        assert names.asked == ["receiver.example"]
        second = await sender.post(url_of(inside, scheme="http"), {}, BODY)

    assert first.is_success
    assert len(receiver.messages) == 1
    assert "neither public" in second.error
    assert inside.connections == 0


async def test_the_next_ip_address_is_tried_if_one_refuses(sender_to):
    rules = AddressRules([ip_network("127.0.0.0/8")])
    async with receiving() as receiver:
        names = Names(receiver_example=[["127.0.0.3", "127.0.0.1"]])
        response = await sender_to(names, rules=rules).post(url_of(receiver, scheme="http"), {}, BODY)

    assert response.is_success


async def test_a_host_without_an_ip_address_gets_nothing(sender_to):
    async with receiving() as receiver:
        response = await sender_to(Names()).post(url_of(receiver, scheme="http"), {}, BODY)

    assert "resolved" in response.error


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_not_followed(sender_to, status):
    async with receiving() as elsewhere:
        redirect = answer(status, Location=f"http://127.0.0.1:{elsewhere.port}/")
        async with receiving(redirect) as receiver:
            response = await sender_to().post(url_of(receiver, scheme="http"), {}, BODY)

    assert (response.status, response.is_success) == (status, False)
    assert elsewhere.connections == 0


@pytest.mark.parametrize(
    ("value", "seconds"), [("120", 120), ("0", 0), ("soon", 0), ("-5", 0), ("Wed, 21 Oct 2015 07:28:00 GMT", 0)]
)
async def test_a_receiver_may_ask_for_a_pause(sender_to, value, seconds):
    async with receiving(answer(503, "busy", Retry_After=value)) as receiver:
        response = await sender_to().post(url_of(receiver, scheme="http"), {}, BODY)

    assert (response.status, response.retry_after) == (503, seconds)


async def test_of_a_response_one_line_of_200_characters_is_kept(sender_to):
    async with receiving(answer(500, "very\r\n\x1b[31m\x00bad " + "ñ" * 70_000)) as receiver:
        response = await sender_to().post(url_of(receiver, scheme="http"), {}, BODY)

    assert response.text.startswith("very \N{REPLACEMENT CHARACTER}[31m\N{REPLACEMENT CHARACTER}bad ñññ")
    assert len(response.text) == 200


async def test_a_compressed_response_is_not_decompressed(sender_to):
    bomb = gzip.compress(b"0" * 50_000_000)[:60_000]

    async def respond(_message, writer):
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(bomb) + bomb)

    async with receiving() as receiver:
        receiver.respond = respond
        response = await sender_to().post(url_of(receiver, scheme="http"), {}, BODY)

    assert response.is_success
    assert len(response.text) <= 200


async def silent(_message, _writer):
    await asyncio.sleep(3600)


async def trickling_head(_message, writer):
    writer.write(b"HTTP/1.1 200 OK\r\n")
    while True:
        writer.write(b"X-Slow: 1\r\n")
        await writer.drain()
        await asyncio.sleep(0.1)


async def endless_informational(_message, writer):
    while True:
        writer.write(b"HTTP/1.1 103 Early Hints\r\n\r\n")
        await writer.drain()
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("respond", [silent, trickling_head, endless_informational])
async def test_a_response_that_does_not_come_ends_the_attempt(sender_to, respond):
    async with receiving() as receiver:
        receiver.respond = respond
        started = time.monotonic()
        response = await sender_to(seconds=1).post(url_of(receiver, scheme="http"), {}, BODY)

    assert response.status is None
    assert response.error
    assert time.monotonic() - started < 3


async def trickling_body(_message, writer):
    writer.write(b"HTTP/1.1 202 Accepted\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        writer.write(b"1\r\nx\r\n")
        await writer.drain()
        await asyncio.sleep(0.05)


async def flooding_body(_message, writer):
    writer.write(b"HTTP/1.1 202 Accepted\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        writer.write(b"4000\r\n" + b"x" * 0x4000 + b"\r\n")
        await writer.drain()


@pytest.mark.parametrize("respond", [trickling_body, flooding_body])
async def test_a_response_without_end_counts_by_its_status(sender_to, respond):
    async with receiving() as receiver:
        receiver.respond = respond
        started = time.monotonic()
        response = await sender_to(seconds=1).post(url_of(receiver, scheme="http"), {}, BODY)

    assert response.status == 202
    assert time.monotonic() - started < 3


async def flooding_informational(_message, writer):
    while True:
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n" * 1000)
        await writer.drain()


async def flooding_tiny_chunks(_message, writer):
    writer.write(b"HTTP/1.1 202 Accepted\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        writer.write(b"1\r\nx\r\n" * 1000)
        await writer.drain()


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize(("respond", "status"), [(flooding_informational, None), (flooding_tiny_chunks, 202)])
async def test_a_flood_of_tiny_parts_is_cut_off_and_others_have_their_turn(
    sender_to, authority, respond, status, scheme
):
    turns = 0

    async def others():
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    async with receiving(tls=authority.server("receiver.example") if scheme == "https" else None) as receiver:
        receiver.respond = respond
        counting = asyncio.create_task(others())
        response = await sender_to(seconds=60).post(url_of(receiver, scheme=scheme), {}, BODY)
        counting.cancel()

    assert response.status == status
    assert (response.error is None) == (status is not None)
    assert "no response within" not in (response.error or "")
    assert turns >= sending.MAX_RECEIVED_BYTES // sending.READ_BYTES


@pytest.mark.parametrize("bytes_sent", [b"", b"no HTTP at all\r\n\r\n", b"HTTP/1.1 200 OK\r\nX: " + b"y" * 200_000])
async def test_what_is_no_response_is_an_error(sender_to, bytes_sent):
    async with receiving(bytes_sent) as receiver:
        response = await sender_to().post(url_of(receiver, scheme="http"), {}, BODY)

    assert response.status is None
    assert response.error


async def test_a_name_server_that_hangs_ends_the_attempt_and_delays_no_other(sender_to):
    hanging = threading.Event()

    def look_up(host):
        if host == "hanging.example":
            hanging.wait(30)
        return ["127.0.0.1"]

    try:
        async with receiving() as receiver:
            sender = sender_to(look_up, seconds=1)
            stuck = [
                asyncio.create_task(sender.post(url_of(receiver, "hanging.example", "http"), {}, BODY))
                for _ in range(50)
            ]
            await asyncio.sleep(0)
            before = threading.active_count()
            started = time.monotonic()
            response = await sender.post(url_of(receiver, scheme="http"), {}, BODY)
            assert response.is_success
            assert time.monotonic() - started < 0.9
            assert threading.active_count() <= before + 1
            assert {each.error for each in await asyncio.gather(*stuck)} == {"no response within 1 s"}
            assert len(receiver.messages) == 1
    finally:
        hanging.set()


async def test_it_uses_no_proxy_of_the_environment(sender_to, monkeypatch):
    async with receiving() as proxy, receiving() as receiver:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        response = await sender_to().post(url_of(receiver, scheme="http"), {}, BODY)

    assert response.is_success
    assert (len(receiver.messages), proxy.connections) == (1, 0)
