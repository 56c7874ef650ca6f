"""A real Redis that can be stopped, paused and restarted."""

from __future__ import annotations

import shutil
import signal
import subprocess

import pytest

from tests.ports import a_port

REDIS = shutil.which("redis-server")

needs_redis = pytest.mark.skipif(
    REDIS is None, reason="redis-server is not installed (Debian: apt install redis-server)"
)


class Redis:
    """A Redis on loopback without persistence, which can be stopped and restarted."""

    def __init__(self, folder):
        self._folder = folder
        self._port = a_port()
        self.url = f"redis://127.0.0.1:{self._port}"

    def start(self):
        options = {"port": self._port, "bind": "127.0.0.1", "save": "", "appendonly": "no", "dir": self._folder}
        arguments = [part for name, value in options.items() for part in (f"--{name}", str(value))]
        self._process = subprocess.Popen([REDIS, *arguments], stdout=subprocess.PIPE, text=True)
        for line in self._process.stdout:
            if "eady to accept connections" in line:
                return
        raise AssertionError("redis-server did not start")

    def stop(self):
        self._process.terminate()
        self._process.communicate(timeout=20)

    def hang(self):
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self):
        self._process.send_signal(signal.SIGCONT)
