"""A PgBouncer in transaction mode between the service under test and PostgreSQL: `pytest --pgbouncer`."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from tests.ports import a_port

PORT = "TEST_PGBOUNCER_PORT"  # set while one runs
START_SECONDS = 10.0
PROGRAM = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")
# Fewer servers than clients, so that a client's transactions really move between them.
CONFIGURATION = """\
[databases]
* = host={host} port={server_port} user={user} password={password}

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 8
max_client_conn = 500
query_wait_timeout = 30
log_connections = 0
log_disconnections = 0
logfile = {folder}/pgbouncer.log
"""


class PgBouncer:
    """A PgBouncer for every database of a PostgreSQL."""

    def __init__(self, folder: Path, server_url: str, configuration: str = CONFIGURATION) -> None:
        """`configuration` has placeholders such as `{port}` and `{folder}`."""
        if PROGRAM is None:
            raise pytest.UsageError("There is no pgbouncer; on Debian: apt-get install pgbouncer")
        server = urlsplit(server_url)
        self.port = a_port()
        folder.mkdir()
        configuration = configuration.format(
            host=server.hostname,
            server_port=server.port or 5432,
            user=unquote(server.username or ""),
            password=unquote(server.password or ""),
            port=self.port,
            folder=folder,
        )
        (folder / "pgbouncer.ini").write_text(configuration)
        command = [PROGRAM, "-q", str(folder / "pgbouncer.ini")]
        if os.getuid() == 0:  # it refuses to run as root
            nobody = pwd.getpwnam("nobody")
            os.chown(folder, nobody.pw_uid, nobody.pw_gid)
            command[1:1] = ["-u", "nobody"]
        self._process = subprocess.Popen(command)
        self._wait_until_it_listens()

    def reload(self) -> None:
        """Reload its files, like `systemctl reload`."""
        self._process.send_signal(signal.SIGHUP)

    def stop(self) -> None:
        """Stop it."""
        self._process.terminate()
        self._process.wait(START_SECONDS)

    def _wait_until_it_listens(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
            else:
                return


def database_settings(url: str) -> dict[str, str]:
    """The database settings of a service under test: through PgBouncer, if one is running."""
    if port := os.environ.get(PORT):
        through = urlsplit(url)._replace(netloc=f"postgres@127.0.0.1:{port}").geturl()
        return {"database_url": through, "database_prepared_statements": "false"}
    return {"database_url": url}
