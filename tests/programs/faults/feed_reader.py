"""A reader of the feed that changes between pages and streams, and between replicas, at random."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from random import Random

import httpx

from .service_process import Replica
from .world import World

PAUSE = 0.1  # seconds between two connections
STREAM_SECONDS = 2.0  # maximum of one connection


async def messages(lines: AsyncIterator[str]) -> AsyncIterator[dict[str, str]]:
    """The messages of a stream of server-sent events, as their fields; comments have at most an `id`."""
    fields: dict[str, str] = {}
    async for line in lines:
        if line.startswith(":"):
            continue
        if line:
            name, _, value = line.partition(": ")
            fields[name] = value
        elif fields:
            yield fields
            fields = {}


class FeedReader:
    """Reads every event after a position; replicas may die meanwhile."""

    def __init__(self, world: World, replicas: Sequence[Replica], start: int, random: Random) -> None:
        """`replicas` may change while it reads."""
        self.ids: list[int] = []  # of the events, as they came
        self.connections = 0
        self._world = world
        self._replicas = replicas
        self._cursor = str(start)
        self._random = random

    async def run(self) -> None:
        """Read until cancelled."""
        while True:
            replica = self._random.choice(self._replicas)
            self.connections += 1
            if self._random.random() < 0.5:
                await self._read_page(replica)
            else:
                with suppress(httpx.HTTPError, TimeoutError):
                    await self._read_stream(replica)
            await asyncio.sleep(PAUSE)

    async def until_read(self, ids: Sequence[int], seconds: float) -> str | None:
        """Wait until as many events as these were read; return what is wrong with them."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while len(self.ids) < len(ids):
                    await asyncio.sleep(PAUSE)
        if self.ids == list(ids):
            return None
        missing, more = set(ids) - set(self.ids), set(self.ids) - set(ids)
        return (
            f"the feed gave {len(self.ids)} events, {len(self.ids) - len(set(self.ids))} of them again, instead of "
            f"{len(ids)}; missing: {sorted(missing)[:5]}; others: {sorted(more)[:5]}"
        )

    async def _read_page(self, replica: Replica) -> None:
        parameters = {"after": self._cursor, "limit": self._random.randint(1, 100)}
        response = await self._world.ask(replica, "GET", "/events", params=parameters)
        if response is not None and response.status_code != 503:  # 503: its database is away
            assert response.status_code == 200, response.text
            self.ids += [int(event["id"]) for event in response.json()["events"]]
            self._cursor = response.json()["next_after"]

    async def _read_stream(self, replica: Replica) -> None:
        wanted = self._random.randint(1, 100)
        async with (
            asyncio.timeout(STREAM_SECONDS),
            self._world.stream(replica, "/events/stream", headers={"Last-Event-ID": self._cursor}) as response,
        ):
            if response.status_code == 503:
                return
            assert response.status_code == 200, response.status_code
            async for fields in messages(response.aiter_lines()):
                assert "event" not in fields, f"after {self._cursor}: {fields}"
                if "data" in fields:
                    self.ids.append(int(json.loads(fields["data"])["id"]))
                    wanted -= 1
                self._cursor = fields.get("id", self._cursor)
                if wanted <= 0:
                    return
