"""`check` and the startup warnings report all problems, and only problems."""

from __future__ import annotations

import asyncio
import logging
import re
import socket
import threading
from urllib.parse import urlsplit
from uuid import uuid4

import asyncpg
import pytest
from click.testing import CliRunner

from provider_registration import cli, preflight, serving
from provider_registration.db import migrations
from provider_registration.db.database import Database
from provider_registration.db.grants import grant_service
from provider_registration.environment import load_settings
from provider_registration.settings import DatabaseSettings, Settings
from tests.nats_server import Nats

from .conftest import create_database, drop_database
from .mail_server import mailbox


@pytest.fixture(autouse=True)
def _environment(monkeypatch, tmp_path):
    """All required settings except the database, and no others."""
    monkeypatch.chdir(tmp_path)
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("JWT_SECRET_KEY", uuid4().hex)
    monkeypatch.setenv("BILLING_SERVICE_URL", "http://127.0.0.1:1")


async def run_check(url, *options, **environment):
    """Runs `check`; returns its exit code, and level and message by subject."""
    environment = {"DATABASE_URL": url, **environment}
    finished = await asyncio.to_thread(CliRunner().invoke, cli.main, ["check", *options], env=environment)
    found = {}
    for line in finished.stdout.splitlines():
        level, _, rest = line.partition(" ")
        subject, _, sentence = rest.strip().partition(": ")
        found.setdefault(subject, []).append((level, sentence))
    return finished.exit_code, found


@pytest.fixture
async def owner(own_database_url):
    """A connection of the owner of a database at head."""
    connection = await asyncpg.connect(own_database_url)
    yield connection
    await connection.close()


async def grant(database_url, role):
    database = Database(DatabaseSettings(_env_file=None, database_url=database_url).database_url, pool_size=1)
    await grant_service(database, role)
    await database.close()


@pytest.fixture
async def role(owner, own_database_url):
    """The name of a role with the privileges of the service."""
    name = f"serving_{uuid4().hex}"
    await owner.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'secret'")
    await grant(own_database_url, name)
    yield name
    await owner.execute(f"DROP OWNED BY {name}")
    await owner.execute(f"DROP ROLE {name}")


@pytest.fixture
def url(role, own_database_url):
    """The DATABASE_URL of the service."""
    parts = urlsplit(own_database_url)
    return parts._replace(netloc=f"{role}:secret@{parts.hostname}:{parts.port}").geturl()


async def test_a_database_made_as_documented_is_fine(url, role):
    code, found = await run_check(url)

    assert code == 0
    assert {level for findings in found.values() for level, _ in findings} == {"ok"}
    assert set(found) == {"settings", "database", "server", "encoding", "LC_CTYPE", "schema", "role"}
    assert role in found["database"][0][1]


async def test_each_setting_that_is_wrong_is_said_and_the_database_is_looked_at_all_the_same(url):
    code, found = await run_check(url, JWT_SECRET_KEY="short", APP_PORT="70000", METRICS_ACCES="off")

    said = sorted((level, sentence.split()[0]) for level, sentence in found["settings"])
    assert said == [("error", "APP_PORT"), ("error", "JWT_SECRET_KEY"), ("warning", "METRICS_ACCES")]
    assert code == 1
    assert found["schema"][0][0] == "ok"


async def test_without_a_database_url_the_rest_is_said(monkeypatch):
    code, found = await run_check(None)

    assert (code, set(found)) == (1, {"settings"})


async def test_a_file_of_settings_that_is_no_text_is_said(url, tmp_path):
    (tmp_path / ".env").write_bytes("LOG_LEVEL=INFO\n".encode("utf-16"))

    code, found = await run_check(url)

    assert (code, [level for level, _ in found["settings"]]) == (1, ["error"])


async def test_a_line_of_the_file_that_cannot_be_parsed_is_named_without_its_content(url, tmp_path):
    (tmp_path / ".env").write_text("LOG_LEVEL=INFO\n# a comment\nMETRICS_TOKEN: hunter2\n")

    code, found = await run_check(url)
    refused, problems = await run_check(url, JWT_SECRET_KEY="short")

    [sentence] = [sentence for level, sentence in found["settings"] if level == "warning" and ".env" in sentence]
    assert code == 0
    assert f"{tmp_path / '.env'}, line 3," in sentence
    assert "hunter2" not in str(found) + str(problems)
    assert refused == 1
    assert ("error", sentence) in problems["settings"]


async def test_a_billing_url_that_ends_in_what_is_appended_is_a_warning(url):
    code, found = await run_check(url, BILLING_SERVICE_URL="http://127.0.0.1:5005/provider")

    [(level, sentence)] = found["billing"]
    assert (code, level) == (0, "warning")
    assert "BILLING_SERVICE_URL" in sentence


