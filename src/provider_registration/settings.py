"""The settings of the service, typed and validated."""

from __future__ import annotations

import re
from email.utils import parseaddr
from importlib.util import find_spec
from ipaddress import ip_address, ip_network
from typing import Annotated, Literal
from urllib.parse import parse_qsl, urlsplit

from limits import parse_many
from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationInfo, field_validator

from provider_registration.environment import EmptyMeansOff, Environment, MayBeInFile

MIN_SECRET_BYTES = 32  # RFC 7518 section 3.2: an HS256 key is at least as long as the hash
MIN_DISTINCT_SECRET_CHARACTERS = 10
# The URL parameters of asyncpg; others would fail at the first request instead of at startup.
DATABASE_URL_PARAMETERS = frozenset({"host", "port", "ssl", "passfile", "target_session_attrs"})
ORIGIN = re.compile(r"https?://[^/?#@\s]+")
RATE_LIMIT_STORAGE_SCHEMES = ("redis", "rediss", "redis+unix")
TRACING_MODULES = ("opentelemetry.sdk.trace", "opentelemetry.exporter.otlp.proto.http")
NATS_MODULE = "nats.js"
GRAPHQL_MODULES = ("strawberry", "graphql", "graphene_django_graphiql_static")
_HASH = re.compile("[0-9a-f]{64}")
_PRINTED = re.compile("[!-~]+")
_MAIL_ADDRESS = re.compile(r"[^\s@<>()\[\]\\,;:\"]+@[^\s@<>()\[\]\\,;:\"]+")
_PREFIX = re.compile(r"(/(?!\.{1,2}(/|$))[A-Za-z0-9._~-]+)*")  # RFC 3986's unreserved characters: safe in every link
PLACEHOLDER_WORDS = ("change", "secret-key", "your-", "example", "default", "placeholder")


def _async_driver_url(value: object) -> object:
    """Convert `postgres://`, `postgresql://` and libpq's `sslmode` for SQLAlchemy's asyncpg dialect."""
    if not isinstance(value, str):
        return value
    value = re.sub(r"(?<=[?&])sslmode=", "ssl=", value)
    for scheme in ("postgres://", "postgresql://"):
        if value.startswith(scheme):
            return "postgresql+asyncpg://" + value.removeprefix(scheme)
    return value


DatabaseUrl = Annotated[str, BeforeValidator(_async_driver_url), MayBeInFile()]
Secret = Annotated[SecretStr, MayBeInFile()]
OptionalSecret = Annotated[SecretStr | None, MayBeInFile()]


def _rate_limit(value: str) -> str:
    if value:
        try:
            parse_many(value)
        except ValueError:
            raise ValueError("is not a rate limit; use for example 5/minute or 5/minute;100/day") from None
    return value


Days = Annotated[int | None, Field(ge=1, le=36_500)]
RateLimit = Annotated[str, AfterValidator(_rate_limit), EmptyMeansOff()]


class DatabaseSettings(Environment):
    """Settings of the commands that only use the database (`migrate`, `create-user`, …)."""

    database_url: DatabaseUrl = Field(
        description="PostgreSQL 15 or later: postgresql://user:password@host/name", repr=False
    )

    @field_validator("database_url", "database_read_url", check_fields=False)
    @classmethod
    def _is_postgresql(cls, value: str | None) -> str | None:
        if value is None:
            return None
        if not value.startswith("postgresql+asyncpg://"):
            raise ValueError("must start with postgresql://")
        try:
            parts = urlsplit(value)
            _ = parts.port
        except ValueError:
            raise ValueError(
                "is not a URL; use postgresql://user:password@host:5432/name, with %2F for / in the password"
            ) from None
        if parts.netloc.count("@") > 1:  # the driver would read a part of the password as the host
            raise ValueError("has more than one @; write %40 for an @ in the password")
        if not parts.path.strip("/"):
            raise ValueError("has no database name; use postgresql://user:password@host:5432/name")
        if not DATABASE_URL_PARAMETERS.issuperset(name for name, _ in parse_qsl(parts.query, keep_blank_values=True)):
            known = ", ".join(sorted(DATABASE_URL_PARAMETERS))
            raise ValueError(f"has an unknown parameter after ?; the known ones are {known}, sslmode")
        return value


