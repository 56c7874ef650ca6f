"""Answers that break HTTP, JSON or the contract, byte by byte: each ends in time, and the next approval goes on."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from uuid import uuid4

import pytest

from provider_registration.billing import client as module
from provider_registration.billing.client import BillingClient, BillingOptions
from provider_registration.billing.errors import BillingNameTaken, BillingRefused, BillingUncertain
from provider_registration.settings import Settings

NAME = "Obsthof Köln"
HURRIED = BillingOptions(timeout=0.3, deadline=2.0)
GOOD = '{"id": 7, "name": "Obsthof Köln"}'.encode()
PAUSE = object()  # in the middle of an answer
ENDLESS = object()  # the last part is sent again and again


def answer(status: str = "201 Created", body: bytes = GOOD, *headers: str, length: int | None = None) -> bytes:
    """An answer that closes its connection."""
    lines = (f"HTTP/1.1 {status}", f"Content-Length: {len(body) if length is None else length}", *headers)
    return "\r\n".join((*lines, "Connection: close", "", "")).encode() + body


@asynccontextmanager
async def answering(*parts):
    """A server on loopback that sends these parts to whatever asks; its URL."""

    async def serve(reader, writer):
        try:
            await reader.readuntil(b"\r\n\r\n")
            for part in parts:
                if part is PAUSE:
                    await asyncio.sleep(0.1)
                elif part is ENDLESS:
                    while True:
                        writer.write(parts[-2])
                        await writer.drain()
                        await asyncio.sleep(0.05)
                else:
                    writer.write(part)
                    await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


CHUNKED = b"HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n"

UNUSABLE = {
    "no status line": (b"hello\r\n\r\n",),
    "nothing at all": (b"",),
    "bytes": (bytes(range(256)) * 4,),
    "a head without end": (b"HTTP/1.1 201 Created\r\n", b"X-More: more\r\n", ENDLESS),
    "100 Continue without end": (b"HTTP/1.1 100 Continue\r\n\r\n", ENDLESS),
    "a body that is cut": (answer(length=len(GOOD) + 5),),
    "a body byte by byte, without end": (answer(length=1_000_000)[:-5], b" ", ENDLESS),
    "chunks without end": (CHUNKED, b"1\r\n \r\n", ENDLESS),
    "a chunk without a length": (CHUNKED, b"many\r\n{}\r\n0\r\n\r\n"),
    "gzip that is none": (answer("201 Created", GOOD, "Content-Encoding: gzip"),),
    "truncated JSON": (answer(body=GOOD[:-3]),),
    "UTF-16": (answer(body=GOOD.decode().encode("utf-16-be")[1:]),),
    "capitals": (answer(body=GOOD.replace("Obsthof Köln".encode(), "OBSTHOF KÖLN".encode())),),
    "a list": (answer(body=b"[" + GOOD + b"]"),),
    "200 with a provider": (answer("200 OK"),),
    "202 with a provider": (answer("202 Accepted"),),
    "204": (b"HTTP/1.1 204 No Content\r\n\r\n",),
    "302": (answer("302 Found", b"", "Location: /elsewhere"),),
    "304": (b"HTTP/1.1 304 Not Modified\r\n\r\n",),
    "503 with a provider": (answer("503 Service Unavailable"),),
    "a status of four digits": (answer("2010 Created"),),
    "a status below all": (answer("99 Odd"),),
}
REFUSED = {
    "HTML": (answer("400 Bad Request", b"<html>no</html>", "Content-Type: text/html"),),
    "an empty body": (answer("422 Unprocessable Content", b""),),
    "gzip that is none": (answer("403 Forbidden", b"no", "Content-Encoding: gzip"),),
}
TAKEN = {
    "without a body": (answer("409 Conflict", b""),),
    "HTML": (answer("409 Conflict", b"<html>taken</html>"),),
}
USABLE = {
    "another content type": (answer("201 Created", GOOD, "Content-Type: text/html"),),
    "no content type, HTTP/1.0": (b"HTTP/1.0 201 Created\r\n\r\n" + GOOD,),
    "a pause in its middle": (answer()[:-9], PAUSE, answer()[-9:]),
    "100 Continue first": (b"HTTP/1.1 100 Continue\r\n\r\n" * 3 + answer(),),
    "another answer behind it": (answer() + answer("409 Conflict"),),
}


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch):
    monkeypatch.setattr(module, "FIRST_WAIT_SECONDS", 0.01)


async def ask(parts):
    """The id of the provider, or the client's error, well before a test gives up."""
    async with answering(*parts) as url, BillingClient(url, HURRIED) as billing:
        return await asyncio.wait_for(billing.create_provider(NAME, uuid4()), 20)


@pytest.mark.parametrize("parts", UNUSABLE.values(), ids=UNUSABLE)
async def test_what_cannot_be_used_is_uncertain_by_the_deadline(parts):
    with pytest.raises(BillingUncertain):
        await ask(parts)


@pytest.mark.parametrize("parts", REFUSED.values(), ids=REFUSED)
async def test_a_no_is_a_no_whatever_its_body(parts):
    with pytest.raises(BillingRefused):
        await ask(parts)


@pytest.mark.parametrize("parts", TAKEN.values(), ids=TAKEN)
async def test_a_taken_name_is_known_by_its_status(parts):
    with pytest.raises(BillingNameTaken):
        await ask(parts)


@pytest.mark.parametrize("parts", USABLE.values(), ids=USABLE)
async def test_a_provider_is_a_provider_however_it_is_sent(parts):
    assert await ask(parts) == 7


async def test_after_nonsense_the_next_is_asked():
    async with answering(*UNUSABLE["capitals"]) as url, BillingClient(url, HURRIED) as billing:
        for _ in range(10):
            with pytest.raises(BillingUncertain):  # BillingCircuitOpen would say that billing is left alone
                await billing.create_provider(NAME, uuid4())


def test_all_tries_of_an_approval_end_within_two_minutes():
    assert Settings.model_fields["billing_deadline_seconds"].default < 120
