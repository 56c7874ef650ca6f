"""A consumer of the stream in NATS that disconnects at random, and then gets some events again."""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from random import Random
from typing import Any

import nats
from nats.errors import TimeoutError as NothingNew
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

from tests.nats_server import STREAM, SUBJECTS

MOST_AT_ONCE = 300  # events of one connection
MOST_AGAIN = 50  # events that a new connection gets again, as if they had not been acknowledged
PAUSE = 0.1  # seconds between two connections
IDLE = 1.0  # seconds without an event, after which it connects again


class Consumer:
    """Consumes every event, and removes repeated ones by their IDs."""

    def __init__(self, url: str, random: Random) -> None:
        self.ids: list[int] = []  # in the order in which they came first
        self.connections = self.repeated = 0
        self._known: set[str] = set()
        self._sequences: dict[str, list[int]] = defaultdict(list)  # of each candidate's events
        self._last = 0  # in the stream
        self._url = url
        self._random = random

    async def run(self) -> None:
        """Consume until cancelled."""
        while True:
            self.connections += 1
            client = await nats.connect(self._url)
            try:
                await self._consume(client)
            finally:
                await client.close()
            await asyncio.sleep(PAUSE)

    async def until_consumed(self, ids: Sequence[int], seconds: float) -> str | None:
        """Wait until as many events as these came; return what is wrong with them."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while len(self.ids) < len(ids):
                    await asyncio.sleep(PAUSE)
        if self.ids != list(ids):
            missing, more = set(ids) - set(self.ids), set(self.ids) - set(ids)
            return f"NATS gave {len(self.ids)} events instead of {len(ids)}; missing: {sorted(missing)[:5]}; {more=}"
        if any(found != list(range(1, len(found) + 1)) for found in self._sequences.values()):
            return "NATS gave the events of a candidate in another order"
        return None

    async def _consume(self, client: Any) -> None:
        config = ConsumerConfig(
            deliver_policy=DeliverPolicy.BY_START_SEQUENCE,
            opt_start_seq=max(1, self._last + 1 - self._random.randint(0, MOST_AGAIN)),
            ack_policy=AckPolicy.NONE,
        )
        events = await client.jetstream().subscribe(SUBJECTS, stream=STREAM, config=config)
        with suppress(NothingNew):
            for _ in range(self._random.randint(1, MOST_AT_ONCE)):
                self._take(await events.next_msg(timeout=IDLE))

    def _take(self, message: Any) -> None:
        self._last = max(self._last, message.metadata.sequence.stream)
        event_id = message.headers["Nats-Msg-Id"]
        if event_id in self._known:
            self.repeated += 1
            return
        self._known.add(event_id)
        self.ids.append(int(event_id))
        event = json.loads(message.data)
        self._sequences[event["subject"]].append(event["data"]["sequence"])
