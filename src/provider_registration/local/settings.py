"""The settings of `run`: everything has a default, and data is kept in a folder."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr
from pydantic_settings import SettingsConfigDict

from provider_registration.environment import EmptyMeansOff, load_settings
from provider_registration.settings import DatabaseSettings, DatabaseUrl, RateLimit, Secret, Settings
from provider_registration.web.text import EmailAddress


class LocalSettings(Settings):
    """Settings of `run`; an empty value means that `run` provides the service itself."""

    model_config = SettingsConfigDict(validate_default=False)

    database_url: DatabaseUrl = Field("", description="PostgreSQL 15 or later, instead of the local one")
    jwt_secret_key: Secret = Field(SecretStr(""), description="signs access tokens")
    billing_service_url: str = Field("", description="URL of billing, instead of the sandbox")
    admin_pages: bool = Field(True, description="whether staff can use the console below /admin")
    public_pages: bool = Field(True, description="whether companies can apply and see their status on pages")
    docs_access: Literal["anyone", "staff", "off"] = Field("anyone", description="who may read /docs and /redoc")
    metrics_access: Literal["anyone", "staff", "token", "off"] = Field("anyone", description="who may read /metrics")
    rate_limit_registration: RateLimit = Field(
        "", description="registrations and requests for lost links per IP address; empty: no limit"
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("WARNING", description="minimum log level")
    webhooks_allow_http: bool = Field(True, description="whether webhooks may have http:// URLs")
    webhooks_allowed_networks: Annotated[str, EmptyMeansOff()] = Field(
        "127.0.0.0/8,::1", description="networks to which webhooks are sent although they are not public"
    )
    local_data_dir: Path = Field(Path(".local"), description="folder for the database and other local data")
    admin_email: EmailAddress = Field("admin@example.com", description="the first admin, created if there are no users")
    admin_password: SecretStr | None = Field(None, description="the first admin's password; default: generated")

    @property
    def links_begin_with(self) -> str:
        """How links in e-mails begin: without PUBLIC_URL, with the URL on this machine."""
        host = f"[{self.app_host}]" if ":" in self.app_host else self.app_host
        return super().links_begin_with or f"http://{host}:{self.app_port}{self.root_path}"

    @property
    def database_url_file(self) -> Path:
        """The file from which other commands read the database URL of a running `run`."""
        return self.local_data_dir / "database-url"


def local_database_url() -> str | None:
    """The database URL of a running `run` in this folder; None if none is running.

    Raises:
        SettingsError: a variable is invalid.
    """
    try:
        url = load_settings(LocalSettings).database_url_file.read_text()
    except OSError:
        return None
    return DatabaseSettings(database_url=url).database_url


def write_private(path: Path, text: str) -> None:
    """Write a file atomically, readable only by its owner."""
    new = path.with_name(path.name + ".new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    new.replace(path)
