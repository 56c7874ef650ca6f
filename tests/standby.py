"""A real standby of a private PostgreSQL."""

from __future__ import annotations

import subprocess
from contextlib import contextmanager
from urllib.parse import urlsplit

from provider_registration.local.accounts import account_for, programs_for
from provider_registration.local.postgres import ENVIRONMENT, PrivatePostgres


@contextmanager
def standby_of(primary_url, home, options):
    """A standby that streams from a server while the block runs; gives its URL. `options` are settings of it."""
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
