"""Every environment variable the service reads, typed."""

from __future__ import annotations

import re
from importlib.util import find_spec
from ipaddress import ip_address, ip_network
from typing import Annotated, Literal
from urllib.parse import parse_qsl, urlsplit

from limits import parse_many
from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationInfo, field_validator

from provider_registration.environment import EmptyMeansOff, Environment, MayBeInFile

MIN_SECRET_BYTES = 32  # RFC 7518 section 3.2: an HS256 key is at least as long as the hash
MIN_DISTINCT_SECRET_CHARACTERS = 10
# What asyncpg takes from a URL; anything else would fail with the first request instead of at the start.
DATABASE_URL_PARAMETERS = frozenset({"host", "port", "ssl", "passfile", "target_session_attrs"})
ORIGIN = re.compile(r"https?://[^/?#@\s]+")
RATE_LIMIT_STORAGE_SCHEMES = ("redis", "rediss", "redis+unix")
TRACING_MODULES = ("opentelemetry.sdk.trace", "opentelemetry.exporter.otlp.proto.http")
_PRINTED = re.compile("[!-~]+")
PLACEHOLDER_WORDS = ("change", "secret-key", "your-", "example", "default", "placeholder")


def _async_driver_url(value: object) -> object:
    """Turn `postgres://`, `postgresql://` and libpq's `sslmode` into what SQLAlchemy's asyncpg dialect reads."""
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
            raise ValueError("is not a rate limit; write for example 5/minute or 5/minute;100/day") from None
    return value


RateLimit = Annotated[str, AfterValidator(_rate_limit), EmptyMeansOff()]


class DatabaseSettings(Environment):
    """What the commands need that talk to the database alone (`migrate`, `create-user`, …)."""

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
                "is not a URL; write postgresql://user:password@host:5432/name, with %2F for / in the password"
            ) from None
        if parts.netloc.count("@") > 1:  # the driver would take a part of the password for the host
            raise ValueError("has more than one @; write %40 for an @ in the password")
        if not parts.path.strip("/"):
            raise ValueError("names no database; write postgresql://user:password@host:5432/name")
        if not DATABASE_URL_PARAMETERS.issuperset(name for name, _ in parse_qsl(parts.query, keep_blank_values=True)):
            known = ", ".join(sorted(DATABASE_URL_PARAMETERS))
            raise ValueError(f"has a parameter after ? that is not known; these are: {known}, sslmode")
        return value