class Settings(DatabaseSettings):
    """Settings of `serve`."""

    jwt_secret_key: Secret = Field(description="signs access tokens; at least 32 random bytes")
    jwt_previous_secret_key: OptionalSecret = Field(
        None, description="the previous key, accepted while it is set; remove it after 24 hours"
    )
    billing_service_url: str = Field(description="URL of billing, without /provider")
    secrets_key: OptionalSecret = Field(
        None, description="encrypts secrets in the database, such as those of webhooks; without it, webhooks are off"
    )
    secrets_previous_key: OptionalSecret = Field(
        None, description="the previous key; remove it once everything is encrypted with SECRETS_KEY"
    )
    app_host: str = Field("127.0.0.1", description="IP address to listen on")
    app_port: int = Field(5004, ge=1, le=65535, description="port to listen on")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="minimum log level")
    tracing: bool = Field(False, description="whether to send traces to an OpenTelemetry collector (OTEL_… variables)")
    root_path: str = Field("", description="prefix under which a gateway publishes the service, such as /registry")
    public_url: str = Field(
        "", description="public URL of the service, such as https://supply.example; without it, e-mails have no links"
    )
    database_pool_size: int = Field(
        10, ge=1, le=1000, description="maximum connections of a process to each database; probes use one more"
    )
    database_read_url: Annotated[DatabaseUrl | None, MayBeInFile()] = Field(
        None,
        description="a replica for the API's lists and reads of candidates; default: the database itself",
        repr=False,
    )
    database_timeout_seconds: float = Field(
        0.9,
        gt=0,
        le=60,
        description="maximum time of one transaction of a request, including the wait for a connection",
    )
    database_prepared_statements: bool = Field(
        True, description="false behind PgBouncer in transaction mode, where connections change between transactions"
    )

    rate_limit_login: RateLimit = Field(
        "5/minute",
        description="failed sign-ins per account and IP address; per IP address 10 times as many sign-ins, successful "
        "ones included; empty: no limit",
    )
    rate_limit_registration: RateLimit = Field(
        "30/hour", description="registrations and requests for lost links per IP address; empty: no limit"
    )
    rate_limit_default: RateLimit = Field(
        "1200/minute",
        description="requests per session of a token or, without a token, per IP address; empty: no limit",
    )
    rate_limit_storage_url: OptionalSecret = Field(
        None, description="redis://…, shared by several processes; without it each counts separately"
    )
    retention_events_days: Annotated[int | None, Field(ge=1, le=36500)] = Field(
        None, description="days after which events are deleted, as far as event_retention allows it; empty: never"
    )
    mail_from: str = Field("", description="sender of e-mails: supply@example.com or Supply <supply@example.com>")
    smtp_url: OptionalSecret = Field(
        None,
        description="mail server: smtp://user:password@host:587, with STARTTLS unless ?starttls=off, or smtps://…; "
        "without it no e-mail is sent",
    )
    staff_mail_to: str = Field(
        "",
        description="e-mail addresses of staff that get the new applications, and warnings about webhooks, "
        "separated by commas",
    )
    staff_digest: Literal["daily", "hourly", "each"] = Field(
        "daily", description="how often staff get an e-mail with the new applications, at 06:00 UTC if daily"
    )
    admin_pages: bool = Field(False, description="whether staff can use the console below /admin")
    public_pages: bool = Field(False, description="whether companies can apply and see their status on pages")
    docs_access: Literal["anyone", "staff", "off"] = Field(
        "staff", description="who may read /docs, /redoc and /openapi.json"
    )
    graphql: bool = Field(False, description="whether the service executes GraphQL queries at /graphql")
    graphql_allowed: str = Field(
        "", description="SHA-256 hashes of the only GraphQL documents to execute, separated by commas; empty: any"
    )
    metrics_access: Literal["anyone", "staff", "token", "off"] = Field(
        "token", description="who may read /metrics; token: anyone with METRICS_TOKEN"
    )
    metrics_token: OptionalSecret = Field(None, description="bearer token for Prometheus")
    cors_allowed_origins: str = Field(
        "", description="origins whose pages may call the API, separated by commas, such as https://supply.example"
    )
    forwarded_allow_ips: str = Field(
        "127.0.0.1",
        description="IP addresses or networks of proxies whose X-Forwarded-For is trusted, separated by commas; *: any",
    )
    workers: bool = Field(
        True,
        description="whether `serve` also numbers events, sends messages and works on jobs (true or false); "
        "false: only `work` does",
    )
    retention_deliveries_days: Days = Field(
        None, description="days after which finished deliveries are deleted; empty: never"
    )
    retention_jobs_days: Days = Field(
        None, description="days after which finished jobs and their results are deleted; empty: never"
    )
    events_nats_url: OptionalSecret = Field(
        None, description="nats://user:password@host:4222 or tls://…, to publish every event to; empty: no broker"
    )
    billing_connect_timeout_seconds: float = Field(2.0, gt=0, le=60, description="time to connect to billing, per try")
    billing_timeout_seconds: float = Field(5.0, gt=0, le=60, description="time for billing's response, per try")
    billing_max_tries: int = Field(4, ge=1, le=10, description="maximum tries of one call to billing")
    billing_deadline_seconds: float = Field(
        20.0, gt=0, le=300, description="time for all tries of one call; an approval's lease is 1.5 times as long"
    )
    billing_retry_ambiguous: bool = Field(
        True,
        description="false for a billing service that neither honours Idempotency-Key nor enforces unique names: "
        "a request that may have reached it is not repeated, and an admin resolves the approval",
    )

    webhooks_allow_http: bool = Field(False, description="whether webhooks may have http:// URLs")
    webhooks_allowed_networks: Annotated[str, EmptyMeansOff()] = Field(
        "", description="networks to which webhooks are sent although they are not public, separated by commas"
    )

    @property
    def links_begin_with(self) -> str:
        """How absolute links begin, with the gateway's prefix; empty without PUBLIC_URL."""
        return self.public_url and f"{self.public_url}{self.root_path}"

    @property
    def staff_recipients(self) -> list[str]:
        """The e-mail addresses of staff that get e-mails; none without SMTP_URL."""
        return self.staff_mail_to.split(",") if self.smtp_url and self.staff_mail_to else []

    @field_validator(
        "jwt_secret_key", "jwt_previous_secret_key", "metrics_token", "secrets_key", "secrets_previous_key"
    )
    @classmethod
    def _is_a_strong_key(cls, value: SecretStr | None) -> SecretStr | None:
        if value is None:
            return None
        key = value.get_secret_value()
        if len(key.encode()) < MIN_SECRET_BYTES:
            raise ValueError(f"is shorter than {MIN_SECRET_BYTES} bytes; generate one with: openssl rand -hex 32")
        if len(set(key)) < MIN_DISTINCT_SECRET_CHARACTERS or any(word in key.lower() for word in PLACEHOLDER_WORDS):
            raise ValueError("looks like a placeholder; generate one with: openssl rand -hex 32")
        return value

    @field_validator("billing_service_url")
    @classmethod
    def _is_http(cls, value: str) -> str:
        try:
            parts = urlsplit(value)
            is_usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        except ValueError:  # its message may repeat the value
            is_usable = False
        if not is_usable or any(character.isspace() for character in value):
            raise ValueError("must be an http:// or https:// URL")
        if "@" in parts.netloc or "?" in value or "#" in value:
            raise ValueError(
                "has a user, a query or a fragment, which are not sent to billing; use http://host:port/path"
            )
        return value.rstrip("/")

    @field_validator("public_url")
    @classmethod
    def _is_an_origin(cls, value: str, info: ValidationInfo) -> str:
        if not value:
            return value
        try:
            parts = urlsplit(value)
            is_usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        except ValueError:
            is_usable = False
        if not is_usable or "@" in parts.netloc or "?" in value or "#" in value or not _PRINTED.fullmatch(value):
            raise ValueError("must be like https://supply.example, without user, query or fragment")
        if parts.path.rstrip("/") not in ("", info.data.get("root_path")):
            raise ValueError("has a path that is not ROOT_PATH; a gateway's prefix belongs in ROOT_PATH")
        return f"{parts.scheme}://{parts.netloc}".lower()

    @field_validator("mail_from")
    @classmethod
    def _is_a_sender(cls, value: str) -> str:
        _, address = parseaddr(value)
        if value and not (value.isprintable() and _MAIL_ADDRESS.fullmatch(address)):
            raise ValueError("must be like supply@example.com or Supply <supply@example.com>")
        return value

    @field_validator("smtp_url")
    @classmethod
    def _is_smtp(cls, value: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        if value is None:
            return None
        try:
            parts = urlsplit(value.get_secret_value())
            is_usable = parts.scheme in ("smtp", "smtps") and parts.hostname and parts.port != 0
        except ValueError:  # its message may repeat the value
            is_usable = False
        if not is_usable or parts.path.strip("/") or parts.fragment or parts.netloc.count("@") > 1:
            raise ValueError(
                "must be like smtp://user:password@host:587, with %40 for an @ and %2F for a / in a password"
            )
        if parts.query not in ("", "starttls=off") or (parts.query and parts.scheme == "smtps"):
            raise ValueError("has something after the ? other than starttls=off, which is for smtp:// only")
        if not info.data.get("mail_from"):
            raise ValueError("needs MAIL_FROM, the sender")
        return value

    @field_validator("staff_mail_to")
    @classmethod
    def _are_addresses(cls, value: str) -> str:
        entries = [entry for each in value.split(",") if (entry := each.strip())]
        if not all(_MAIL_ADDRESS.fullmatch(entry) for entry in entries):
            raise ValueError("has an entry that is not an e-mail address; separate several by commas")
        return ",".join(entries)

    @field_validator("rate_limit_storage_url")
    @classmethod
    def _is_redis(cls, value: SecretStr | None) -> SecretStr | None:
        if value is None:
            return None
        try:
            parts = urlsplit(value.get_secret_value())
            is_usable = parts.scheme in RATE_LIMIT_STORAGE_SCHEMES and parts.port != 0
        except ValueError:  # its message may repeat the value
            is_usable = False
        if not is_usable:
            raise ValueError("must be a redis:// or rediss:// URL")
        return value

    @field_validator("events_nats_url")
    @classmethod
    def _is_nats(cls, value: SecretStr | None) -> SecretStr | None:
        if value is None:
            return None
        try:
            parts = urlsplit(value.get_secret_value())
            is_usable = parts.scheme in ("nats", "tls") and parts.hostname and parts.port != 0
        except ValueError:  # its message may repeat the value
            is_usable = False
        if not is_usable or parts.netloc.count("@") > 1 or parts.path.strip("/") or parts.query or parts.fragment:
            raise ValueError(
                "must be like nats://user:password@host:4222 or tls://…; write %40 for an @ in the password"
            )
        if not _can_import(NATS_MODULE):
            raise ValueError("needs nats-py, which is not installed; install provider-registration[nats]")
        return value

    @field_validator("cors_allowed_origins")
    @classmethod
    def _are_origins(cls, value: str) -> str:
        # Browsers send scheme, host and port; anything else would match no origin.
        entries = [entry for each in value.split(",") if (entry := each.strip())]
        if not all(entry == "*" or ORIGIN.fullmatch(entry) for entry in entries):
            raise ValueError(
                "has an entry that is not an origin: use https://supply.example, without a path or trailing slash, "
                "separated by commas"
            )
        return value

    @field_validator("forwarded_allow_ips")
    @classmethod
    def _are_ip_networks(cls, value: str) -> str:
        # uvicorn would compare a host name, or a network with host bits, with IP addresses: it would never match.
        entries = [entry for each in value.split(",") if (entry := each.strip())]
        if entries != ["*"] and not all(_is_ip_address(entry) for entry in entries):
            raise ValueError(
                "has an entry that is neither an IP address nor a network (host names are not resolved, and a network "
                "must not have host bits): use 10.0.0.5 or 10.0.0.0/8, separated by commas"
            )
        return ",".join(entries)

    @field_validator("webhooks_allowed_networks")
    @classmethod
    def _are_networks(cls, value: str) -> str:
        entries = [entry for each in value.split(",") if (entry := each.strip())]
        if not all(_is_ip_address(entry) for entry in entries):
            raise ValueError(
                "has an entry that is neither an IP address nor a network without host bits: use 10.0.0.5 or "
                "10.0.0.0/8, separated by commas"
            )
        return ",".join(entries)

    @field_validator("log_level", mode="before")
    @classmethod
    def _any_letter_case(cls, value: object) -> object:
        return value.upper() if isinstance(value, str) else value

    @field_validator("tracing")
    @classmethod
    def _is_installed(cls, value: bool) -> bool:
        if value and not all(_can_import(name) for name in TRACING_MODULES):
            raise ValueError("needs OpenTelemetry, which is not installed; install provider-registration[tracing]")
        return value

    @field_validator("graphql")
    @classmethod
    def _has_its_extra(cls, value: bool) -> bool:
        if value and not all(_can_import(name) for name in GRAPHQL_MODULES):
            raise ValueError("needs strawberry, which is not installed; install provider-registration[graphql]")
        return value

    @field_validator("graphql_allowed")
    @classmethod
    def _are_hashes(cls, value: str) -> str:
        entries = [entry.lower() for each in value.split(",") if (entry := each.strip())]
        if not all(_HASH.fullmatch(entry) for entry in entries):
            raise ValueError(
                "has an entry that is not a SHA-256 hash of 64 hexadecimal digits; separate them by commas"
            )
        return ",".join(entries)

    @field_validator("root_path")
    @classmethod
    def _is_a_path(cls, value: str) -> str:
        value = value.removesuffix("/")
        if not _PREFIX.fullmatch(value):
            raise ValueError(
                "must be like /registry or /a/b: each segment has only letters, digits and - . _ ~, and is "
                "neither . nor .."
            )
        return value


def _is_ip_address(text: str) -> bool:
    try:
        ip_network(text) if "/" in text else ip_address(text)
    except ValueError:
        return False
    return True


def _can_import(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:  # its parent package is missing too
        return False
