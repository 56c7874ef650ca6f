"""`provider-registration serve` that dies or stops at a failpoint. Production has nothing that sets the hook.

If COMMAND is `work`, it is `provider-registration work`.

Variables say where (FAILPOINT, on its FAILPOINT_HIT-th hit; default 1) and what happens there (FAILPOINT_ACTION):
`kill` (SIGKILL), `stop` (SIGSTOP, until a SIGCONT) or `wait` (only this task, until the file FAILPOINT_MARK is gone).
That file is created when the point is reached.

If SUBSCRIPTION is set, the dispatcher of events runs this statement too.

Once it listens on its port, it creates the file LISTENING_MARK.

With `--fork-server` it serves nothing itself: each line of standard input (JSON) has an environment and a log file,
with which it forks a service; it answers with the pid, after a first line that says that it is ready. A restart then
takes 0.1 s instead of 2 s.
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import json
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path

import uvicorn
from sqlalchemy import text

from provider_registration import cli, failpoints

ROOT = Path(__file__).parents[3]


class Failpoint:
    """A hook that acts once."""

    def __init__(self, name: str, hit: int, action: str, mark: Path) -> None:
        self._name = name
        self._hits_left = hit
        self._action = action
        self._mark = mark

    async def __call__(self, name: str) -> None:
        """Pass every point except this one."""
        if name != self._name:
            return
        self._hits_left -= 1
        if self._hits_left != 0:
            return
        self._mark.touch()
        match self._action:
            case "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            case "stop":
                os.kill(os.getpid(), signal.SIGSTOP)
            case "wait":
                while self._mark.exists():
                    await asyncio.sleep(0.005)
            case other:
                raise ValueError(other)


def mark_when_listening(mark: Path) -> None:
    """Create a file once this process listens on the port, which another program may use."""
    startup = uvicorn.Server.startup

    async def start_and_mark(self, *arguments, **how):
        await startup(self, *arguments, **how)
        if self.started:
            mark.touch()  # noqa: ASYNC240 - before it serves anybody

    uvicorn.Server.startup = start_and_mark


def subscribe(statement: str) -> None:
    """Let the dispatcher run a statement for the events that it numbers; older releases have none."""
    lifespan = importlib.import_module("provider_registration.lifespan")
    usual = lifespan.Dispatcher
    lifespan.Dispatcher = lambda database, subscriptions: usual(database, [*subscriptions, text(statement)])


def serve() -> None:
    """Serve with the settings of the environment, as the command line does."""
    if statement := os.environ.get("SUBSCRIPTION"):
        subscribe(statement)
    mark_when_listening(Path(os.environ["LISTENING_MARK"]))
    if name := os.environ.get("FAILPOINT"):
        failpoints.hook = Failpoint(
            name,
            int(os.environ.get("FAILPOINT_HIT", "1")),
            os.environ.get("FAILPOINT_ACTION", "kill"),
            Path(os.environ["FAILPOINT_MARK"]),
        )
    cli.main([os.environ.get("COMMAND", "serve")], standalone_mode=False)


def fork_services() -> None:
    """Fork a service for every line of standard input; kill those that are left when it ends."""
    children: set[int] = set()

    def reap(*_: object) -> None:
        with suppress(ChildProcessError):
            while pid := os.waitpid(-1, os.WNOHANG)[0]:
                children.discard(pid)

    signal.signal(signal.SIGCHLD, reap)
    sys.path.append(str(ROOT))
    from tests.forked import load_for_serving  # noqa: PLC0415 - found from here on

    load_for_serving()
    gc.freeze()
    print(flush=True)  # noqa: T201 - ready
    for line in sys.stdin:
        order = json.loads(line)
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})  # a child must be in the set before it is reaped
        pid = os.fork()
        if pid == 0:
            _serve_as_child(order["environment"], order["log"])
        children.add(pid)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
        print(pid, flush=True)  # noqa: T201 - the answer to the order
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    for pid in children:
        os.kill(pid, signal.SIGKILL)


def _serve_as_child(environment: dict[str, str], log: str) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
    nothing, output = os.open(os.devnull, os.O_RDONLY), os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(nothing, 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.environ.update(environment)
    status = 1
    try:
        serve()
        status = 0
    finally:
        os._exit(status)  # exit handlers of the fork server must not run in the child


if __name__ == "__main__":
    if sys.argv[1:] == ["--fork-server"]:
        fork_services()
    else:
        serve()
