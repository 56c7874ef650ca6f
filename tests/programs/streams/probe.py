"""Ask for `/health/live` again and again, and print the seconds that each took: `probe.py HOST:PORT SECONDS`.

A process of its own: clients of streams would delay it.
"""

from __future__ import annotations

import json
import sys
import time
from http.client import HTTPConnection

EVERY = 0.02  # seconds


def main() -> None:
    """Probe on one connection, for a while."""
    connection = HTTPConnection(sys.argv[1], timeout=30)
    took = []
    end = time.monotonic() + float(sys.argv[2])
    while time.monotonic() < end:
        begun = time.perf_counter()
        connection.request("GET", "/health/live")
        response = connection.getresponse()
        response.read()
        took.append(time.perf_counter() - begun)
        assert response.status == 200, response.status
        time.sleep(EVERY)
    print(json.dumps(took))  # noqa: T201 - what the command is for


if __name__ == "__main__":
    main()
