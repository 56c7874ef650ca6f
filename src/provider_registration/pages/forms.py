"""Forms that pages post, and the proof that a page of ours posted them."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import Depends, Request

from provider_registration.pages.errors import CrossSiteRequest
from provider_registration.web.body import form_fields, media_type_of
from provider_registration.web.paths import public_url
from provider_registration.web.problems import UnsupportedMediaType

FORM = "application/x-www-form-urlencoded"
TOKEN_FIELD = "form_token"  # noqa: S105 - a field's name
DIGEST_BYTES = hashlib.sha256().digest_size
OWN_SITES = ("same-origin", "none")  # none: the person did it by hand, as by going back


@dataclass(frozen=True, slots=True)
class Form:
    """What was typed and chosen. A field may come several times, as checkboxes of one name do."""

    fields: Mapping[str, list[str]]

    def get(self, name: str, default: str = "") -> str:
        """The first value of a field."""
        return self.fields.get(name, [default])[0]

    def all(self, name: str) -> list[str]:
        """Every value of a field."""
        return self.fields.get(name, [])


async def read_form(request: Request) -> Form:
    """The form of a request from a page of this host.

    Raises:
        CrossSiteRequest: it comes from another site's page.
        UnsupportedMediaType, InvalidRequest: it is no form.
    """
    refuse_other_sites(request)
    if media_type_of(request) != FORM:
        raise UnsupportedMediaType(FORM)
    fields: dict[str, list[str]] = {}
    for name, value in form_fields(await request.body()):
        fields.setdefault(name, []).append(value)
    return Form(fields)


FormDep = Annotated[Form, Depends(read_form)]


def refuse_other_sites(request: Request) -> None:
    """Believe what the browser says of where a request comes from: pages cannot forge these headers.

    Who sends neither header is no browser, and holds no cookie that somebody else could use.

    Raises:
        CrossSiteRequest: it comes from another site's page.
    """
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        if site not in OWN_SITES:
            raise CrossSiteRequest
        return
    origin = request.headers.get("origin")
    is_ours = origin is None or _host_of(origin) == request.headers.get("host")
    if not is_ours and origin != public_url(request):  # a gateway may ask for another host than the browser does
        raise CrossSiteRequest


def _host_of(origin: str) -> str | None:
    try:
        return urlsplit(origin).netloc
    except ValueError:  # such as http://[
        return None


def form_token(secret: str) -> str:
    """What forms of the session with this secret carry, another one each time; it does not lead back to the secret.

    A mask, and what it makes of the digest: no secret on compressed pages stays the same, to be guessed at.
    """
    mask = secrets.token_bytes(DIGEST_BYTES)
    return (mask + _masked(_digest(secret), mask)).hex()


def check_form_token(form: Form, secret: str | None) -> None:
    """Make sure that a form was made for the session with this secret.

    Raises:
        CrossSiteRequest: it was not.
    """
    try:
        token = bytes.fromhex(form.get(TOKEN_FIELD))
    except ValueError:
        raise CrossSiteRequest from None
    mask, masked = token[:DIGEST_BYTES], token[DIGEST_BYTES:]
    if not secret or len(token) != 2 * DIGEST_BYTES or not hmac.compare_digest(masked, _masked(_digest(secret), mask)):
        raise CrossSiteRequest


def _digest(secret: str) -> bytes:
    return hmac.digest(secret.encode(), b"form token", "sha256")


def _masked(digest: bytes, mask: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(digest, mask, strict=True))
