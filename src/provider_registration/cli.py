"""The command line: `provider-registration COMMAND`."""

from __future__ import annotations

import asyncio
import json
import secrets
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine
from datetime import datetime
from pathlib import Path
from typing import TypeVar
from uuid import UUID

import click
from pydantic import TypeAdapter, ValidationError
from sqlalchemy.exc import ProgrammingError

from provider_registration import __version__, preflight, serving
from provider_registration.api_keys.models import MAX_NAME_LENGTH, ApiKey
from provider_registration.api_keys.schemas import Name as KeyName
from provider_registration.api_keys.service import ApiKeyService
from provider_registration.app import create_app
from provider_registration.audit.models import SERVICE
from provider_registration.auth.directory import UserDirectory
from provider_registration.auth.errors import UnacceptablePassword
from provider_registration.auth.models import Role
from provider_registration.auth.passwords import PasswordHasher
from provider_registration.candidates.counts import recount as count_again
from provider_registration.db import migrations
from provider_registration.db.database import Database, DatabaseUnavailable, reason_of
from provider_registration.db.grants import BI_VIEW, GrantError, check_name, grant_bi, grant_service
from provider_registration.environment import SettingsError, find_unparsable, load_settings
from provider_registration.errors import ServiceError
from provider_registration.observability.logs import configure_logging
from provider_registration.pages.errors import UnusableTranslation
from provider_registration.privacy.errors import PersonalDataError
from provider_registration.privacy.service import erase_person, export_person
from provider_registration.remote.commands import candidates
from provider_registration.remote.importing import import_command
from provider_registration.settings import DatabaseSettings, Settings
from provider_registration.web.instants import Instant
from provider_registration.web.pagination import MAX_LIMIT, Page
from provider_registration.web.text import EmailAddress

CHECK_AGAIN_SECONDS = 2.0
UNDEFINED_TABLE, UNDEFINED_COLUMN, INSUFFICIENT_PRIVILEGE = "42P01", "42703", "42501"  # PostgreSQL's error codes

_Result = TypeVar("_Result")


class NotTheOwner(click.ClickException):
    """The command needs the owner of the tables but got another role."""

    def __init__(self) -> None:
        super().__init__("The role in DATABASE_URL is not allowed to do this; connect as the owner of the tables.")


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__)
def main() -> None:
    """Provider Registration Service: supplier companies register, staff approve or reject them."""


main.add_command(candidates)
main.add_command(import_command)


@main.command()
def run() -> None:
    """Run PostgreSQL, a billing sandbox and the API on this machine."""
    # Production never loads `local`: the commands that need it import it themselves.
    from provider_registration.local import run as local_run  # noqa: PLC0415 - see above
    from provider_registration.local.errors import LocalError  # noqa: PLC0415 - see above
    from provider_registration.local.settings import LocalSettings  # noqa: PLC0415 - see above

    try:
        settings = load_settings(LocalSettings)
        configure_logging(settings.log_level)
        for sentence in find_unparsable():
            click.echo(f"Warning: {sentence}", err=True)
        local_run.run(settings, migrate=migrations.upgrade, ensure_admin=_ensure_admin, create_app=create_app)
    except UnacceptablePassword as error:
        raise click.ClickException(f"ADMIN_PASSWORD cannot be used: {error}") from None
    except OSError as error:
        if error.filename is None:
            raise
        raise click.ClickException(
            f"{error.filename} cannot be used ({error.strerror}); fix that or choose another LOCAL_DATA_DIR."
        ) from None
    except (LocalError, ServiceError, SettingsError, UnusableTranslation, migrations.MigrationError) as error:
        raise click.ClickException(str(error)) from None


def _ensure_admin(database_url: str, email: str, password: str | None) -> str | None:
    """Create the first admin if there are no users; return the password if it was generated."""
    first_password = password or secrets.token_urlsafe(12)
    is_new = asyncio.run(_call_with_users(database_url, lambda users: users.create_first_admin(email, first_password)))
    return first_password if is_new and not password else None


