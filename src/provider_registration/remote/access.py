"""What the commands that use the API share: where the service is, with which key, and how they print."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import httpx

from provider_registration.remote.client import Client

MAX_KEY_BYTES = 8192

json_option = click.option("--json", "as_json", is_flag=True, help="print JSON, as the API returns it")


def access_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of `Access`."""
    key_file = click.option(
        "--api-key-file",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        help="file with the API key or an access token; without it, PROVIDER_REGISTRATION_API_KEY has it",
    )
    url = click.option("--url", envvar="PROVIDER_REGISTRATION_URL", show_envvar=True, help="URL of the service")
    return url(key_file(command))


@dataclass(frozen=True, slots=True)
class Access:
    """Where the service is, and the file with the key, if any."""

    url: str | None
    key_file: Path | None

    def open(self) -> Client:
        """A client of the service, which the command closes.

        Raises:
            UsageError: the URL or the key is missing or unusable.
        """
        if self.url is None or not re.match(r"https?://[^/]", self.url):
            raise click.UsageError("Set PROVIDER_REGISTRATION_URL or --url to the URL of the service, https://….")
        try:
            client = Client(self.url, self._key())
        except httpx.InvalidURL as error:
            raise click.UsageError(f"PROVIDER_REGISTRATION_URL or --url is not a URL: {error}") from None
        return click.get_current_context().with_resource(client)

    def _key(self) -> str:
        """The key; it is no option, because every account of a machine can see the options of its processes."""
        if self.key_file is not None:
            with self.key_file.open("rb") as opened:
                key = opened.read(MAX_KEY_BYTES).decode("ascii", "replace").strip()
        else:
            key = os.environ.get("PROVIDER_REGISTRATION_API_KEY", "").strip()
        if not re.fullmatch(r"[!-~]+", key):
            raise click.UsageError("Set PROVIDER_REGISTRATION_API_KEY, or name the key's file with --api-key-file.")
        return key


def print_json(value: object) -> None:
    """Print what the API returned."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def plain(value: object) -> str:
    """A value as text that cannot control a terminal."""
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)
