"""Runs the whole service on one machine: database, billing sandbox and API."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import secrets
import shlex
import shutil
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from urllib.parse import urlsplit

import click
import uvicorn
from pydantic import SecretStr
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool
from starlette.types import ASGIApp

from provider_registration.db.database import CONNECT_TIMEOUT
from provider_registration.local.accounts import installed_programs
from provider_registration.local.background_server import base_url, listen, serve_in_background
from provider_registration.local.errors import LocalError
from provider_registration.local.lock import FolderLock
from provider_registration.local.mails import HOST, Mails, catching
from provider_registration.local.postgres import PrivatePostgres, free_port
from provider_registration.local.sandbox import create_sandbox
from provider_registration.local.settings import LocalSettings, write_private
from provider_registration.settings import DatabaseSettings, Settings
from provider_registration.web.server import BundlingProtocol

OLDEST_SERVER = 15
SERVER_VERSION = text("SHOW server_version_num")
SHUTDOWN_MARGIN = 5  # seconds for the longest request, an approval, in addition to its billing calls
MAIL_FROM = "Supplier registration <suppliers@example.com>"
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # Ctrl-C, `kill`, a closed terminal

Migrate = Callable[[str], None]
EnsureAdmin = Callable[[str, str, str | None], str | None]  # URL, e-mail, password or None -> the generated password
CreateApp = Callable[[Settings], ASGIApp]


def run(settings: LocalSettings, *, migrate: Migrate, ensure_admin: EnsureAdmin, create_app: CreateApp) -> None:
    """Start everything, serve until SIGINT or SIGTERM, then stop everything.

    Raises:
        LocalError: something prevents it; the message says what.
    """
    for number in SIGNALS:
        signal.signal(number, _interrupt)
    with contextlib.suppress(KeyboardInterrupt), contextlib.ExitStack() as stopping:
        lock = _lock_folder(settings.local_data_dir)
        stopping.callback(lock.release)
        listener = stopping.enter_context(_listen(settings.app_host, settings.app_port))
        stopping.callback(_ignore_signals)  # from here on, cleanup must not be interrupted

        database_url, psql = settings.database_url, "psql"
        if database_url:
            check_server(database_url)
        else:
            postgres = PrivatePostgres(settings.local_data_dir / "postgres", port=settings.app_port + 2)
            database_url = DatabaseSettings(database_url=postgres.start()).database_url
            stopping.callback(postgres.stop)
            stopping.callback(_ignore_signals)
            if not shutil.which(psql):
                psql = _shown(installed_programs() / psql)
        migrate(database_url)
        new_password = ensure_admin(database_url, settings.admin_email, _secret(settings.admin_password))
        write_private(settings.database_url_file, database_url.replace("postgresql+asyncpg://", "postgresql://"))
        stopping.callback(settings.database_url_file.unlink, missing_ok=True)

        sandbox_port = None if settings.billing_service_url else free_port(settings.app_port + 1)
        mail_port = None if settings.smtp_url or sandbox_port is None else free_port(settings.app_port + 3)
        complete = settings.model_copy(
            update={
                "database_url": database_url,
                "billing_service_url": settings.billing_service_url or f"http://127.0.0.1:{sandbox_port}",
                "jwt_secret_key": SecretStr(
                    _secret(settings.jwt_secret_key) or _stored_secret(settings.local_data_dir / "jwt-secret")
                ),
                "secrets_key": SecretStr(
                    _secret(settings.secrets_key) or _stored_secret(settings.local_data_dir / "secrets-key")
                ),
                **({"smtp_url": SecretStr(f"smtp://{HOST}:{mail_port}?starttls=off")} if mail_port else {}),
                "mail_from": settings.mail_from or MAIL_FROM,
            }
        )
        config = uvicorn.Config(
            create_app(complete),
            http=BundlingProtocol,
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            forwarded_allow_ips=settings.forwarded_allow_ips,
            timeout_graceful_shutdown=int(settings.billing_deadline_seconds) + SHUTDOWN_MARGIN,
        )
        announcement = _announcement(complete, base_url(listener), psql, new_password, mails=mail_port is not None)
        with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
            runner.run(_serve(_Server(config), listener, complete, (sandbox_port, mail_port), announcement))


class _Server(uvicorn.Server):
    """A server that stops on our signals without ending the process."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        for number in SIGNALS:
            signal.signal(number, self.handle_exit)
        yield