@main.command()
@click.option(
    "--workers",
    default=1,
    show_default=True,
    type=click.IntRange(1, 64),
    help="number of processes; not the setting WORKERS",
)
def serve(workers: int) -> None:
    """Serve the API with the settings from the environment. Refuse to start if one is missing or unsafe."""
    _serve(_serving_settings(), workers=workers)


@main.command()
def work() -> None:
    """Number events and send messages, without the API; only /health and /metrics are served."""
    _serve(_serving_settings().model_copy(update={"workers": True}), workers=1, api=False)


def _serving_settings() -> Settings:
    try:
        return load_settings(Settings)
    except SettingsError as error:
        raise click.ClickException(
            "The service does not start:\n" + "\n".join(f"  {p}" for p in error.problems)
        ) from None


def _serve(settings: Settings, *, workers: int, api: bool = True) -> None:
    configure_logging(settings.log_level)
    try:
        serving.serve(settings, workers=workers, api=api)
    except (serving.CannotServe, UnusableTranslation) as error:
        raise click.ClickException(str(error)) from None


@main.command()
@click.option(
    "--wait",
    default=0,
    show_default=True,
    type=click.IntRange(min=0),
    metavar="SECONDS",
    help="repeat the checks for up to SECONDS until there is no error",
)
def check(wait: int) -> None:
    """Check the settings and the services that they name, except billing: exit with 1 if `serve` could not serve."""
    deadline = time.monotonic() + wait
    shown: list[preflight.Finding] = []
    while True:
        findings = asyncio.run(preflight.check())
        for finding in findings:
            if finding not in shown:
                click.echo(finding)
        if all(finding.level != "error" for finding in findings):
            return
        left = deadline - time.monotonic()
        if left <= 0 or any(each.level == "error" and each.subject == "settings" for each in findings):
            sys.exit(1)  # settings do not change
        shown = findings
        time.sleep(min(CHECK_AGAIN_SECONDS, left))


@main.command()
@click.option("--revision", default="head", show_default=True, help="target revision")
@click.option("--grant-to", metavar="ROLE", help="grant the serving database role exactly the privileges that it needs")
@click.option("--grant-bi-to", metavar="ROLE", help=f"grant a role to read {BI_VIEW}, which has no personal data")
def migrate(revision: str, grant_to: str | None, grant_bi_to: str | None) -> None:
    """Upgrade the database schema."""
    url = _database_url()
    try:
        if grant_to is not None:
            check_name(grant_to)
        if grant_bi_to is not None:
            check_name(grant_bi_to, option="--grant-bi-to")
        migrations.upgrade(url, revision)
        click.echo(f"The schema is at {migrations.current(url)}.")
        if grant_to is not None:
            asyncio.run(_call_with_database(url, lambda database: grant_service(database, grant_to)))
            click.echo(f"{grant_to} has the privileges that the service needs.")
        if grant_bi_to is not None:
            asyncio.run(_call_with_database(url, lambda database: grant_bi(database, grant_bi_to)))
            click.echo(f"{grant_bi_to} can read {BI_VIEW}.")
    except (GrantError, ServiceError, migrations.MigrationError) as error:
        raise click.ClickException(str(error)) from None
    except ProgrammingError as error:
        if _sqlstate(error) != INSUFFICIENT_PRIVILEGE:
            raise
        raise NotTheOwner from None


@main.command()
def recount() -> None:
    """Check and correct the counts behind the lists' totals. Only needed after a data-only restore."""
    corrections = _with_database(count_again)
    for (product, status), (missing, tons) in corrections.items():
        click.echo(f"{status}, {product or 'all products'}: {missing:+} candidates, {tons:+} tonnes per day")
    click.echo("The counts were corrected." if corrections else "The counts are correct.")


