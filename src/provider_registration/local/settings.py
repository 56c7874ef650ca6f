"""The service's settings as `run` reads them: everything has a default, and some things are kept in a folder."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr
from pydantic_settings import SettingsConfigDict

from provider_registration.environment import load_settings
from provider_registration.settings import DatabaseSettings, DatabaseUrl, RateLimit, Secret, Settings
from provider_registration.web.text import EmailAddress


class LocalSettings(Settings):
    """What `run` needs; an empty value means that `run` provides the thing itself."""

    model_config = SettingsConfigDict(validate_default=False)

    database_url: DatabaseUrl = Field("", description="PostgreSQL 15 or later instead of a private one")
    jwt_secret_key: Secret = Field(SecretStr(""), description="signs access tokens")
    billing_service_url: str = Field("", description="where billing answers, instead of the sandbox")
    admin_pages: bool = Field(True, description="whether staff work at the pages below /admin")
    public_pages: bool = Field(True, description="whether companies apply and see where they stand on pages")
    docs_access: Literal["anyone", "staff", "off"] = Field("anyone", description="who may read /docs and /redoc")
    metrics_access: Literal["anyone", "staff", "token", "off"] = Field("anyone", description="who may read /metrics")
    rate_limit_registration: RateLimit = Field("", description="registrations, by address; empty: no limit")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("WARNING", description="least level logged")
    local_data_dir: Path = Field(Path(".local"), description="folder for the database and everything else that is kept")
    admin_email: EmailAddress = Field("admin@example.com", description="the first admin, made when there is no user")
    admin_password: SecretStr | None = Field(None, description="the first admin's password; without it one is made up")

    @property
    def database_url_file(self) -> Path:
        """Where other commands find the database of a running `run`."""
        return self.local_data_dir / "database-url"


def local_database_url() -> str | None:
    """URL of the database that a running `run` uses in this folder, None when none runs.

    Raises:
        SettingsError: a variable is not valid.
    """
    try:
        url = load_settings(LocalSettings).database_url_file.read_text()
    except OSError:
        return None
    return DatabaseSettings(database_url=url).database_url


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read, whole or not at all."""
    new = path.with_name(path.name + ".new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    new.replace(path)
