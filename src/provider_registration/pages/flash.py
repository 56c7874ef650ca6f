"""Flash messages: a sentence that the next page shows once, kept in a cookie and not in a URL that could be shared.

The cookie is authenticated with an HMAC, so a page shows only messages that this service wrote. A fixed set of codes
would not do: the sentences name companies and users.
"""

from __future__ import annotations

import hashlib
import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass, replace
from typing import Annotated, Literal

from fastapi import Request
from pydantic import Field, TypeAdapter
from starlette.responses import Response

from provider_registration.pages.cookies import delete_cookie, read_cookie, set_cookie
from provider_registration.web.services import services_of

COOKIE = "notice"
SECONDS = 60  # long enough to load the next page
MAX_BYTES = 1200  # of the sentence in UTF-8; browsers and nginx limit a cookie to 4096 bytes
MAX_COOKIE_LENGTH = 4096  # this service sets none that is longer

MAC_BYTES = hashlib.sha256().digest_size

Kind = Literal["success", "info", "warning", "danger"]


class FlashKey(bytes):
    """The HMAC key of flash messages."""


@dataclass(frozen=True, slots=True)
class FlashMessage:
    """A sentence that says what happened, and an optional link to the next step."""

    kind: Kind
    text: str
    link: Annotated[str, Field(pattern=r"^/[^/]")] | None = None
    link_text: str | None = None


MESSAGE = TypeAdapter(FlashMessage)


def set_flash(request: Request, response: Response, message: FlashMessage) -> None:
    """Show a message on the next page."""
    text = message.text.encode()[:MAX_BYTES].decode(errors="ignore")
    value = MESSAGE.dump_json(replace(message, text=text))
    set_cookie(response, COOKIE, urlsafe_b64encode(_mac(request, value) + value).decode(), seconds=SECONDS)


def read_flash(request: Request) -> FlashMessage | None:
    """Read the message that an earlier response set."""
    value = read_cookie(request, COOKIE)
    if value is None or len(value) > MAX_COOKIE_LENGTH:
        return None
    try:
        decoded = urlsafe_b64decode(value)
    except ValueError:
        return None
    mac, content = decoded[:MAC_BYTES], decoded[MAC_BYTES:]
    if not hmac.compare_digest(mac, _mac(request, content)):
        return None
    try:
        return MESSAGE.validate_json(content)
    except ValueError:  # another release wrote it
        return None


def clear_flash(response: Response) -> None:
    """Delete the message: it is shown once."""
    delete_cookie(response, COOKIE)


def _mac(request: Request, content: bytes) -> bytes:
    return hmac.digest(services_of(request).get(FlashKey), content, "sha256")
