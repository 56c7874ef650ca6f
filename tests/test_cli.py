"""The command line; every expected error is one message."""

from __future__ import annotations

import asyncio
import io
import json
import os
import signal
import socket
import sys
from urllib.parse import urlsplit
from uuid import uuid4

import asyncpg
import click
import httpx
import pytest
from click.testing import CliRunner
from passlib.hash import argon2

from provider_registration import __version__, app
from provider_registration.auth.keys import is_api_key
from provider_registration.cli import main
from provider_registration.db import migrations
from provider_registration.settings import Settings

PASSWORD = "correct horse battery staple"


@pytest.fixture(autouse=True)
def _elsewhere(monkeypatch, tmp_path):
    """Runs in a folder without `.env`, with an empty environment."""
    monkeypatch.chdir(tmp_path)
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def call():
    """Calls the command line with arguments; the result has its output and exit code."""

    async def call(*arguments, stdin=None, **environment):
        invoke = CliRunner().invoke
        return await asyncio.to_thread(invoke, main, arguments, input=stdin, env=environment, catch_exceptions=False)

    return call


@pytest.fixture
def call_here(call, migrated_database_url):
    """Calls it with a migrated database."""

    async def call_here(*arguments, stdin=None):
        return await call(*arguments, stdin=stdin, DATABASE_URL=migrated_database_url)

    return call_here


@pytest.fixture
async def find_user(migrated_database_url):
    """Reads a row of users."""
    connection = await asyncpg.connect(migrated_database_url)

    async def find_user(email):
        return await connection.fetchrow("SELECT * FROM users WHERE email = $1", email)

    yield find_user
    await connection.close()


@pytest.fixture
def email():
    """An e-mail address that no other test uses."""
    return f"{uuid4().hex}@example.com"


@pytest.fixture
def dead_url():
    """The URL of a database at an unused port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"postgresql://user:hunter2@127.0.0.1:{listener.getsockname()[1]}/name"


def sentence(result):
    """The message of a refused command."""
    assert result.exit_code == 1, result.output
    assert result.stdout == ""
    assert result.stderr.startswith("Error: ")
    return result.stderr.removeprefix("Error: ").rstrip("\n")


async def test_help_names_every_command(call):
    result = await call("--help")

    assert result.exit_code == 0
    for command in ("run", "serve", "migrate", "create-user", "set-password", "disable-user", "billing-sandbox"):
        assert f"\n  {command} " in result.output


@pytest.mark.parametrize("command", main.commands)
async def test_every_command_explains_itself(call, command):
    result = await call(command, "-h")

    assert result.exit_code == 0
    assert len(result.output.splitlines()) > 4


async def test_the_version_is_the_packages(call):
    assert __version__ in (await call("--version")).output


async def test_serve_refuses_to_start_without_its_settings(call):
    said = sentence(await call("serve"))

    first, *problems = said.splitlines()
    assert first == "The service does not start:"
    assert [problem.split()[0] for problem in problems] == ["DATABASE_URL", "JWT_SECRET_KEY", "BILLING_SERVICE_URL"]


async def test_serve_refuses_an_unsafe_key_without_showing_it(call, migrated_database_url):
    environment = {"DATABASE_URL": migrated_database_url, "BILLING_SERVICE_URL": "http://127.0.0.1:1"}

    said = sentence(await call("serve", JWT_SECRET_KEY="your-secret-key-change-in-production", **environment))

    assert "JWT_SECRET_KEY looks like a placeholder" in said
    assert "in-production" not in said


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_serve_names_a_translation_that_it_cannot_use(call, monkeypatch, tmp_path, workers):
    (tmp_path / "xx.po").touch()
    monkeypatch.setattr(app, "TRANSLATIONS", tmp_path)
    environment = {"DATABASE_URL": "postgresql://127.0.0.1:1/name", "BILLING_SERVICE_URL": "http://127.0.0.1:1"}

    said = sentence(
        await call("serve", "--workers", workers, **environment, JWT_SECRET_KEY=uuid4().hex, PUBLIC_PAGES="true")
    )

    assert said == f"The translation {tmp_path / 'xx.po'} cannot be used: unknown locale 'xx'."


@pytest.fixture
def serving(migrated_database_url, fork_server, tmp_path):
    """A `serve` in its own process; yields its base URL and the process."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    environment = os.environ | {
        "DATABASE_URL": migrated_database_url,
        "JWT_SECRET_KEY": uuid4().hex,
        "BILLING_SERVICE_URL": "http://127.0.0.1:1",
        "APP_PORT": str(port),
    }
    process = fork_server.start(["serve"], environment, tmp_path)
    yield f"http://127.0.0.1:{port}", process
    process.kill()


