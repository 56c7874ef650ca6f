"""The command line: `provider-registration COMMAND`."""

from __future__ import annotations

import click

from provider_registration import __version__


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__)
def main() -> None:
    """Supplier companies register, staff review them, approval creates exactly one provider in billing."""