class Settings(DatabaseSettings):
    """What `serve` needs."""

    jwt_secret_key: Secret = Field(description="signs access tokens; at least 32 random bytes")
    jwt_previous_secret_key: OptionalSecret = Field(
        None, description="the key before, believed until the tokens signed with it have expired"
    )
    billing_service_url: str = Field(description="where billing answers, without /provider")
    app_host: str = Field("127.0.0.1", description="address to listen on")
    app_port: int = Field(5004, ge=1, le=65535, description="port to listen on")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="least level logged")
    tracing: bool = Field(False, description="whether spans go to an OpenTelemetry collector, as OTEL_… variables say")
    root_path: str = Field("", description="prefix under which a gateway publishes the service, such as /registry")
    public_url: str = Field(
        "", description="where people reach the service, such as https://supply.example; without it, as they asked"
    )
    database_pool_size: int = Field(10, ge=1, le=1000, description="database connections held at most")
    database_read_url: Annotated[DatabaseUrl | None, MayBeInFile()] = Field(
        None, description="a replica of the database for lists and reads; without it, the database itself", repr=False
    )
    database_timeout_seconds: float = Field(
        0.9, gt=0, le=60, description="a request's wait for the database, in line and for answers, before its 503"
    )
    database_prepared_statements: bool = Field(
        True, description="false behind PgBouncer in transaction mode: nothing is kept from one transaction to the next"
    )

    rate_limit_login: RateLimit = Field(
        "5/minute", description="log-ins, by account and address, ten times as many by address; empty: no limit"
    )
    rate_limit_registration: RateLimit = Field("30/hour", description="registrations, by address; empty: no limit")
    rate_limit_default: RateLimit = Field(
        "1200/minute", description="all requests, by session or address; empty: no limit"
    )
    rate_limit_storage_url: OptionalSecret = Field(
        None, description="redis://…, where several processes count together; without it each counts for itself"
    )
    admin_pages: bool = Field(False, description="whether staff work at the pages below /admin")
    public_pages: bool = Field(False, description="whether companies apply and see where they stand on pages")
    docs_access: Literal["anyone", "staff", "off"] = Field(
        "staff", description="who may read /docs, /redoc and /openapi.json"
    )
    metrics_access: Literal["anyone", "staff", "token", "off"] = Field(
        "token", description="who may read /metrics; token: whoever shows METRICS_TOKEN"
    )
    metrics_token: OptionalSecret = Field(None, description="what Prometheus shows as its bearer token")
    cors_allowed_origins: str = Field(
        "", description="origins whose pages may call the API, with commas between, such as https://supply.example"
    )
    forwarded_allow_ips: str = Field(
        "127.0.0.1",
        description="addresses or networks of proxies whose X-Forwarded-For is believed, with commas between; *: any",
    )
    billing_connect_timeout_seconds: float = Field(2.0, gt=0, le=60, description="to reach billing, in one try")
    billing_timeout_seconds: float = Field(5.0, gt=0, le=60, description="for billing's answer, in one try")
    billing_max_tries: int = Field(4, ge=1, le=10, description="tries of one call to billing at most")
    billing_deadline_seconds: float = Field(
        20.0, gt=0, le=300, description="for all tries of one call together; an approval's lease is 1.5 times as long"
    )
    billing_retry_ambiguous: bool = Field(
        True,
        description="false for a billing service that neither honours Idempotency-Key nor guards names atomically: "
        "a try that may have reached it is not repeated, and an admin resolves it",
    )

    @field_validator("jwt_secret_key", "jwt_previous_secret_key", "metrics_token")
    @classmethod
    def _is_a_strong_key(cls, value: SecretStr | None) -> SecretStr | None:
        if value is None:
            return None
        key = value.get_secret_value()
        if len(key.encode()) < MIN_SECRET_BYTES:
            raise ValueError(f"is shorter than {MIN_SECRET_BYTES} bytes; make one with: openssl rand -hex 32")
        if len(set(key)) < MIN_DISTINCT_SECRET_CHARACTERS or any(word in key.lower() for word in PLACEHOLDER_WORDS):
            raise ValueError("looks like a placeholder; make one with: openssl rand -hex 32")
        return value

    @field_validator("billing_service_url")
    @classmethod
    def _is_http(cls, value: str) -> str:
        try:
            parts = urlsplit(value)
            is_usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        except ValueError:  # its text may repeat the value
            is_usable = False
        if not is_usable or any(character.isspace() for character in value):
            raise ValueError("must be an http:// or https:// URL")
        if "@" in parts.netloc or "?" in value or "#" in value:
            raise ValueError(
                "has a user, a query or a fragment, which billing would not get; write http://host:port/path"
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

    @field_validator("rate_limit_storage_url")
    @classmethod
    def _is_redis(cls, value: SecretStr | None) -> SecretStr | None:
        if value is None:
            return None
        try:
            parts = urlsplit(value.get_secret_value())
            is_usable = parts.scheme in RATE_LIMIT_STORAGE_SCHEMES and parts.port != 0
        except ValueError:  # its text may repeat the value
            is_usable = False
        if not is_usable:
            raise ValueError("must be a redis:// or rediss:// URL")
        return value

    @field_validator("cors_allowed_origins")
    @classmethod
    def _are_origins(cls, value: str) -> str:
        # A browser sends scheme, host and port: anything else would be equal to no origin.
        entries = [entry for each in value.split(",") if (entry := each.strip())]
        if not all(entry == "*" or ORIGIN.fullmatch(entry) for entry in entries):
            raise ValueError(
                "has something that is not an origin: write https://supply.example, without a path or a slash at the "
                "end, separated by commas"
            )
        return value

    @field_validator("forwarded_allow_ips")
    @classmethod
    def _is_no_name(cls, value: str) -> str:
        # uvicorn would compare a name, or a network with bits beyond its prefix, with addresses: equal to none.
        entries = [entry for each in value.split(",") if (entry := each.strip())]
        if entries != ["*"] and not all(_is_address(entry) for entry in entries):
            raise ValueError(
                "has something that is neither an address nor a network (a host's name is not looked up, and a network "
                "has no bits beyond its mask): write 10.0.0.5 or 10.0.0.0/8, with commas between"
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

    @field_validator("root_path")
    @classmethod
    def _is_a_path(cls, value: str) -> str:
        value = value.rstrip("/")
        if value and not value.startswith("/"):
            raise ValueError("must start with /")
        return value


def _is_address(text: str) -> bool:
    try:
        ip_network(text) if "/" in text else ip_address(text)
    except ValueError:
        return False
    return True


def _can_import(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:  # not even what it is in
        return False