async def answer(url):
    """The first response at a URL."""
    async with asyncio.timeout(60), httpx.AsyncClient() as client:
        while True:
            try:
                return await client.get(url, headers={"X-Request-ID": "find-me"})
            except httpx.TransportError:
                await asyncio.sleep(0.05)


@pytest.mark.asvs("V16.2.1")
async def test_serve_answers_logs_json_and_ends_when_told(serving):
    url, process = serving

    response = await answer(f"{url}/health")
    process.send_signal(signal.SIGTERM)
    _, log = await asyncio.to_thread(process.communicate, timeout=20)

    assert response.status_code == 200
    assert "server" not in response.headers
    assert process.returncode in (0, -signal.SIGTERM)
    lines = [json.loads(line) for line in log.splitlines()]
    [line] = [line for line in lines if line.get("request_id") == "find-me"]
    assert line.items() >= {"level": "INFO", "message": "request", "endpoint": "/health", "status": 200}.items()


async def test_migrate_brings_an_empty_database_up_to_date(call, empty_database_url):
    first = await call("migrate", DATABASE_URL=empty_database_url)
    again = await call("migrate", DATABASE_URL=empty_database_url)

    assert first.output == again.output == f"The schema is at {migrations.head()}.\n"
    assert migrations.current(empty_database_url) == migrations.head()


async def test_migrate_can_stop_at_a_revision(call, empty_database_url):
    result = await call("migrate", "--revision", "005_users", DATABASE_URL=empty_database_url)

    assert result.output == "The schema is at 005_users.\n"


async def test_migrate_to_an_unknown_revision_is_refused(call, empty_database_url):
    said = sentence(await call("migrate", "--revision", "999_nowhere", DATABASE_URL=empty_database_url))

    assert "999_nowhere" in said


@pytest.mark.parametrize("role", ["", "x" * 64, "é" * 32, "x" * 5000, "\udcff", "a\nb"])
async def test_migrate_changes_nothing_for_what_no_role_can_be_called(call, empty_database_url, role):
    said = sentence(await call("migrate", "--grant-to", role, DATABASE_URL=empty_database_url))

    assert said == "--grant-to must be the name of a role: 1 to 63 bytes of UTF-8 text."
    assert migrations.current(empty_database_url) is None


async def test_migrate_takes_the_longest_name_that_a_role_can_have(call_here):
    result = await call_here("migrate", "--grant-to", "é" * 31 + "x")

    assert result.stderr.startswith("Error: There is no role é")


async def test_the_database_url_may_be_in_a_file(call, empty_database_url, tmp_path):
    (tmp_path / "url").write_text(f"{empty_database_url}\n")

    result = await call("migrate", "--revision", "005_users", DATABASE_URL_FILE="url")

    assert result.output == "The schema is at 005_users.\n"


async def test_a_file_that_is_not_there_is_a_sentence_even_where_a_local_database_runs(call, tmp_path):
    (tmp_path / ".local").mkdir()
    (tmp_path / ".local" / "database-url").write_text("postgresql://user@127.0.0.1:1/local")

    said = sentence(await call("migrate", DATABASE_URL_FILE="/nowhere/url"))

    assert said.startswith("DATABASE_URL_FILE points to /nowhere/url, which cannot be read")


