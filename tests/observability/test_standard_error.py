"""The thread that writes log lines: whole, in order, and as many as come."""

from __future__ import annotations

import os
import threading
import time
from contextlib import contextmanager
from time import monotonic

from provider_registration.observability import standard_error as module
from provider_registration.observability.standard_error import LogWriter

LINE = "x" * 299 + "\n"


@contextmanager
def reading():
    """A pipe: where to write, and what its reader got until the writer closed it."""
    reader, writer = os.pipe()
    got = []

    def read():
        while received := os.read(reader, 65536):
            got.append(received)

    thread = threading.Thread(target=read)
    thread.start()
    try:
        yield writer, got
    finally:
        os.close(writer)
        thread.join()
        os.close(reader)


def test_what_gathered_is_written_without_a_pause(monkeypatch):
    """After a pause all lines are written, not only as many as fit into one write: else lines would be dropped."""
    pauses, may_go_on = [], threading.Event()

    def sleep(seconds):
        pauses.append(seconds)
        may_go_on.wait(10)

    monkeypatch.setattr(module, "sleep", sleep)
    with reading() as (file_descriptor, got):
        writer = LogWriter(file_descriptor)
        for number in range(1000):
            writer.write(f"{number:05d}{LINE}")
        may_go_on.set()
        deadline = monotonic() + 20
        while b"".join(got).count(b"\n") < 1000 and monotonic() < deadline:
            time.sleep(0.01)

    written = b"".join(got).decode().splitlines()
    assert [int(line[:5]) for line in written] == [*range(1000)]
    assert len(pauses) == 1