async def test_a_misspelt_setting_and_gateways_without_limit_are_warnings(url):
    code, found = await run_check(url, DATABASE_POOLSIZE="hunter2", FORWARDED_ALLOW_IPS="*")

    warnings = [sentence for level, sentence in found["settings"] if level == "warning"]
    assert code == 0
    assert [("DATABASE_POOL_SIZE" in each, "hunter2" in each) for each in warnings] == [(True, False), (False, False)]
    assert "FORWARDED_ALLOW_IPS" in warnings[1]


@pytest.mark.parametrize(
    ("public_url", "public_pages", "warned"),
    [
        ("", "true", True),
        ("", "false", False),
        ("https://supply.example", "true", False),
        ("http://supply.example", "false", True),
        ("http://localhost:5004", "true", False),
    ],
)
async def test_links_that_would_be_wrong_behind_tls_are_a_warning(url, public_url, public_pages, warned):
    code, found = await run_check(url, PUBLIC_URL=public_url, ADMIN_PAGES="true", PUBLIC_PAGES=public_pages)

    warnings = [sentence for level, sentence in found["settings"] if level == "warning"]
    assert code == 0
    assert ["PUBLIC_URL" in each for each in warnings] == [True] * warned


async def test_a_mail_server_that_responds_is_fine_and_without_public_url_mails_have_no_links(url):
    async with mailbox() as box:
        code, found = await run_check(url, SMTP_URL=box.url(), MAIL_FROM="supply@example.com")

    assert (code, found["mail"]) == (0, [("ok", "the mail server responds")])
    [warning] = [sentence for level, sentence in found["settings"] if level == "warning"]
    assert "PUBLIC_URL" in warning


async def test_a_mail_server_that_does_not_respond_is_a_warning_without_its_password(url):
    server = "smtp://user:hunter2@127.0.0.1:1?starttls=off"
    code, found = await run_check(url, SMTP_URL=server, MAIL_FROM="supply@example.com", PUBLIC_URL="https://a.example")

    [(level, sentence)] = found["mail"]
    assert (code, level) == (0, "warning")
    assert "ConnectionRefusedError" in sentence
    assert "hunter2" not in sentence


@pytest.mark.parametrize("user", ["user", "user?sslmode=require"])
async def test_a_database_that_cannot_be_reached_is_an_error_without_its_password(user):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

    code, found = await run_check(f"postgresql://user:hunter2@127.0.0.1:{port}/name")

    [(level, sentence)] = found["database"]
    assert (code, level) == (1, "error")
    assert "hunter2" not in sentence


async def test_an_older_schema_is_an_error_that_names_both_revisions(url, own_database_url):
    await asyncio.to_thread(migrations.downgrade, own_database_url, "014_search_indexes")

    code, found = await run_check(url)

    [(level, sentence)] = found["schema"]
    assert (code, level) == (1, "error")
    assert "014_search_indexes" in sentence
    assert migrations.head() in sentence


async def test_waiting_ends_when_the_migration_has(url, role, owner, own_database_url, monkeypatch):
    monkeypatch.setattr(cli, "CHECK_AGAIN_SECONDS", 0.05)
    await asyncio.to_thread(migrations.downgrade, own_database_url, "014_search_indexes")
    waiting = asyncio.create_task(run_check(url, "--wait", "60"))
    while not await owner.fetchval("SELECT count(*) FROM pg_stat_activity WHERE usename LIKE 'serving_%'"):
        await asyncio.sleep(0.01)

    await asyncio.to_thread(migrations.upgrade, own_database_url)
    await grant(own_database_url, role)

    code, found = await waiting
    assert code == 0
    assert [level for level, _ in found["schema"]][-1] == "ok"  # after an error for each revision
    assert len(found["database"]) == 1


async def test_waiting_ends_with_its_time(url, own_database_url, monkeypatch):
    monkeypatch.setattr(cli, "CHECK_AGAIN_SECONDS", 0.05)
    await asyncio.to_thread(migrations.downgrade, own_database_url, "base")

    code, found = await run_check(url, "--wait", "1")

    assert (code, [level for level, _ in found["schema"]]) == (1, ["error"])
    assert "role" not in found


