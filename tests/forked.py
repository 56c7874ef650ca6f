"""Runs `provider-registration` and `alembic` in processes forked from one that has loaded both: 2 s of CPU time.

Run as a program, it reads one order (JSON) per line from standard input, and answers each on standard output.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from threading import Lock, Thread
from typing import Any

NAME = "provider-registration"
POLL = 0.01  # seconds
# What `serve` imports when it starts.
LOADED_LATER = (
    *("asyncpg", "fastapi.telemetry._runtime", "httpcore", "nats.js", "uvicorn.lifespan.on", "uvicorn.loops.uvloop"),
    *("uvicorn.protocols.http.auto", "uvicorn.protocols.websockets.auto"),
)


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
        self._turn = Lock()

    def ask(self, order: Mapping[str, object]) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with self._turn:
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
        program: str = NAME,
    ) -> Forked:
        """Start a program with these arguments and variables, in a folder; `log` takes all its output."""
        self._started += 1
        files = {name: log or self._folder / f"{self._started}.{name}" for name in ("stdout", "stderr")}
        files["stdin"] = self._folder / f"{self._started}.stdin"
        files["stdin"].write_text(stdin)
        order = {"program": program, "arguments": arguments, "environment": dict(environment), "folder": str(folder)}
        pid = self.ask(order | {name: str(file) for name, file in files.items()})
        return Forked(self, pid, files["stdout"], files["stderr"])


@contextmanager
def running_fork_server(folder: Path) -> Iterator[ForkServer]:
    """A process to fork; `folder` takes the output of forked ones."""
    command = (sys.executable, __file__)
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=folder) as process:
        yield ForkServer(process, folder)


COMMAND = """#!{python} -ISE
import json, os, signal, socket, stat, sys
server = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
server.connect({address!r})
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, lambda number, _: server.send(bytes([number])))
files = {{
    name: os.devnull if stat.S_ISSOCK(os.fstat(number).st_mode) else f"/proc/{{os.getpid()}}/fd/{{number}}"
    for number, name in enumerate(("stdin", "stdout", "stderr"))
}}
order = {{"program": "provider-registration", "arguments": sys.argv[1:], "environment": dict(os.environ)}}
server.send(json.dumps(order | {{"folder": os.getcwd()}} | files).encode())
sys.exit(server.recv(1)[0])
"""
MESSAGE_BYTES = 1 << 18


@contextmanager
def forking_command(server: ForkServer, folder: Path) -> Iterator[Path]:
    """The folder of a command `provider-registration`, for shells: it takes 0.1 s of CPU time, not 2 s."""
    address = str(folder / "socket")
    command = folder / NAME
    command.write_text(COMMAND.format(python=sys.executable, address=address))
    command.chmod(0o755)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(address)
        listener.listen()
        Thread(target=_accept, args=(server, listener), daemon=True).start()
        yield folder
        listener.shutdown(socket.SHUT_RDWR)


def _accept(server: ForkServer, listener: socket.socket) -> None:
    with suppress(OSError):  # until it is shut down
        while True:
            Thread(target=_run_for, args=(server, listener.accept()[0]), daemon=True).start()


def _run_for(server: ForkServer, command: socket.socket) -> None:
    """Start what a command asks for, pass on its signals, and tell it the exit status."""
    with command:
        pid = server.ask(json.loads(command.recv(MESSAGE_BYTES)))
        command.settimeout(POLL)
        while (status := server.ask({"poll": pid})) is None:
            with suppress(TimeoutError):
                for number in command.recv(1) or [signal.SIGKILL]:
                    os.kill(pid, number)
        with suppress(OSError):  # it was killed
            command.send(bytes([status if status >= 0 else 128 - status]))


def _main() -> None:
    # Tests load this module too, and processes of the service load only what they need.
    import alembic.config  # noqa: PLC0415

    from provider_registration import cli  # noqa: PLC0415
    from provider_registration.local import run  # noqa: F401, PLC0415

    load_for_serving()
    programs = {NAME: cli.main, "alembic": alembic.config.main}
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
                _become(order, programs[order["program"]])
        print(json.dumps(answer), flush=True)  # noqa: T201


def load_for_serving() -> None:
    """Load what each `serve` would load again: 0.1 s of CPU time."""
    import httpx  # noqa: PLC0415

    for module in LOADED_LATER:
        importlib.import_module(module)
    httpx.create_ssl_context = cache(httpx.create_ssl_context)  # tests speak plain HTTP
    certificates = httpx.create_ssl_context(trust_env=False)
    certificates.load_default_certs()
    certificates.load_default_certs = lambda: None  # once for all


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
        sys.argv = [str(Path(sys.executable).with_name(order["program"])), *order["arguments"]]
        try:
            main()
            status = 0
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else int(end.code is not None)
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(status)  # never back into the loop of the server


if __name__ == "__main__":
    _main()
