"""The service, with a watch on its event loop: `python -m benchmarks.watched FILE serve`.

After SIGUSR2 it writes to FILE, as JSON, for how long the loop was occupied at most since the last time, and begins
anew. The processor's time of its thread hardly depends on other processes; the other time does.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from provider_registration import serving
from provider_registration.app import create_app
from provider_registration.cli import main

BEAT_SECONDS = 0.001
LONG_SECONDS = 0.005


class Watch:
    """The longest times between two beats, which include all that is ready in one iteration of the loop."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._new = file.with_suffix(".new")
        self._begin()

    def _begin(self) -> None:
        self._longest = self._longest_processor = 0.0
        self._long = 0

    async def beat(self) -> None:
        """Measure until cancelled."""
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR2, self._write)
        while True:
            begun, used = time.perf_counter(), time.thread_time()
            await asyncio.sleep(BEAT_SECONDS)
            used = time.thread_time() - used
            self._longest = max(self._longest, time.perf_counter() - begun - BEAT_SECONDS)
            self._longest_processor = max(self._longest_processor, used)
            self._long += used > LONG_SECONDS

    def _write(self) -> None:
        found = {"seconds": self._longest, "processor_seconds": self._longest_processor, "long": self._long}
        self._new.write_text(json.dumps(found))
        self._new.rename(self._file)
        self._begin()


class Watched:
    """The application; the watch begins with its lifespan."""

    def __init__(self, app: Callable[..., Awaitable[None]], watch: Watch) -> None:
        self._app = app
        self._watch = watch

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve."""
        if scope["type"] != "lifespan":
            await self._app(scope, receive, send)
            return
        beating = asyncio.create_task(self._watch.beat())
        try:
            await self._app(scope, receive, send)
        finally:
            beating.cancel()


if __name__ == "__main__":
    watch = Watch(Path(sys.argv.pop(1)))
    serving.create_app = lambda *args, **options: Watched(create_app(*args, **options), watch)  # type: ignore[assignment,return-value]  # an ASGI application too
    main()
