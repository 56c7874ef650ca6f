"""Settings: all missing or unsafe ones are reported together, without values."""

from __future__ import annotations

import os
import secrets

import pytest
from pydantic import SecretStr

from provider_registration.environment import SettingsError, find_misspelled, load_settings
from provider_registration.settings import DatabaseSettings, Settings

KEY = "0123456789abcdef0123456789abcdef"
GOOD = {
    "DATABASE_URL": "postgresql://user:password@host:5432/name",
    "JWT_SECRET_KEY": KEY,
    "BILLING_SERVICE_URL": "http://billing:5005",
}


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)  # no .env
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
        monkeypatch.delenv(f"{name.upper()}_FILE", raising=False)


@pytest.fixture
def load(monkeypatch):
    """Loads settings from a valid environment with changes; None removes a variable."""

    def load(**changes):
        for name, value in (GOOD | changes).items():
            monkeypatch.delenv(name, raising=False) if value is None else monkeypatch.setenv(name, value)
        return load_settings(Settings)

    return load


@pytest.fixture
def problems(load):
    """Loads invalid settings; returns the errors."""

    def problems(**changes):
        with pytest.raises(SettingsError) as caught:
            load(**changes)
        return caught.value.problems

    return problems


def test_three_variables_are_enough(load):
    settings = load()

    assert settings.database_url == "postgresql+asyncpg://user:password@host:5432/name"
    assert settings.jwt_secret_key.get_secret_value() == KEY
    assert settings.billing_service_url == "http://billing:5005"
    assert (settings.app_host, settings.app_port) == ("127.0.0.1", 5004)
    assert (settings.log_level, settings.root_path) == ("INFO", "")


def test_everything_that_is_missing_is_named_at_once(problems):
    missing = problems(**dict.fromkeys(GOOD))

    assert [problem.partition(" ")[0] for problem in missing] == list(GOOD)
    assert all("is not set (" in problem for problem in missing)


def test_an_empty_variable_is_a_missing_one(problems):
    assert problems(**dict.fromkeys(GOOD, "")) == problems(**dict.fromkeys(GOOD))


@pytest.mark.asvs("API8")
def test_everything_that_is_wrong_is_named_at_once(problems):
    wrong = {
        "DATABASE_URL": "mysql://host/name",
        "JWT_SECRET_KEY": "short",
        "BILLING_SERVICE_URL": "billing",
        "APP_PORT": "70000",
        "LOG_LEVEL": "LOUD",
        "ROOT_PATH": "registry",
        "DATABASE_POOL_SIZE": "0",
    }

    named = [problem.partition(" ")[0] for problem in problems(**wrong)]

    assert sorted(named) == sorted(wrong)


@pytest.mark.asvs("V13.3.2")
@pytest.mark.parametrize(
    "variable",
    [
        "DATABASE_URL",
        "JWT_SECRET_KEY",
        "BILLING_SERVICE_URL",
        "APP_PORT",
        "LOG_LEVEL",
        "ROOT_PATH",
        "DATABASE_POOL_SIZE",
    ]
    + ["BILLING_TIMEOUT_SECONDS", "BILLING_MAX_TRIES", "BILLING_RETRY_AMBIGUOUS"],
)
@pytest.mark.parametrize("secret", ["hunter2", "http://[hunter2]", "postgresql://a:hunter2@[b/c", "postgres://hunter2"])
def test_no_value_is_shown(problems, variable, secret):
    shown = "\n".join(problems(**{variable: secret}))

    assert "hunter2" not in shown


@pytest.mark.parametrize("missing", ["opentelemetry.sdk.not_installed", "not_installed.exporter"])
def test_tracing_without_its_extra_is_refused(load, problems, monkeypatch, missing):
    assert load(TRACING="true").tracing

    monkeypatch.setattr("provider_registration.settings.TRACING_MODULES", ("opentelemetry.sdk.trace", missing))

    [problem] = problems(TRACING="true")
    assert problem == ("TRACING needs OpenTelemetry, which is not installed; install provider-registration[tracing]")
    assert not load(TRACING="false").tracing