COMMANDS = [
    ("migrate",),
    ("create-user", "a@example.com", "--password-stdin"),
    ("set-password", "a@example.com", "--password-stdin"),
    ("disable-user", "a@example.com"),
]


@pytest.mark.parametrize("command", ["migrate", "recount"])
async def test_a_command_with_a_database_url_loads_nothing_local(migrated_database_url, command):
    program = (
        "import sys; from provider_registration.cli import main; main(standalone_mode=False)\n"
        "sys.exit(any(name.startswith('provider_registration.local') for name in sys.modules))"
    )
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", program, command), env={**os.environ, "DATABASE_URL": migrated_database_url}
    )

    assert await process.wait() == 0


@pytest.mark.parametrize("arguments", COMMANDS)
async def test_without_a_database_url_a_command_says_so(call, arguments):
    said = sentence(await call(*arguments, stdin=PASSWORD))

    assert said.startswith("DATABASE_URL is not set")


@pytest.mark.parametrize("arguments", COMMANDS)
async def test_a_database_url_with_a_mistake_is_refused_even_where_a_local_database_runs(call, arguments, tmp_path):
    (tmp_path / ".local").mkdir()
    (tmp_path / ".local" / "database-url").write_text("postgresql://user@127.0.0.1:1/local")

    said = sentence(await call(*arguments, stdin=PASSWORD, DATABASE_URL="mysql://user:hunter2@host/name"))

    assert said == "DATABASE_URL must start with postgresql://"


@pytest.mark.parametrize("arguments", COMMANDS)
async def test_a_database_that_does_not_answer_is_a_sentence(call, arguments, dead_url):
    said = sentence(await call(*arguments, stdin=PASSWORD, DATABASE_URL=dead_url))

    assert "\n" not in said
    assert "hunter2" not in said


async def test_why_the_database_refuses_is_said(call, migrated_database_url):
    elsewhere = urlsplit(migrated_database_url)._replace(path="/nothing_here").geturl()

    said = sentence(await call("recount", DATABASE_URL=elsewhere))

    assert said.startswith("Cannot connect to the database: ")
    assert 'database "nothing_here" does not exist' in said


async def test_an_older_schema_is_a_sentence(call, own_database_url):
    await asyncio.to_thread(migrations.downgrade, own_database_url, "014_search_indexes")

    said = sentence(await call("export-data", "anna@supply.example", DATABASE_URL=own_database_url))

    assert said == "The schema is out of date; run `provider-registration migrate`."


@pytest.mark.parametrize("arguments", COMMANDS[1:])
async def test_a_database_without_tables_is_a_sentence(call, arguments, empty_database_url):
    said = sentence(await call(*arguments, stdin=PASSWORD, DATABASE_URL=empty_database_url))

    assert said == "The database has no tables yet; run `provider-registration migrate`."


@pytest.mark.parametrize(
    ("options", "role"), [([], "viewer"), (["--role", "viewer"], "viewer"), (["--role", "admin"], "admin")]
)
async def test_create_user_adds_a_user_of_the_role(call_here, find_user, email, options, role):
    result = await call_here("create-user", email, "--password-stdin", *options, stdin=f"{PASSWORD}\nignored\n")

    assert (result.exit_code, result.output) == (0, f"{email} can now sign in as {role}.\n")
    user = await find_user(email)
    assert (user["role"], user["disabled_at"]) == (role, None)
    assert argon2.verify(PASSWORD, user["password_hash"])


async def test_create_user_asks_for_the_password_twice_and_does_not_show_it(call_here, find_user, email):
    result = await call_here("create-user", email, stdin=f"{PASSWORD}\nanother one\n{PASSWORD}\n{PASSWORD}\n")

    assert result.exit_code == 0
    assert "do not match" in result.output
    assert PASSWORD not in result.output
    assert argon2.verify(PASSWORD, (await find_user(email))["password_hash"])