def _email(_context: click.Context, _parameter: click.Parameter, value: str) -> str:
    try:
        return TypeAdapter(EmailAddress).validate_python(value)
    except ValidationError:
        raise click.BadParameter("is not an e-mail address") from None


email_argument = click.argument("email", callback=_email)
password_stdin_option = click.option(
    "--password-stdin", is_flag=True, help="read the password from standard input instead of asking for it"
)


def _read_password(*, from_stdin: bool) -> str:
    try:
        if from_stdin:
            password = sys.stdin.readline().rstrip("\r\n")
        else:
            password = str(click.prompt("Password", hide_input=True, confirmation_prompt=True))
        password.encode()  # invalid UTF-8 may have been read as lone surrogates
    except UnicodeError:
        raise click.ClickException("The password is not valid UTF-8.") from None
    return password


@main.command()
@email_argument
@click.option("--role", type=click.Choice([role.value for role in Role]), default="viewer", show_default=True)
@password_stdin_option
def create_user(email: str, role: str, password_stdin: bool) -> None:
    """Add a user who signs in as EMAIL."""
    password = _read_password(from_stdin=password_stdin)
    _with_users(lambda users: users.create(email, password, Role(role)))
    click.echo(f"{email} can now sign in as {role}.")


@main.command()
@email_argument
@password_stdin_option
def set_password(email: str, password_stdin: bool) -> None:
    """Set the password of the user EMAIL. Their sessions end within a second."""
    password = _read_password(from_stdin=password_stdin)
    _with_users(lambda users: users.set_password(email, password))
    click.echo(f"{email} has a new password.")


@main.command()
@email_argument
def disable_user(email: str) -> None:
    """Disable the user EMAIL. Their sessions end within a second."""
    _with_users(lambda users: users.disable(email))
    click.echo(f"{email} is disabled.")
    _warn_without_admin()


@main.command()
@email_argument
def enable_user(email: str) -> None:
    """Enable the user EMAIL again."""
    _with_users(lambda users: users.enable(email))
    click.echo(f"{email} can sign in again.")


@main.command()
@email_argument
@click.option("--role", type=click.Choice([role.value for role in Role]), required=True)
def set_role(email: str, role: str) -> None:
    """Set the role of the user EMAIL. Their sessions end within a second."""
    _with_users(lambda users: users.set_role(email, Role(role)))
    click.echo(f"{email} now has the role {role}.")
    _warn_without_admin()


@main.command()
def end_sessions() -> None:
    """End the sessions of all users. They end within a second; needed after a restore or a leak."""
    click.echo(f"Sessions ended: {_with_users(lambda users: users.end_all_sessions())}")


@main.group()
def api_keys() -> None:
    """Create, list and revoke the API keys of programs."""


def _key_name(_context: click.Context, _parameter: click.Parameter, value: str) -> str:
    try:
        return TypeAdapter(KeyName).validate_python(value)
    except ValidationError:
        raise click.BadParameter(f"must have 1 to {MAX_NAME_LENGTH} characters") from None


def _instant(_context: click.Context, _parameter: click.Parameter, value: str | None) -> datetime | None:
    try:
        return TypeAdapter(Instant).validate_python(value) if value else None
    except ValidationError:
        raise click.BadParameter("is not a time such as 2027-03-14T00:00:00Z") from None


@api_keys.command("create")
@click.argument("name", callback=_key_name)
@click.option("--role", type=click.Choice([role.value for role in Role]), required=True)
@click.option("--expires-at", callback=_instant, metavar="TIME", help="such as 2027-03-14T00:00:00Z; default: never")
def create_api_key(name: str, role: str, expires_at: datetime | None) -> None:
    """Create a key for the program NAME, and print it: it is shown only now."""
    created = _with_api_keys(lambda service: service.create(name, Role(role), expires_at, actor=SERVICE))
    click.echo(f"API key {created.api_key.api_key_id} ({created.api_key.prefix}…) is valid now.", err=True)
    click.echo(created.key)