@pytest.mark.parametrize(
    "wrong",
    [
        "https://hunter2",
        "nats://",
        "nats://a:hunter2@b@c",
        "nats://hunter2:0",
        "tls://hunter2/x",
        "nats://[hunter2",
        "hunter2",
    ],
)
def test_a_broker_url_of_another_kind_is_refused(load, problems, wrong):
    url = "tls://user:p%40ss@nats.example:4222"
    assert load(EVENTS_NATS_URL=url).events_nats_url.get_secret_value() == url

    [problem] = problems(EVENTS_NATS_URL=wrong)
    assert problem.startswith("EVENTS_NATS_URL must be like nats://")
    assert "hunter2" not in problem


def test_a_broker_without_its_extra_is_refused(load, problems, monkeypatch):
    monkeypatch.setattr("provider_registration.settings.NATS_MODULE", "not_installed.js")

    [problem] = problems(EVENTS_NATS_URL="nats://nats.example")
    assert problem == "EVENTS_NATS_URL needs nats-py, which is not installed; install provider-registration[nats]"
    assert load(EVENTS_NATS_URL="").events_nats_url is None


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("postgres://u:p@h/n", "postgresql+asyncpg://u:p@h/n"),
        ("postgresql://u:p@h/n", "postgresql+asyncpg://u:p@h/n"),
        ("postgresql+asyncpg://u:p@h/n", "postgresql+asyncpg://u:p@h/n"),
        ("postgresql:///n?host=/var/run/postgresql", "postgresql+asyncpg:///n?host=/var/run/postgresql"),
        ("postgresql://u:p%40ss@[::1]:5433/n", "postgresql+asyncpg://u:p%40ss@[::1]:5433/n"),
        ("postgresql://h/n?sslmode=require", "postgresql+asyncpg://h/n?ssl=require"),
        ("postgres://h/n?host=a&sslmode=verify-full", "postgresql+asyncpg://h/n?host=a&ssl=verify-full"),
    ],
)
def test_any_usual_form_of_the_database_url_will_do(load, written, read):
    assert load(DATABASE_URL=written).database_url == read


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("mysql://u:p@h/n", "must start with postgresql://"),
        ("postgresql+psycopg://u:p@h/n", "must start with postgresql://"),
        ("h/n", "must start with postgresql://"),
        ("postgresql://u:p@h", "has no database name"),
        ("postgresql://u:p@h/", "has no database name"),
        ("postgresql://u:p@h:port/n", "is not a URL"),
        ("postgresql://u:p@h:99999/n", "is not a URL"),
        ("postgresql://u:p@[h/n", "is not a URL"),
        ("postgresql://u:p@ss@h/n", "has more than one @; write %40"),
        ("postgresql://h/n?connect_timeout=5", "has an unknown parameter after ?"),
        ("postgresql://h/n?channel_binding=require&sslmode=require", "has an unknown parameter after ?"),
    ],
)
def test_any_other_is_refused_at_the_start(problems, url, sentence):
    [problem] = problems(DATABASE_URL=url)

    assert problem.startswith(f"DATABASE_URL {sentence}")


@pytest.mark.asvs("V11.2.3", "V13.2.3")
@pytest.mark.parametrize(
    "key",
    [
        "0123456789abcdef0123456789abcde",
        "a" * 64,
        "abcabcabcabcabcabcabcabcabcabcabcabc",
        "change-me-0123456789-abcdefghijklmnop",
        "your-256-bit-secret-0123456789abcdefgh",
        "my-SECRET-KEY-0123456789abcdefghijklmn",
        "example-0123456789abcdefghijklmnopqrstu",
        "the-default-key-0123456789abcdefghijkl",
        "placeholder-0123456789abcdefghijklmnop",
    ],
)
@pytest.mark.parametrize("name", ["JWT_SECRET_KEY", "SECRETS_KEY", "SECRETS_PREVIOUS_KEY"])
def test_a_weak_or_made_up_key_is_refused(problems, name, key):
    [problem] = problems(**{name: key})

    assert problem.startswith(f"{name} ")
    assert problem.endswith("openssl rand -hex 32")
    assert key not in problem