async def _serve(
    server: _Server,
    listener: socket.socket,
    settings: LocalSettings,
    ports: tuple[int | None, int | None],
    announcement: str,
) -> None:
    sandbox_port, mail_port = ports
    async with contextlib.AsyncExitStack() as stopping:
        mails = Mails()
        if mail_port is not None:
            await stopping.enter_async_context(catching(mails, mail_port))
        if sandbox_port is not None:
            more = mails.routes() if mail_port is not None else []
            sandbox = create_sandbox(settings.local_data_dir / "billing-sandbox.sqlite3", more=more)
            await stopping.enter_async_context(serve_in_background(sandbox, sandbox_port))
        serving = asyncio.create_task(_serve_until_stopped(server, listener))
        while not (server.started or serving.done()):  # noqa: ASYNC110 - uvicorn offers no event
            await asyncio.sleep(0.005)
        if server.started:
            click.echo(announcement)
        await serving


async def _serve_until_stopped(server: _Server, listener: socket.socket) -> None:
    try:
        await server.serve(sockets=[listener])
    except SystemExit as error:  # uvicorn raises it if the lifespan failed
        raise LocalError("The service did not start; see the log above.") from error


def check_server(database_url: str) -> None:
    """Check that the database responds and that its server is not too old.

    Raises:
        LocalError: it does not respond, or is too old; the message has no password.
    """
    version = asyncio.run(_server_version(database_url))
    if version // 10_000 < OLDEST_SERVER:
        raise LocalError(
            f"The server at DATABASE_URL is PostgreSQL {version // 10_000}; {OLDEST_SERVER} or later is required."
        )


async def _server_version(database_url: str) -> int:
    engine = create_async_engine(database_url, poolclass=NullPool, connect_args={"timeout": CONNECT_TIMEOUT})
    try:
        async with engine.connect() as connection:
            return int(await connection.scalar(SERVER_VERSION) or 0)
    except (OSError, TimeoutError, DBAPIError) as error:
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        reason = f"{type(cause).__name__}: {cause}".strip(": ")
        raise LocalError(
            f"The database at DATABASE_URL, {_location(database_url)}, does not respond ({reason})."
        ) from error


def _lock_folder(folder: Path) -> FolderLock:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FolderLock(folder)
        lock.acquire()
    except OSError as error:
        raise LocalError(
            f"LOCAL_DATA_DIR {folder} is not writable ({error.strerror}); fix that or choose another."
        ) from error
    return lock


def _listen(host: str, port: int) -> socket.socket:
    try:
        return listen(host, port)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise LocalError(f"Port {port} is in use; stop what uses it or set APP_PORT.") from None
        raise LocalError(f"Cannot listen on {host}:{port} ({error.strerror}); set APP_HOST or APP_PORT.") from None


def _stored_secret(path: Path) -> str:
    if not path.exists():
        write_private(path, secrets.token_hex(32))
    return path.read_text()


def _secret(value: SecretStr | None) -> str | None:
    return (value.get_secret_value() if value else None) or None


def _location(database_url: str) -> str:
    parts = urlsplit(database_url)
    return f"{parts.hostname or 'localhost'}:{parts.port or 5432}{parts.path}"


def _announcement(settings: LocalSettings, api_url: str, psql: str, new_password: str | None, *, mails: bool) -> str:
    program = _shown(sys.argv[0]) if Path(sys.argv[0]).name == "provider-registration" else "provider-registration"
    url_file = shlex.quote(_shown(settings.database_url_file))
    if settings.local_data_dir != LocalSettings.model_fields["local_data_dir"].default:
        program = f"LOCAL_DATA_DIR={shlex.quote(str(settings.local_data_dir))} {program}"
    if new_password:
        login = f"{settings.admin_email} with the password {new_password} (shown only now)"
    else:
        login = f"{settings.admin_email}; to set a new password: {program} set-password {settings.admin_email}"
    lines = {
        "API": api_url,
        "Try it": f"{api_url}/docs",
        "Reference": f"{api_url}/redoc",
        **({"Apply": f"{api_url}/apply"} if settings.public_pages else {}),
        **({"Console": f"{api_url}/admin"} if settings.admin_pages else {}),
        **({"GraphiQL": f"{api_url}/graphiql"} if settings.graphql else {}),
        "Sign in": login,
        "Billing": settings.billing_service_url,
        **({"E-mails": f"{settings.billing_service_url}/mails"} if mails else {}),
        "Database": f'{psql} "$(cat {url_file})"',
        "Demo data": f"{program} demo-data --count 1000",
    }
    return "\n".join(
        [
            "The Provider Registration Service is running; Ctrl-C stops it.",
            *(f"  {name:<10} {value}" for name, value in lines.items()),
        ]
    )


def _shown(path: str | Path) -> str:
    """The path relative to the working directory if it is inside, else the absolute path."""
    path = Path(path).absolute()
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _ignore_signals() -> None:
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
