"""Real standbys of a local PostgreSQL, with or without lag, and a load balancer for several."""

from __future__ import annotations

import asyncio
import subprocess
from contextlib import asynccontextmanager, contextmanager, suppress
from itertools import cycle
from urllib.parse import urlsplit

from provider_registration.local.accounts import account_for, programs_for
from provider_registration.local.postgres import ENVIRONMENT, PrivatePostgres

SERVING_SESSIONS = "SELECT pid FROM pg_stat_activity WHERE application_name = 'provider-registration'"


@contextmanager
def standby_of(primary_url, home, options):
    """A standby that streams from a server while the block runs; yields its URL. `options` are its settings."""
    parts = urlsplit(primary_url)
    home.mkdir()
    home.chmod(0o755)
    account = account_for(home)
    (home / "password").write_text(parts.password)
    account.own(home)
    subprocess.run(
        [
            *(programs_for(account) / "pg_basebackup", "--pgdata", home / "data", "--write-recovery-conf", "--no-sync"),
            *("--checkpoint=fast", "--dbname", parts._replace(path="/").geturl()),
        ],
        check=True,
        cwd=home,
        env=ENVIRONMENT,
        **account.as_popen_arguments(),
    )
    standby = PrivatePostgres(home, options=options)
    try:
        yield standby.start()
    finally:
        standby.stop()


@asynccontextmanager
async def lagging(standby):
    """Pause replay on the standby of this connection during the block."""
    await standby.execute("SELECT pg_wal_replay_pause()")
    while await standby.fetchval("SELECT pg_get_wal_replay_pause_state()") != "paused":
        await asyncio.sleep(0.01)
    try:
        yield
    finally:
        await standby.execute("SELECT pg_wal_replay_resume()")


@asynccontextmanager
async def round_robin(*urls):
    """Forwards each connection to the next of several servers; yields the port."""
    servers = cycle((urlsplit(url).hostname, urlsplit(url).port) for url in urls)

    async def pipe(reader, writer):
        with suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def lead(reader, writer):
        server_reader, server_writer = await asyncio.open_connection(*next(servers))
        await asyncio.gather(pipe(reader, server_writer), pipe(server_reader, writer))

    async with await asyncio.start_server(lead, "127.0.0.1", 0) as balancer:
        yield balancer.sockets[0].getsockname()[1]


def at(url, port):
    """The same database through another port."""
    parts = urlsplit(url)
    return parts._replace(netloc=f"{parts.username}:{parts.password}@127.0.0.1:{port}").geturl()