def test_the_length_of_a_key_is_counted_in_bytes(load):
    assert load(JWT_SECRET_KEY="äöüßéèàçñøå0123456789").jwt_secret_key


@pytest.mark.asvs("V13.3.2")
def test_secrets_do_not_show_when_settings_are_printed(load):
    shown = repr(load())

    assert KEY not in shown
    assert "password@" not in shown


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("http://billing", "http://billing"),
        ("https://billing.example:8443/", "https://billing.example:8443"),
        ("http://billing/v1/", "http://billing/v1"),
        ("http://[::1]:5005", "http://[::1]:5005"),
    ],
)
def test_the_billing_url_loses_its_last_slash(load, written, read):
    assert load(BILLING_SERVICE_URL=written).billing_service_url == read


@pytest.mark.parametrize(
    "url",
    ["billing", "billing:5005", "ftp://billing", "http://", "http:///path", "http://billing:0", "http://billing:70000"]
    + ["http://billing:x", "http://[billing", "http://a b", "http://billing\n"],
)
def test_what_is_no_http_url_is_refused(problems, url):
    assert problems(BILLING_SERVICE_URL=url) == ["BILLING_SERVICE_URL must be an http:// or https:// URL"]


@pytest.mark.asvs("V3.4.2")
@pytest.mark.parametrize(
    "value",
    [
        "supply.example",
        "https://supply.example/",
        "https://supply.example/page",
        "ftp://supply.example",
        "https://user@supply.example",
        "https://",
        "https://supply.example other.example",
        "https://supply.example, other.example",
    ],
)
def test_an_origin_that_no_browser_would_send_is_refused(problems, value):
    [problem] = problems(CORS_ALLOWED_ORIGINS=value)

    assert problem.startswith("CORS_ALLOWED_ORIGINS ")


@pytest.mark.parametrize("value", ["", "*", "http://localhost:3000", "https://supply.example, https://other.example"])
def test_origins_as_browsers_send_them_will_do(load, value):
    assert load(CORS_ALLOWED_ORIGINS=value).cors_allowed_origins == value


@pytest.mark.parametrize("level", ["debug", "Info", "WARNING", "error"])
def test_the_log_level_may_be_in_any_letter_case(load, level):
    assert load(LOG_LEVEL=level).log_level == level.upper()


@pytest.mark.parametrize(
    ("written", "read"),
    [("/", ""), ("/registry", "/registry"), ("/a/b/", "/a/b"), ("/.a/..B/1-_~..", "/.a/..B/1-_~..")],
)
def test_the_root_path_has_no_slash_at_its_end(load, written, read):
    assert load(ROOT_PATH=written).root_path == read


@pytest.mark.parametrize(
    "value",
    ["registry", "//", "//evil", "/a//b", "/a//", "/./a", "/a/../b", "/..", "/a/.", "/a b", "/a\n", "/\x1b", "/\udcff"]
    + ["/ä", "/a?b", "/a#b", "/%2e%2e", "/%", "/a\\b", "/'", "/<b>", "https://supply.example/registry"],
)
def test_a_root_path_that_would_make_wrong_links_is_refused(problems, value):
    [problem] = problems(ROOT_PATH=value)

    assert problem.startswith("ROOT_PATH must be like /registry")


@pytest.mark.parametrize("port", ["0", "65536", "-1", "http", "5004.5"])
def test_an_impossible_port_is_refused(problems, port):
    [problem] = problems(APP_PORT=port)

    assert problem.startswith("APP_PORT ")


