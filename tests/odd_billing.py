"""Responses of billing that violate HTTP, JSON or the contract, and a server that sends them."""

from __future__ import annotations

import asyncio
import gzip
import json
import re
from contextlib import asynccontextmanager

NAME = "Obsthof Köln"
GOOD = '{"id": 7, "name": "Obsthof Köln"}'.encode()
PAUSE = object()  # in the middle of a response
ENDLESS = object()  # the last part is repeated forever


def answer(status: str = "201 Created", body: bytes = GOOD, *headers: str, length: int | None = None) -> bytes:
    """A response that closes its connection."""
    lines = (f"HTTP/1.1 {status}", f"Content-Length: {len(body) if length is None else length}", *headers)
    return "\r\n".join((*lines, "Connection: close", "", "")).encode() + body


async def send(writer, parts):
    """Send the parts of a response until the client disconnects."""
    try:
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
    except ConnectionError:
        pass
    finally:
        writer.close()


@asynccontextmanager
async def answering(*parts, others=None):
    """A server on loopback that sends these parts to every request; its URL.

    `others`, if given, returns the parts to send instead for a requested name, if any.
    """

    async def serve(reader, writer):
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(re.search(rb"(?i)content-length: *(\d+)", head)[1])
            name = json.loads(await reader.readexactly(length))["name"]
        except (ConnectionError, asyncio.IncompleteReadError):
            writer.close()
            return
        await send(writer, (others and others(name)) or parts)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


CHUNKED = b"HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n"

UNUSABLE = {
    "no status line": (b"hello\r\n\r\n",),
    "bytes": (bytes(range(256)) * 4,),
    "a body that is cut": (answer(length=len(GOOD) + 5),),
    "a body byte by byte, without end": (answer(length=1_000_000)[:-5], b" ", ENDLESS),
    "chunks without end": (CHUNKED, b"1\r\n \r\n", ENDLESS),
    "a later chunk without a length": (CHUNKED + b"1\r\n \r\n", PAUSE, b"many\r\n{}\r\n0\r\n\r\n"),
    "a chunk without a length": (CHUNKED, b"many\r\n{}\r\n0\r\n\r\n"),
    "gzip that is none": (answer("201 Created", GOOD, "Content-Encoding: gzip"),),
    "gzip": (answer("201 Created", gzip.compress(GOOD), "Content-Encoding: gzip"),),
    "truncated JSON": (answer(body=GOOD[:-3]),),
    "UTF-16": (answer(body=GOOD.decode().encode("utf-16-be")[1:]),),
    "capitals": (answer(body=GOOD.replace("Obsthof Köln".encode(), "OBSTHOF KÖLN".encode())),),
    "a list": (answer(body=b"[" + GOOD + b"]"),),
    "200 with a provider": (answer("200 OK"),),
    "202 with a provider": (answer("202 Accepted"),),
    "204": (b"HTTP/1.1 204 No Content\r\n\r\n",),
    "302": (answer("302 Found", b"", "Location: /elsewhere"),),
    "304": (b"HTTP/1.1 304 Not Modified\r\n\r\n",),
    "a status of four digits": (answer("2010 Created"),),
    "another answer behind it": (answer() + answer("409 Conflict"),),
    "a status below all": (answer("99 Odd"),),
}
# Billing that does not respond this time, but may the next time.
NO_ANSWER = {
    "nothing at all": (b"",),
    "a head without end": (b"HTTP/1.1 201 Created\r\n", b"X-More: more\r\n", ENDLESS),
    "100 Continue without end": (b"HTTP/1.1 100 Continue\r\n\r\n", ENDLESS),
    "503 with a provider": (answer("503 Service Unavailable"),),
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
    "a line end behind it": (answer() + b"\r\n",),
}