async def test_privileges_that_are_missing_are_an_error_and_those_beyond_a_warning(url, role, owner):
    await owner.execute(f"REVOKE UPDATE ON sessions FROM {role}")
    await owner.execute(f"REVOKE UPDATE (password_hash) ON users FROM {role}")
    await owner.execute(f"GRANT UPDATE (role) ON users TO {role}")
    await owner.execute(f"GRANT DELETE ON candidates TO {role}")

    code, found = await run_check(url)

    (error, missing), (warning, excess) = found["role"]
    assert (code, error, warning) == (1, "error", "warning")
    assert f"{role} lacks UPDATE (revoked_at) on sessions, UPDATE (password_hash) on users;" in missing
    assert "needs: DELETE on candidates, UPDATE (role) on users;" in excess


async def test_a_privilege_on_the_whole_table_has_that_on_its_column(url, role, owner):
    await owner.execute(f"GRANT UPDATE ON users TO {role}")

    code, found = await run_check(url)

    [(level, sentence)] = found["role"]
    assert (code, level) == (0, "warning")
    assert "UPDATE on users" in sentence


async def test_a_role_from_before_the_grant_on_the_revision_is_warned_of(url, role, owner):
    await owner.execute(f"REVOKE ALL ON alembic_version FROM {role}")

    code, found = await run_check(url)

    assert code == 0
    assert [level for level, _ in found["schema"] + found["role"]] == ["warning", "warning"]


async def test_serving_as_the_owner_is_a_warning(owner, own_database_url):
    code, found = await run_check(own_database_url)

    assert (code, [level for level, _ in found["role"]]) == (0, ["warning"])


KEEP = "INSERT INTO event_retention (minimum_days) VALUES (365)"


async def test_events_that_no_one_can_remove_are_a_warning_if_they_should_be(url, owner):
    assert "retention" not in (await run_check(url))[1]
    code, found = await run_check(url, RETENTION_EVENTS_DAYS="400")
    [(level, sentence)] = found["retention"]
    assert (code, level) == (0, "warning")
    assert "event_retention" in sentence

    await owner.execute(KEEP)
    assert (await run_check(url, RETENTION_EVENTS_DAYS="400"))[1]["retention"][0][0] == "ok"
    assert (await run_check(url, RETENTION_EVENTS_DAYS="365"))[1]["retention"][0][0] == "ok"
    [(level, sentence)] = (await run_check(url, RETENTION_EVENTS_DAYS="364"))[1]["retention"]
    assert level == "warning"
    assert {"365", "364"} <= set(re.findall(r"\d+", sentence))


@pytest.mark.parametrize(
    "statement",
    [
        "REVOKE EXECUTE ON FUNCTION prune_events(integer, integer) FROM PUBLIC",
        "REVOKE INSERT ON audit_events FROM {role}",
        "REVOKE SELECT ON event_retention FROM {role}",
        "ALTER FUNCTION prune_events(integer, integer) OWNER TO {role}",
    ],
)
async def test_a_role_or_an_owner_that_cannot_remove_events_is_a_warning(url, role, owner, statement):
    await owner.execute(KEEP)
    await owner.execute(statement.format(role=role))

    _, found = await run_check(url, RETENTION_EVENTS_DAYS="400")

    [(level, sentence)] = found["retention"]
    assert level == "warning"
    assert "prune_events" in sentence


async def test_a_database_that_takes_no_writes_is_an_error(url, role, owner):
    await owner.execute(f"ALTER ROLE {role} SET default_transaction_read_only = on")

    code, found = await run_check(url)

    assert (code, [level for level, _ in found["database"]]) == (1, ["ok", "error"])


@pytest.mark.parametrize(
    ("setting", "value", "behind_a_pooler"),
    [
        ("session_replication_role", "replica", False),
        ("session_replication_role", "replica", True),
        ("synchronous_commit", "off", True),
        ("default_transaction_isolation", "serializable", True),
    ],
)
async def test_sessions_in_which_the_service_would_do_harm_are_an_error(
    url, role, owner, setting, value, behind_a_pooler
):
    await owner.execute(f"ALTER ROLE {role} SET {setting} = '{value}'")

    code, found = await run_check(url, DATABASE_PREPARED_STATEMENTS=str(not behind_a_pooler))

    [(level, sentence)] = found["sessions"]
    assert (code, level) == (1, "error")
    assert setting in sentence


async def test_tables_that_the_search_path_does_not_lead_to_are_said(url, role, owner):
    await owner.execute(f"ALTER ROLE {role} SET search_path = elsewhere")

    code, found = await run_check(url)

    assert (code, [level for level, _ in found["search_path"]]) == (1, ["error"])
    assert "public" in found["search_path"][0][1]


async def test_what_the_service_sets_itself_is_no_error(url, role, owner):
    await owner.execute(f"ALTER ROLE {role} SET synchronous_commit = off")
    await owner.execute(f"ALTER ROLE {role} SET default_transaction_isolation = serializable")

    code, found = await run_check(url)

    assert (code, "sessions" in found) == (0, False)