def test_a_dot_env_file_is_read_and_the_environment_wins(tmp_path, monkeypatch):
    lines = [f"{name}={value}" for name, value in GOOD.items()]
    (tmp_path / ".env").write_text("\n".join([*lines, "APP_PORT=6000", "SOMETHING_ELSE=1", "LOG_LEVEL=DEBUG"]))
    monkeypatch.setenv("LOG_LEVEL", "ERROR")

    settings = load_settings(Settings)

    assert (settings.app_port, settings.log_level) == (6000, "ERROR")


def test_commands_that_need_the_database_alone_ask_for_no_more(monkeypatch):
    monkeypatch.setenv("DATABASE_URL", GOOD["DATABASE_URL"])

    assert load_settings(DatabaseSettings).database_url.startswith("postgresql+asyncpg://")


@pytest.mark.parametrize(
    "url",
    ["http://user:hunter2@billing", "http://hunter2@billing", "http://@billing", "https://billing/v1?tenant=hunter2"]
    + ["http://billing?", "http://billing/#hunter2", "http://billing/v1#"],
)
def test_what_billing_would_not_get_is_refused(problems, url):
    [problem] = problems(BILLING_SERVICE_URL=url)

    assert problem.startswith("BILLING_SERVICE_URL has a user, a query or a fragment")
    assert "hunter2" not in problem


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("10.0.0.5", "10.0.0.5"),
        ("10.0.0.0/8, 192.168.0.1,::1 ,fd00::/8", "10.0.0.0/8,192.168.0.1,::1,fd00::/8"),
        ("10.0.0.5,", "10.0.0.5"),
        ("*", "*"),
    ],
)
def test_gateways_are_addresses_and_networks(load, written, read):
    assert load(FORWARDED_ALLOW_IPS=written).forwarded_allow_ips == read


@pytest.mark.parametrize(
    "value", ["gateway", "10.0.0.5,gateway.internal", "10.0.0.1/8", "10.0.0.5:80", "*,::1", "10.*"]
)
def test_gateways_that_nobody_would_ever_have_the_address_of_are_refused(problems, value):
    [problem] = problems(FORWARDED_ALLOW_IPS=value)

    assert problem.startswith("FORWARDED_ALLOW_IPS has an entry that is neither an IP address nor a network")


@pytest.mark.parametrize("value", ["receiver", "*", "10.0.0.1/8", "10.0.0.5:80"])
def test_networks_of_receivers_are_networks(problems, load, value):
    [problem] = problems(WEBHOOKS_ALLOWED_NETWORKS=value)

    assert problem.startswith("WEBHOOKS_ALLOWED_NETWORKS has an entry that is neither an IP address nor a network")
    assert load(WEBHOOKS_ALLOWED_NETWORKS="10.1.0.0/16, ::1").webhooks_allowed_networks == "10.1.0.0/16,::1"
    assert load(WEBHOOKS_ALLOWED_NETWORKS="").webhooks_allowed_networks == ""


MAIL_FROM = "Supply <supply@example.com>"
SECRETS = {
    "DATABASE_URL": "postgresql://user:password@host:5432/name",
    "DATABASE_READ_URL": "postgresql://user:password@replica:5432/name",
    "JWT_SECRET_KEY": KEY,
    "JWT_PREVIOUS_SECRET_KEY": KEY[::-1],
    "SECRETS_KEY": KEY * 3,
    "SECRETS_PREVIOUS_KEY": KEY * 4,
    "METRICS_TOKEN": KEY * 2,
    "RATE_LIMIT_STORAGE_URL": "redis://:password@host:6379",
    "SMTP_URL": "smtp://user:password@host:587",
    "EVENTS_NATS_URL": "tls://user:password@host:4222",
}


def plain(value):
    return value.get_secret_value() if isinstance(value, SecretStr) else value.replace("+asyncpg", "")