@api_keys.command("list")
def list_api_keys() -> None:
    """List the keys, newest first, with their ID, prefix, role, state, last use and name."""
    for key in _with_api_keys(_all_keys):
        used = f"used {key.last_used_at:%Y-%m-%d %H:%M} UTC" if key.last_used_at else "never used"
        click.echo(f"{key.api_key_id}  {key.prefix}…  {key.role:7}  {key.state:7}  {used:25}  {key.name}")


async def _all_keys(service: ApiKeyService) -> list[ApiKey]:
    page = await service.page(Page(MAX_LIMIT))
    found = page.api_keys
    while page.next is not None:
        page = await service.page(Page(MAX_LIMIT, after=page.next))
        found += page.api_keys
    return found


@api_keys.command("revoke")
@click.argument("api_key_id", type=click.UUID)
def revoke_api_key(api_key_id: UUID) -> None:
    """Revoke the key with the ID API_KEY_ID. It stops working within a second."""
    _with_api_keys(lambda service: service.revoke(api_key_id, actor=SERVICE))
    click.echo(f"API key {api_key_id} is revoked.")


@main.command()
@email_argument
def export_data(email: str) -> None:
    """Print the data held about EMAIL as JSON."""
    held = _with_database(lambda database: export_person(database, email))
    click.echo(json.dumps(held, indent=2, ensure_ascii=False))


@main.command()
@email_argument
@click.confirmation_option(
    prompt="A pending candidate is rejected, and a user is disabled. This cannot be undone. Erase?"
)
def erase_data(email: str) -> None:
    """Erase the data held about EMAIL.

    A pending candidate is rejected; a user is signed out and disabled. Earlier decisions stay.
    """
    for sentence in _with_database(lambda database: erase_person(database, email)):
        click.echo(sentence)


@main.command()
@click.option("--count", required=True, type=click.IntRange(1, 10_000_000), help="number of companies to add")
@click.option("--seed", type=int, help="the same seed adds the same companies to an empty database")
def demo_data(count: int, seed: int | None) -> None:
    """Add realistic companies. They go into the database at DATABASE_URL, or that of a `run` in progress."""
    # Production never loads `local` or Faker: the commands that need them import them themselves.
    try:
        from provider_registration.local.demo_data import load_demo_data  # noqa: PLC0415 - see above
    except ModuleNotFoundError as error:
        raise click.ClickException(f"{error.name} is not installed; install provider-registration[local].") from None
    from provider_registration.local.errors import LocalError  # noqa: PLC0415 - see above
    from provider_registration.local.settings import LocalSettings, local_database_url  # noqa: PLC0415 - see above

    try:
        url = load_settings(LocalSettings).database_url or local_database_url()
    except SettingsError as error:
        raise click.ClickException(str(error)) from None
    if not url:
        raise click.ClickException("Set DATABASE_URL, or start `provider-registration run` in this folder.")
    with click.progressbar(length=count, file=sys.stderr) as bar:
        try:
            asyncio.run(load_demo_data(url, count, seed=seed, progress=bar.update))
        except LocalError as error:
            raise click.ClickException(str(error)) from None
        except KeyboardInterrupt:
            raise click.ClickException(f"Interrupted. Companies added: {bar.pos}") from None
    click.echo(f"Companies added: {count}")


