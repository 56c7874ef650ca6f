"""Runs `provider-registration` in processes forked from one that has loaded it: loading takes 2 s of CPU time.

Run as a program, it reads one order (JSON) per line from standard input, and answers each on standard output.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

NAME = str(Path(sys.executable).with_name("provider-registration"))
POLL = 0.01  # seconds


class Forked:
    """A process of the program, with the methods of `subprocess.Popen`; its output is complete when it has ended."""

    def __init__(self, server: ForkServer, pid: int, output: Path, error: Path) -> None:
        self._server = server
        self.pid = pid
        self._output = output
        self._error = error
        self.returncode: int | None = None

    def poll(self) -> int | None:
        if self.returncode is None:
            self.returncode = self._server.ask({"poll": self.pid})
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def communicate(self, timeout: float = 60.0) -> tuple[str, str]:
        """Wait until it ends; return what it wrote to standard output and standard error."""
        deadline = time.monotonic() + timeout
        while self.poll() is None:
            assert time.monotonic() < deadline, "it does not end"
            time.sleep(POLL)
        return self._output.read_text(), self._error.read_text()


class ForkServer:
    """The process that is forked."""

    def __init__(self, process: subprocess.Popen[str], folder: Path) -> None:
        self._process = process
        self._folder = folder
        self._started = 0

    def ask(self, order: Mapping[str, object]) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def start(
        self,
        arguments: list[str],
        environment: Mapping[str, str],
        folder: Path,
        *,
        stdin: str = "",
        log: Path | None = None,
    ) -> Forked:
        """Start the program with these arguments and variables, in a folder; `log` takes all its output."""
        self._started += 1
        files = {name: log or self._folder / f"{self._started}.{name}" for name in ("stdout", "stderr")}
        files["stdin"] = self._folder / f"{self._started}.stdin"
        files["stdin"].write_text(stdin)
        order = {"arguments": arguments, "environment": dict(environment), "folder": str(folder)}
        pid = self.ask(order | {name: str(file) for name, file in files.items()})
        return Forked(self, pid, files["stdout"], files["stderr"])


@contextmanager
def running_fork_server(folder: Path) -> Iterator[ForkServer]:
    """A process to fork; `folder` takes the output of forked ones."""
    command = (sys.executable, __file__)
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=folder) as process:
        yield ForkServer(process, folder)


def _main() -> None:
    # Tests load this module too, and processes of the service load only what they need.
    from provider_registration import cli  # noqa: PLC0415
    from provider_registration.local import run  # noqa: F401, PLC0415

    gc.freeze()
    ended: dict[int, int] = {}
    for line in sys.stdin:
        order = json.loads(line)
        answer: int | None
        if asked := order.get("poll"):
            if asked not in ended:
                pid, status = os.waitpid(asked, os.WNOHANG)
                if pid:
                    ended[pid] = os.waitstatus_to_exitcode(status)
            answer = ended.get(asked)
        else:
            answer = os.fork()
            if not answer:
                _become(order, cli.main)
        print(json.dumps(answer), flush=True)  # noqa: T201


def _become(order: dict[str, Any], main: Any) -> None:
    """Run the program, and end with its status."""
    status = 1
    try:
        for number, name in enumerate(("stdin", "stdout", "stderr")):
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT if number else os.O_RDONLY
            os.dup2(os.open(order[name], flags, 0o600), number)
        os.chdir(order["folder"])
        os.environ.clear()
        os.environ.update(order["environment"])
        sys.argv = [NAME, *order["arguments"]]
        try:
            main()
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else int(end.code is not None)
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(status)  # never back into the loop of the server


if __name__ == "__main__":
    _main()