def test_every_setting_that_holds_a_secret_may_be_in_a_file():
    assert {name.upper() for name in Settings.secrets()} == set(SECRETS)
    assert {name for name, field in Settings.model_fields.items() if "SecretStr" in str(field.annotation)} <= set(
        Settings.secrets()
    )


@pytest.mark.asvs("V13.3.1")
@pytest.mark.parametrize("ending", ["", "\n", "\r\n"])
@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_is_read_from_the_file_that_is_named(load, tmp_path, name, ending):
    file = tmp_path / "secret"
    file.write_bytes((SECRETS[name] + ending).encode())

    settings = load(**{name: None, f"{name}_FILE": str(file), "MAIL_FROM": MAIL_FROM})

    assert plain(getattr(settings, name.lower())) == SECRETS[name]


def test_the_file_may_be_named_in_dot_env_and_an_empty_name_is_none(load, tmp_path):
    (tmp_path / "key").write_text(KEY)
    (tmp_path / ".env").write_text("JWT_SECRET_KEY_FILE=key\nMETRICS_TOKEN_FILE=\n")

    settings = load(JWT_SECRET_KEY="", DATABASE_URL_FILE="")

    assert settings.jwt_secret_key.get_secret_value() == KEY
    assert settings.metrics_token is None


def test_what_a_file_holds_is_checked_like_a_variable(problems, tmp_path):
    (tmp_path / "key").write_text("hunter2\n")

    [problem] = problems(JWT_SECRET_KEY=None, JWT_SECRET_KEY_FILE="key")

    assert problem.startswith("JWT_SECRET_KEY is shorter than")


def test_a_secret_that_is_set_twice_is_refused(problems, tmp_path):
    (tmp_path / "key").write_text(KEY)

    assert problems(JWT_SECRET_KEY_FILE="key") == [
        "JWT_SECRET_KEY and JWT_SECRET_KEY_FILE are both set; set one of them"
    ]


def test_a_file_that_cannot_be_used_is_named_with_its_variable(problems, tmp_path):
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "latin").write_bytes(b"hunter2 \xe9" * 8)
    bad = {
        "DATABASE_URL": "nowhere",
        "JWT_SECRET_KEY": ".",
        "METRICS_TOKEN": "empty",
        "RATE_LIMIT_STORAGE_URL": "latin",
    }
    changes = dict.fromkeys(bad) | {f"{name}_FILE": str(tmp_path / file) for name, file in bad.items()}

    found = {problem.partition(" ")[0]: problem for problem in problems(**changes)}

    assert set(found) == {f"{name}_FILE" for name in bad}
    assert all(str(tmp_path / file) in found[f"{name}_FILE"] for name, file in bad.items())
    assert "hunter2" not in "".join(found.values())


LINES = "".join(f"{name}={value}\n" for name, value in GOOD.items())


@pytest.mark.parametrize(
    "written",
    [
        LINES.encode("utf-16"),
        LINES.encode("utf-16-le"),
        LINES.encode("utf-16-be"),
        f"# Lösung\n{LINES}".encode("latin-1"),
    ],
)
def test_a_dot_env_file_that_is_not_utf_8_is_a_sentence(tmp_path, written):
    (tmp_path / ".env").write_bytes(written)

    with pytest.raises(SettingsError) as caught:
        load_settings(Settings)

    [problem] = caught.value.problems
    assert problem == f"{tmp_path / '.env'} is not UTF-8 text; save it as UTF-8"


