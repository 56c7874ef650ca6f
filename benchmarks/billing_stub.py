"""A billing service that creates every provider at once: `python -m benchmarks.billing_stub PORT`.

It responds 201 after CALL_SECONDS, and is small so that it uses little of the measured machine. A request with the key
of an earlier one gets the same provider. `GET /created` says which were created, and forgets them.
"""

from __future__ import annotations

import asyncio
import json
import sys
from itertools import count
from typing import ClassVar

import uvloop

CALL_SECONDS = 0.005
FIRST_ID = 1_500_000_000  # far from the ids of the data
END_OF_HEAD = b"\r\n\r\n"


class Billing(asyncio.Protocol):
    """One keep-alive connection; requests have a Content-Length."""

    ids = count(FIRST_ID)
    by_key: ClassVar[dict[bytes, int]] = {}
    created: ClassVar[dict[str, list[int]]] = {}  # IDs by name

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start without data."""
        self._transport = transport
        self._received = b""

    def data_received(self, data: bytes) -> None:
        """Respond to each complete request after a delay."""
        self._received += data
        while END_OF_HEAD in self._received:
            head, _, rest = self._received.partition(END_OF_HEAD)
            fields = _fields(head)
            length = int(fields.get(b"content-length", 0))
            if len(rest) < length:
                return
            self._received = rest[length:]
            body = rest[:length]
            if head.startswith(b"GET /created"):
                self._answer(b"200 OK", json.dumps(self.created).encode())
                self.created.clear()
                self.by_key.clear()
            elif head.startswith(b"GET "):
                self._answer(b"200 OK", b"{}")
            else:
                name = json.loads(body)["name"]
                answer = json.dumps({"id": self._provider(name, fields.get(b"idempotency-key")), "name": name}).encode()
                asyncio.get_running_loop().call_later(CALL_SECONDS, self._answer, b"201 Created", answer)

    def _provider(self, name: str, key: bytes | None) -> int:
        if key in self.by_key:
            return self.by_key[key]
        provider_id = next(self.ids)
        self.created.setdefault(name, []).append(provider_id)
        if key is not None:
            self.by_key[key] = provider_id
        return provider_id

    def _answer(self, status: bytes, body: bytes) -> None:
        if not self._transport.is_closing():
            head = b"HTTP/1.1 %b\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % (status, len(body))
            self._transport.write(head + body)


def _fields(head: bytes) -> dict[bytes, bytes]:
    lines = (line.partition(b":") for line in head.split(b"\r\n")[1:])
    return {name.lower(): value.strip() for name, _, value in lines}


async def serve(port: int) -> None:
    """Serve until the process is stopped."""
    server = await asyncio.get_running_loop().create_server(Billing, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
