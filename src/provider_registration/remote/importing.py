"""`provider-registration import`: registers companies from a file, over the API."""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import click

from provider_registration.imports.limits import MAX_FILE_BYTES
from provider_registration.remote.access import Access, access_options, json_option, plain, print_json
from provider_registration.remote.client import Client
from provider_registration.remote.errors import REFUSED, Refused, Unreachable

WORDS = {
    "registered": "Registered",
    "valid": "Would be registered",
    "already_registered": "Already registered",
    "erased": "Erased before",
    "invalid": "Not valid",
}


@click.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@access_options
@click.option(
    "--mapping",
    "mappings",
    multiple=True,
    metavar="FIELD=COLUMN",
    help="the column of a field, such as company_name=Empresa; others are guessed, and FIELD= takes none",
)
@click.option("--dry-run", is_flag=True, help="only check the rows")
@click.option("--notify", is_flag=True, help="send each company that is registered an e-mail")
@click.option(
    "--failed",
    type=click.Path(dir_okay=False, path_type=Path),
    help="write the rows that are not valid to this CSV file",
)
@json_option
def import_command(
    file: Path,
    url: str | None,
    api_key_file: Path | None,
    mappings: tuple[str, ...],
    failed: Path | None,
    *,
    dry_run: bool,
    notify: bool,
    as_json: bool,
) -> None:
    """Register the companies of a CSV file or XLSX workbook, over the API of a running service.

    The file may be sent again: companies that are registered are left out.

    Exit codes: 0 every row is registered, 1 refused or not every row, 2 wrong usage, 3 no response, or not one of this
    service.
    """
    chosen = _mapping(mappings)
    client = Access(url, api_key_file).open()
    with file.open("rb") as opened:
        content = opened.read(MAX_FILE_BYTES + 1)
    if len(content) > MAX_FILE_BYTES:
        raise click.BadParameter(f"larger than {MAX_FILE_BYTES // 2**20} MiB", param_hint="FILE")
    added = client.add_import(content)
    import_id = added["import_id"]
    body: dict[str, object] = {"dry_run": dry_run, "notify": notify}
    if chosen:
        merged = added["mapping"] | chosen
        body["mapping"] = {field: column for field, column in merged.items() if column}
    _start(client, added, body)
    try:
        done = _watch(client, import_id, added["rows"])
        if failed:
            with failed.open("wb") as written:
                client.save_failed_rows(import_id, written)
    except Unreachable as error:
        hint = (
            f"The import {import_id} continues. To see the result, import the file again: nothing is registered twice."
        )
        raise Unreachable(f"{error.message}\n{hint}") from error
    if as_json:
        print_json(done)
    else:
        _print_counts(done, failed)
    left = done["rows"] - done["done"]
    if done["state"] == "cancelled" or left or done["counts"]["invalid"]:
        click.get_current_context().exit(REFUSED)


def _mapping(given: tuple[str, ...]) -> dict[str, str]:
    chosen = {}
    for each in given:
        field, separator, column = each.partition("=")
        if not separator or not field:
            raise click.BadParameter("must be FIELD=COLUMN", param_hint="--mapping")
        chosen[field] = column
    return chosen


def _start(client: Client, added: dict[str, Any], body: dict[str, object]) -> None:
    """Start the import that was added; if that is refused, the file is of no use, and few are stored."""
    try:
        client.start_import(added["import_id"], body)
    except Refused as error:
        with suppress(click.ClickException):
            client.delete_import(added["import_id"])
        if error.code != "mapping-invalid":
            raise
        hint = f"Use --mapping FIELD=COLUMN. The columns of the file are: {plain(', '.join(added['columns']))}"
        raise Refused(f"{error.message}\n{hint}", code=error.code) from error


def _watch(client: Client, import_id: str, rows: int) -> dict[str, Any]:
    """Wait for the end of the import, with its progress on standard error if that is a terminal."""
    found: dict[str, Any] = {}
    with click.progressbar(
        length=rows, label="Rows", file=sys.stderr, hidden=not sys.stderr.isatty(), show_pos=True
    ) as bar:
        for found in client.watch_import(import_id):
            bar.update(found["done"] - bar.pos)
    return found


def _print_counts(done: dict[str, Any], failed: Path | None) -> None:
    for outcome, words in WORDS.items():
        count = done["counts"][outcome]
        if count or outcome == ("valid" if done["dry_run"] else "registered"):
            click.echo(f"{words}: {count:,}")
    if left := done["rows"] - done["done"]:
        click.echo(f"Without a result: {left:,}")
    if done["counts"]["invalid"] and not failed:
        click.echo("With --failed FILE, this command writes the rows that are not valid to a file.", err=True)