async def test_a_server_that_is_too_old_is_an_error(url, monkeypatch):
    monkeypatch.setattr(preflight, "OLDEST_SERVER", 990000)

    code, found = await run_check(url)

    assert (code, [level for level, _ in found["server"]]) == (1, ["error"])


@pytest.fixture(params=["SQL_ASCII", "LATIN1"])
async def other_encoding(request, server_url):
    """The URL of a database that is not in UTF-8, and its encoding."""
    name = f"test_{uuid4().hex}"
    options = f"ENCODING '{request.param}' LOCALE 'C' LOCALE_PROVIDER libc"
    yield await create_database(server_url, name, "template0", options), request.param
    await drop_database(server_url, name)


async def test_an_encoding_other_than_utf_8_is_an_error_and_letters_of_ascii_alone_a_warning(other_encoding):
    url, encoding = other_encoding

    code, found = await run_check(url)

    assert code == 1
    assert [found[subject][0][0] for subject in ("encoding", "LC_CTYPE", "schema")] == ["error", "warning", "error"]
    assert encoding in found["encoding"][0][1]


async def test_no_other_encoding_is_migrated_or_served(other_encoding, monkeypatch):
    url, encoding = other_encoding
    monkeypatch.setattr(preflight, "START_DELAY", 30.0)
    monkeypatch.setattr(serving.uvicorn, "run", lambda *_, **__: pytest.fail("it serves"))
    for command in (["migrate"], ["serve"], ["serve", "--workers", "2"]):
        finished = await asyncio.to_thread(CliRunner().invoke, cli.main, command, env={"DATABASE_URL": url})

        assert finished.exit_code == 1, finished.output
        assert encoding in finished.stderr.splitlines()[-1]
    connection = await asyncpg.connect(url)
    assert await connection.fetchval("SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace") == 0
    await connection.close()


@pytest.mark.parametrize(
    ("locale", "level"),
    [
        ("LOCALE_PROVIDER libc LOCALE 'C'", "warning"),
        ("LOCALE_PROVIDER libc LOCALE 'C.UTF-8'", "ok"),
        ("LOCALE 'C.UTF-8'", "ok"),  # as in DEPLOYMENT.md
    ],
)
async def test_a_locale_that_knows_ascii_alone_is_a_warning(server_url, locale, level):
    name = f"test_{uuid4().hex}"
    url = await create_database(server_url, name, "template0", f"ENCODING 'UTF8' {locale}")
    try:
        await asyncio.to_thread(migrations.upgrade, url)
        code, found = await run_check(url)
    finally:
        await drop_database(server_url, name)

    assert (code, [said for said, _ in found["LC_CTYPE"]]) == (0, [level])


async def test_a_redis_or_a_replica_that_is_not_what_it_should_be_is_a_warning(url):
    without = await run_check(
        url, RATE_LIMIT_STORAGE_URL="redis://127.0.0.1:1", DATABASE_READ_URL="postgresql://x:1@127.0.0.1:1/x"
    )
    itself = await run_check(url, DATABASE_READ_URL=url)

    assert without[0] == itself[0] == 0
    assert [level for subject in ("redis", "replica") for level, _ in without[1][subject]] == ["warning", "warning"]
    assert [level for level, _ in itself[1]["replica"]] == ["warning"]


async def test_a_broker_without_a_stream_is_a_warning(url, tmp_path):
    nats = Nats(tmp_path)
    missing = await run_check(url, EVENTS_NATS_URL=nats.url)
    nats.start()
    try:
        without = await run_check(url, EVENTS_NATS_URL=nats.url)
        await nats.add_stream()
        complete = await run_check(url, EVENTS_NATS_URL=nats.url)
    finally:
        nats.stop()

    assert [found["broker"][0][0] for _, found in (missing, without, complete)] == ["warning", "warning", "ok"]
    assert missing[0] == without[0] == 0
    assert "no stream" in without[1]["broker"][0][1]


def test_a_start_does_not_wait_for_what_hangs(monkeypatch, caplog):
    monkeypatch.setattr(preflight, "START_DELAY", 0.01)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("DATABASE_URL", f"postgresql://user@127.0.0.1:{silent.getsockname()[1]}/name")
        preflight.find_refusal_at_start(load_settings(Settings))
        [thread] = [thread for thread in threading.enumerate() if thread.name == "preflight"]
        connection, _ = silent.accept()
        assert thread.is_alive()
        connection.close()

    with caplog.at_level(logging.WARNING, preflight.__name__):
        thread.join(30)
    assert [record.getMessage().partition(":")[0] for record in caplog.records] == ["database"]
