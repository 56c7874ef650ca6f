"""`provider-registration candidates`: list, read and decide, over the API."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from uuid import UUID

import click

from provider_registration.remote.access import Access, access_options, json_option, plain, print_json
from provider_registration.remote.client import Client

MAX_LISTED = 100_000
COLUMNS = ("candidate_id", "status", "created_at", "company_name")
VERSION = re.compile(r"[0-9]{1,10}")

if_match_option = click.option("--if-match", metavar="VERSION", help="refuse if the candidate has another version")
idempotency_key_option = click.option(
    "--idempotency-key", metavar="KEY", help="that of an earlier try whose response was lost"
)
notify_option = click.option("--notify/--no-notify", default=True, help="send the company an e-mail, or do not")
yes_option = click.option("--yes", is_flag=True, help="do not ask for confirmation")
candidate_argument = click.argument("candidate_id", type=click.UUID)


@click.group()
@access_options
@click.pass_context
def candidates(context: click.Context, url: str | None, api_key_file: Path | None) -> None:
    """List, read and decide on candidates, over the API of a running service.

    Exit codes: 0 done, 1 refused, 2 wrong usage, 3 no response, or not one of this service.
    """
    context.obj = Access(url, api_key_file)


@candidates.command("list")
@click.option("--status", help="only candidates with this status, such as pending")
@click.option("--product", help="only candidates that deliver this product, such as apples")
@click.option("--filter", "filters", multiple=True, metavar="NAME=VALUE", help="another query parameter of the API")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, MAX_LISTED), help="maximum candidates")
@json_option
@click.pass_obj
def list_command(
    access: Access, /, status: str | None, product: str | None, filters: tuple[str, ...], limit: int, *, as_json: bool
) -> None:
    """List candidates, newest first."""
    query = {name: value for name, value in (("status", status), ("product", product)) if value is not None}
    for each in filters:
        name, separator, value = each.partition("=")
        if not separator:
            raise click.BadParameter("must be NAME=VALUE", param_hint="--filter")
        query[name] = value
    found = access.open().candidates(query, limit)
    if as_json:
        print_json(list(found))
        return
    for candidate in found:
        click.echo("  ".join(plain(candidate[column]) for column in COLUMNS))


@candidates.command()
@candidate_argument
@json_option
@click.pass_obj
def show(access: Access, /, candidate_id: UUID, *, as_json: bool) -> None:
    """Print the record of a candidate."""
    candidate, _ = access.open().candidate(str(candidate_id))
    if as_json:
        print_json(candidate)
    else:
        _print_record(candidate)


@candidates.command()
@candidate_argument
@if_match_option
@idempotency_key_option
@notify_option
@yes_option
@json_option
@click.pass_obj
def approve(access: Access, /, candidate_id: UUID, *, as_json: bool, **how: Any) -> None:  # noqa: ANN401 - click's
    """Approve a candidate, which creates its provider in billing.

    Without --if-match, the version is that of the record shown before the question.
    """
    decided = _decide(access.open(), "approve", candidate_id, {}, **how)
    if as_json:
        print_json(decided)
    else:
        click.echo(f"Approved; the provider in billing is {decided['provider_id']}.")


@candidates.command()
@candidate_argument
@click.option("--reason", help="shown to the company")
@if_match_option
@idempotency_key_option
@notify_option
@yes_option
@json_option
@click.pass_obj
def reject(access: Access, /, candidate_id: UUID, *, reason: str | None, as_json: bool, **how: Any) -> None:  # noqa: ANN401 - click's
    """Reject a candidate, with or without a reason.

    Without --if-match, the version is that of the record shown before the question.
    """
    decided = _decide(access.open(), "reject", candidate_id, {"reason": reason} if reason is not None else {}, **how)
    if as_json:
        print_json(decided)
    else:
        click.echo("Rejected.")


def _decide(
    client: Client,
    decision: str,
    candidate_id: UUID,
    body: dict[str, object],
    *,
    if_match: str | None,
    idempotency_key: str | None,
    notify: bool,
    yes: bool,
) -> dict[str, Any]:
    """Show the candidate, ask, and decide on what was shown."""
    candidate, tag = client.candidate(str(candidate_id))
    if if_match is not None:
        tag = f'"{if_match}"' if VERSION.fullmatch(if_match) else if_match
    if not yes:
        _print_record(candidate, to_standard_error=True)
        click.confirm(f"{decision.capitalize()} this candidate?", abort=True, err=True)
    sent = body if notify else {**body, "notify": False}
    return client.decide(decision, str(candidate_id), sent, if_match=tag, key=idempotency_key)


def _print_record(candidate: dict[str, Any], *, to_standard_error: bool = False) -> None:
    width = max(map(len, candidate))
    for name, value in candidate.items():
        if value is not None:
            click.echo(f"{name:<{width}}  {plain(value)}", err=to_standard_error)