@pytest.mark.parametrize("write", [str, str.upper, " {} ".format])
async def test_create_user_refuses_an_address_that_is_taken(call_here, email, write):
    await call_here("create-user", email, "--password-stdin", stdin=PASSWORD)

    said = sentence(await call_here("create-user", write(email), "--password-stdin", stdin=PASSWORD))

    assert said == "A user with this e-mail address already exists."


@pytest.mark.parametrize("command", ["create-user", "set-password"])
@pytest.mark.parametrize("password", ["", "\n", "short", "x" * 129])
async def test_an_unacceptable_password_is_refused(call_here, find_user, email, command, password):
    said = sentence(await call_here(command, email, "--password-stdin", stdin=password))

    assert said == "A password must have 8 to 128 characters."
    assert await find_user(email) is None


@pytest.mark.parametrize("command", ["create-user", "set-password"])
@pytest.mark.parametrize("errors", ["strict", "surrogateescape"])
def test_a_password_that_is_not_utf_8_is_refused(monkeypatch, command, errors):
    typed = io.TextIOWrapper(io.BytesIO(b"long enough \xff\n"), "utf-8", errors)  # the second in the C locale
    monkeypatch.setattr(sys, "stdin", typed)

    with pytest.raises(click.ClickException, match="The password is not valid UTF-8"):
        main([command, "a@example.com", "--password-stdin"], standalone_mode=False)


@pytest.mark.parametrize("command", ["create-user", "set-password", "disable-user"])
@pytest.mark.parametrize("address", ["admin", "a@", "a b@example.com", "", "a@example.com\n\nb"])
async def test_what_is_no_address_is_refused(call_here, command, address):
    result = await call_here(command, address)

    assert result.exit_code == 2
    assert "is not an e-mail address" in result.stderr


async def test_an_unknown_role_is_refused(call_here, email):
    result = await call_here("create-user", email, "--role", "owner", "--password-stdin", stdin=PASSWORD)

    assert result.exit_code == 2
    assert "'owner' is not one of" in result.stderr


async def test_set_password_changes_the_password_and_nothing_else(call_here, find_user, email):
    await call_here("create-user", email, "--role", "admin", "--password-stdin", stdin=PASSWORD)
    await call_here("disable-user", email)
    before = await find_user(email)

    result = await call_here("set-password", email.upper(), "--password-stdin", stdin="another good password")

    assert (result.exit_code, result.output) == (
        0,
        f"{email.upper().replace('EXAMPLE.COM', 'example.com')} has a new password.\n",
    )
    after = await find_user(email)
    assert argon2.verify("another good password", after["password_hash"])
    assert (after["role"], after["disabled_at"]) == (before["role"], before["disabled_at"])


async def test_disable_user_takes_access_away_once(call_here, find_user, email):
    await call_here("create-user", email, "--password-stdin", stdin=PASSWORD)

    first = await call_here("disable-user", email)
    disabled_at = (await find_user(email))["disabled_at"]
    await call_here("disable-user", email)

    assert (first.exit_code, first.stdout) == (0, f"{email} is disabled.\n")
    assert disabled_at is not None
    assert (await find_user(email))["disabled_at"] == disabled_at


@pytest.mark.parametrize("command", [("set-role", "--role", "viewer"), ("disable-user",)])
async def test_that_nobody_is_an_admin_any_more_is_said(call, own_database_url, command):
    for name in ("lena", "max"):
        arguments = (f"{name}@example.com", "--role", "admin", "--password-stdin")
        await call("create-user", *arguments, stdin=PASSWORD, DATABASE_URL=own_database_url)

    said = [
        (await call(command[0], f"{name}@example.com", *command[1:], DATABASE_URL=own_database_url)).stderr
        for name in ("lena", "max")
    ]

    assert said[0] == ""
    assert "set-role" in said[1]