@main.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="IP address to listen on")
@click.option("--port", default=5005, show_default=True, type=click.IntRange(0, 65535), help="port; 0 for a free one")
@click.option(
    "--state-file",
    default=".local/billing-sandbox.sqlite3",
    show_default=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="file for the providers; created if missing",
)
@click.option("--ignore-idempotency-key", is_flag=True, help="ignore idempotency keys, as billing does today")
def billing_sandbox(host: str, port: int, state_file: Path, ignore_idempotency_key: bool) -> None:
    """Run a simulated billing service. Its failures can be configured."""
    # Production never loads `local`: the commands that need it import it themselves.
    from provider_registration.local.background_server import serve_in_foreground  # noqa: PLC0415 - see above
    from provider_registration.local.errors import LocalError  # noqa: PLC0415 - see above
    from provider_registration.local.sandbox import create_sandbox  # noqa: PLC0415 - see above
    from provider_registration.local.sandbox_store import ProviderStore  # noqa: PLC0415 - see above

    app = create_sandbox(state_file, honour_idempotency_key=not ignore_idempotency_key)
    try:
        ProviderStore.open(state_file).close()  # a message now instead of a traceback at startup
        serve_in_foreground(app, host, port, lambda url: click.echo(f"Billing sandbox on {url} (Ctrl-C stops it)"))
    except LocalError as error:
        raise click.ClickException(str(error)) from None
    except OSError as error:
        raise click.ClickException(f"Cannot listen on {host} port {port}: {error.strerror}.") from None


def _warn_without_admin() -> None:
    if not _with_users(lambda users: users.has_admin()):
        click.echo("No admin is left; run `provider-registration set-role EMAIL --role admin`.", err=True)


def _with_users(work: Callable[[UserDirectory], Awaitable[_Result]]) -> _Result:
    """Run `work` with the user directory; turn expected errors into messages."""
    return _report_errors(lambda: _call_with_users(_database_url(), work))


def _with_api_keys(work: Callable[[ApiKeyService], Awaitable[_Result]]) -> _Result:
    """Run `work` with the service of API keys; turn expected errors into messages."""
    return _with_database(lambda database: work(ApiKeyService(database)))


def _with_database(work: Callable[[Database], Awaitable[_Result]]) -> _Result:
    """Run `work` with the database; turn expected errors into messages."""
    return _report_errors(lambda: _call_with_database(_database_url(), work))


def _report_errors(work: Callable[[], Coroutine[None, None, _Result]]) -> _Result:
    try:
        return asyncio.run(work())
    except DatabaseUnavailable as error:
        raise click.ClickException(f"Cannot connect to the database: {reason_of(error.__cause__)}") from None
    except (PersonalDataError, ServiceError, UnacceptablePassword) as error:
        raise click.ClickException(str(error)) from None
    except ProgrammingError as error:
        if _sqlstate(error) == UNDEFINED_TABLE:
            raise click.ClickException("The database has no tables yet; run `provider-registration migrate`.") from None
        if _sqlstate(error) == UNDEFINED_COLUMN:
            raise click.ClickException("The schema is out of date; run `provider-registration migrate`.") from None
        if _sqlstate(error) == INSUFFICIENT_PRIVILEGE:
            raise NotTheOwner from None
        raise


def _sqlstate(error: ProgrammingError) -> str | None:
    return getattr(error.orig, "sqlstate", None)


async def _call_with_users(url: str, work: Callable[[UserDirectory], Awaitable[_Result]]) -> _Result:
    hasher = PasswordHasher()
    try:
        return await _call_with_database(url, lambda database: work(UserDirectory(database, hasher)))
    finally:
        hasher.close()


async def _call_with_database(url: str, work: Callable[[Database], Awaitable[_Result]]) -> _Result:
    database = Database(url, pool_size=1)
    try:
        return await work(database)
    finally:
        await database.close()


def _database_url() -> str:
    """DATABASE_URL or, if it is not set, the database of a `run` in this folder."""
    try:
        return _find_database_url()
    except SettingsError as error:
        raise click.ClickException(str(error)) from None


def _find_database_url() -> str:
    try:
        settings = load_settings(DatabaseSettings)
    except SettingsError as error:
        # An invalid DATABASE_URL must not fall back to another database.
        if "database_url" not in error.missing:
            raise
        from provider_registration.local.settings import local_database_url  # noqa: PLC0415 - not needed in production

        if url := local_database_url():
            return url
        raise
    for sentence in find_unparsable():
        click.echo(f"Warning: {sentence}", err=True)
    return settings.database_url