def test_a_byte_order_mark_before_the_first_name_is_no_part_of_it(tmp_path):
    (tmp_path / ".env").write_bytes(LINES.encode("utf-8-sig"))

    assert load_settings(Settings).database_url.endswith("@host:5432/name")


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("DATABASE_POOLSIZE", "DATABASE_POOL_SIZE"),
        ("database_pool_sise", "DATABASE_POOL_SIZE"),
        ("DATABASE_TIMEOUT", "DATABASE_TIMEOUT_SECONDS"),
        ("RATELIMIT_LOGIN", "RATE_LIMIT_LOGIN"),
        ("BILLING_URL", "BILLING_SERVICE_URL"),
        ("LOGLEVEL", "LOG_LEVEL"),
        ("JWT_SECRET", "JWT_SECRET_KEY"),
        ("CORS_ORIGINS", "CORS_ALLOWED_ORIGINS"),
        ("ADMIN_PAGE", "ADMIN_PAGES"),
        ("APP_PORT_FILE", "APP_PORT"),
        ("METRICS_TOKEN_FILES", "METRICS_TOKEN_FILE"),
    ],
)
def test_a_name_that_looks_like_a_misspelt_setting_is_found(load, monkeypatch, tmp_path, name, meant):
    load()
    monkeypatch.setenv(name, "hunter2")
    assert find_misspelled(Settings) == {name.upper(): meant}

    monkeypatch.delenv(name)
    (tmp_path / ".env").write_text(f"{name}=hunter2\n")
    assert find_misspelled(Settings) == {name.upper(): meant}


OF_OTHERS = """
    DATABASE_PORT DATABASE_SERVICE_HOST DATABASE_SERVICE_PORT DATABASE_SERVICE_PORT_HTTP DATABASE_PORT_5432_TCP
    DATABASE_PORT_5432_TCP_ADDR DATABASE_PORT_5432_TCP_PORT DATABASE_PORT_5432_TCP_PROTO APP_SERVICE_HOST
    APP_SERVICE_PORT APP_PORT_80_TCP APP_PORT_80_TCP_ADDR BILLING_SERVICE_PORT BILLING_SERVICE_SERVICE_HOST
    BILLING_SERVICE_HOST BILLING_SERVICE_PORT_8080_TCP REDIS_PORT KUBERNETES_SERVICE_HOST KUBERNETES_PORT
    PGHOST PGPASSWORD PGSSLROOTCERT PGPORT OTEL_SERVICE_NAME OTEL_TRACES_SAMPLER OTEL_EXPORTER_OTLP_ENDPOINT
    POSTGRES_PASSWORD POSTGRES_API_PASSWORD POSTGRES_USER DATABASE_USER DATABASE_HOST APP_ENV APP_NAME LOG_FORMAT
    PATH HOME HOSTNAME LANG TZ TMPDIR PYTHONUNBUFFERED SOURCE_COMMIT PROMETHEUS_MULTIPROC_DIR WEB_CONCURRENCY
    ADMIN_EMAIL ADMIN_PASSWORD LOCAL_DATA_DIR UVICORN_PORT TEST_DATABASE_URL HTTP_PROXY NO_PROXY
"""


def test_names_that_others_set_are_not_taken_for_misspelt_ones(load, monkeypatch):
    load(**SECRETS, MAIL_FROM=MAIL_FROM)
    for name in OF_OTHERS.split():
        monkeypatch.setenv(name, "x")

    assert find_misspelled(Settings) == {}


@pytest.mark.parametrize("content", [b"x" * 5000, b"one\ntwo", b"nul\x00byte", b"\r\n", b"a\xe2\x80\xaeb"], ids=ascii)
def test_a_secret_is_one_line_of_bounded_length(problems, tmp_path, content):
    (tmp_path / "key").write_bytes(content)

    assert len(problems(JWT_SECRET_KEY=None, JWT_SECRET_KEY_FILE=str(tmp_path / "key"))) == 1


def test_a_byte_order_mark_is_no_part_of_a_secret(load, tmp_path):
    key = secrets.token_hex(32)
    (tmp_path / "key").write_bytes(b"\xef\xbb\xbf" + key.encode())

    settings = load(JWT_SECRET_KEY=None, JWT_SECRET_KEY_FILE=str(tmp_path / "key"))

    assert settings.jwt_secret_key.get_secret_value() == key