@pytest.mark.asvs("V7.4.5")
async def test_ending_sessions_ends_everybodys(call, own_database_url):
    connection = await asyncpg.connect(own_database_url)
    await connection.execute("""
        WITH staff AS (
            INSERT INTO users (email, password_hash, role)
            VALUES ('a@example.com', '', 'admin'), ('b@example.com', '', 'viewer') RETURNING id
        )
        INSERT INTO sessions (user_id, created_at, expires_at)
        SELECT id, began, began + interval '1 day' FROM staff, unnest(ARRAY[now(), now() - interval '2 days']) AS began
    """)

    first = await call("end-sessions", DATABASE_URL=own_database_url)
    second = await call("end-sessions", DATABASE_URL=own_database_url)

    assert (first.stdout, second.stdout) == ("Sessions ended: 2\n", "Sessions ended: 0\n")
    assert await connection.fetchval("SELECT count(*) FROM sessions WHERE revoked_at IS NULL") == 0
    await connection.close()


async def test_api_keys_are_created_listed_and_revoked(call, own_database_url):
    created = await call(
        *("api-keys", "create", "ERP import", "--role", "auditor", "--expires-at", "2999-01-01T00:00:00Z"),
        DATABASE_URL=own_database_url,
    )
    key = created.stdout.rstrip("\n")
    assert is_api_key(key), created.output
    connection = await asyncpg.connect(own_database_url)
    row = await connection.fetchrow("SELECT * FROM api_keys")
    assert (row["name"], row["role"], row["created_by"]) == ("ERP import", "auditor", None)
    assert row["expires_at"].year == 2999

    listed = await call("api-keys", "list", DATABASE_URL=own_database_url)
    revoked = await call("api-keys", "revoke", str(row["id"]), DATABASE_URL=own_database_url)

    [line] = listed.stdout.splitlines()
    for word in (str(row["id"]), key[:12], "auditor", "active", "never used", "ERP import"):
        assert word in line
    assert revoked.exit_code == 0
    assert " revoked " in (await call("api-keys", "list", DATABASE_URL=own_database_url)).stdout
    acts = await connection.fetch("SELECT type, actor_kind, subject_id FROM audit_events ORDER BY id")
    assert [tuple(act) for act in acts] == [
        ("api_key.created", "service", row["id"]),
        ("api_key.revoked", "service", row["id"]),
    ]
    await connection.close()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("create", " ", "--role", "admin"), "1 to 100 characters"),
        (("create", "ERP", "--role", "owner"), "owner"),
        (("create", "ERP"), "--role"),
        (("create", "ERP", "--role", "viewer", "--expires-at", "tomorrow"), "2027-03-14T00:00:00Z"),
        (("create", "ERP", "--role", "viewer", "--expires-at", "2020-01-01T00:00:00Z"), "in the future"),
        (("revoke", "c1a5e0d2-7b34-4f3a-8a6e-2f5f2d7c11aa"), "no API key"),
        (("revoke", "1"), "UUID"),
    ],
)
async def test_an_api_key_that_cannot_be_is_a_sentence(call_here, arguments, said):
    result = await call_here("api-keys", *arguments)

    assert result.exit_code != 0
    assert said in result.stderr
    assert not result.stdout


@pytest.mark.parametrize("arguments", [("set-password", "--password-stdin"), ("disable-user",)])
async def test_an_unknown_user_is_a_sentence(call_here, email, arguments):
    command, *options = arguments

    said = sentence(await call_here(command, email, *options, stdin=PASSWORD))

    assert said == "No user has this e-mail address."


async def test_recount_mends_the_counts_and_says_what_was_wrong(call, own_database_url):
    connection = await asyncpg.connect(own_database_url)
    await connection.execute(
        "INSERT INTO candidate_counts VALUES ('', 'pending', 3, 2, 5), ('grapes', 'rejected', 3, -1, 0)"
    )

    first = await call("recount", DATABASE_URL=own_database_url)
    second = await call("recount", DATABASE_URL=own_database_url)
    await connection.close()

    assert first.output.splitlines() == [
        "pending, all products: -2 candidates, -5 tonnes per day",
        "rejected, grapes: +1 candidates, +0 tonnes per day",
        "The counts were corrected.",
    ]
    assert (second.exit_code, second.output) == (0, "The counts are correct.\n")