def test_what_is_no_file_is_not_read(problems, tmp_path):
    os.mkfifo(tmp_path / "pipe")

    for path in (tmp_path / "pipe", "/dev/zero"):
        assert len(problems(JWT_SECRET_KEY=None, JWT_SECRET_KEY_FILE=str(path))) == 1


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("", ""),
        ("https://supply.example", "https://supply.example"),
        ("https://Supply.Example:8443/", "https://supply.example:8443"),
        ("https://supply.example/registry/", "https://supply.example"),
    ],
)
def test_a_public_url_is_kept_as_an_origin(load, written, read):
    assert load(PUBLIC_URL=written, ROOT_PATH="/registry").public_url == read


@pytest.mark.parametrize(
    "written",
    [
        "supply.example",
        "ftp://supply.example",
        "https://",
        "https://user@supply.example",
        "https://supply.example?x",
        "https://supply.example/other",
        "https://supply .example",
        "https://supply.example:port",
    ],
)
def test_a_public_url_that_leads_nowhere_is_refused(load, written):
    with pytest.raises(SettingsError, match="PUBLIC_URL"):
        load(PUBLIC_URL=written, ROOT_PATH="/registry")


@pytest.mark.parametrize(
    "written",
    [
        "smtp://mail.example.com",
        "smtp://mail.example.com:2525/",
        "smtps://us%40er:pa%2Fss@mail.example.com",
        "smtp://127.0.0.1?starttls=off",
        "smtp://[::1]:25?starttls=off",
    ],
)
def test_a_mail_server(load, written):
    assert load(SMTP_URL=written, MAIL_FROM=MAIL_FROM).smtp_url.get_secret_value() == written


@pytest.mark.parametrize(
    "written",
    [
        "mail.example.com",
        "http://mail.example.com",
        "smtp://",
        "smtp://mail.example.com:port",
        "smtp://mail.example.com:0",
        "smtp://mail.example.com/path",
        "smtp://mail.example.com?starttls=on",
        "smtps://mail.example.com?starttls=off",
        "smtp://user:hunter2@x@mail.example.com",
        "smtp://[hunter2",
    ],
)
def test_a_mail_server_that_cannot_be_used_is_refused(load, written):
    with pytest.raises(SettingsError, match="SMTP_URL") as refusal:
        load(SMTP_URL=written, MAIL_FROM=MAIL_FROM)
    assert "hunter2" not in str(refusal.value)


def test_a_mail_server_needs_a_sender(load):
    with pytest.raises(SettingsError, match="SMTP_URL needs MAIL_FROM"):
        load(SMTP_URL="smtp://mail.example.com")


@pytest.mark.parametrize(
    "written", ["supply@example.com", MAIL_FROM, '"Ñandú, S.L." <a@bücher.example>', "a@localhost"]
)
def test_a_sender(load, written):
    assert load(MAIL_FROM=written).mail_from == written


@pytest.mark.parametrize("written", ["supply", "@example.com", "a@b@c", "Supply", "x\ny <a@b.example>"])
def test_a_sender_that_is_no_address_is_refused(load, written):
    with pytest.raises(SettingsError, match="MAIL_FROM"):
        load(MAIL_FROM=written)


@pytest.mark.parametrize(
    ("written", "read"),
    [("", ""), ("a@b.example", "a@b.example"), (" a@b.example, c@d.local,", "a@b.example,c@d.local")],
)
def test_addresses_of_staff(load, written, read):
    assert load(STAFF_MAIL_TO=written).staff_mail_to == read


@pytest.mark.parametrize("written", ["a", "a@b.example;c@d.example", "a@b.example c@d.example", "Ann <a@b.example>"])
def test_addresses_of_staff_that_are_none_are_refused(load, written):
    with pytest.raises(SettingsError, match="STAFF_MAIL_TO"):
        load(STAFF_MAIL_TO=written)
