"""A sentence that the next page shows once: it travels in a cookie, not in an address that could be sent on.

It is sealed, so that only what this service wrote is ever shown as its own words. Codes would not do that alone: the
sentences name a company, and who was faster.
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
SECONDS = 60  # until the next page has surely come
MAX_BYTES = 1200  # of the sentence, in UTF-8; browsers keep cookies of 4096 bytes, and nginx takes heads of as many
MAX_COOKIE_LENGTH = 4096  # a longer one is none of ours

SEAL_BYTES = hashlib.sha256().digest_size

Kind = Literal["success", "info", "warning", "danger"]


class NoticeKey(bytes):
    """What notices are sealed with."""


@dataclass(frozen=True, slots=True)
class Notice:
    """What happened, in a sentence, and where to go on, if there is a place."""

    kind: Kind
    text: str
    link: Annotated[str, Field(pattern=r"^/[^/]")] | None = None
    link_text: str | None = None


NOTICE = TypeAdapter(Notice)


def leave_notice(request: Request, response: Response, notice: Notice) -> None:
    """Have the next page show a notice."""
    text = notice.text.encode()[:MAX_BYTES].decode(errors="ignore")
    value = NOTICE.dump_json(replace(notice, text=text))
    set_cookie(response, COOKIE, urlsafe_b64encode(_seal(request, value) + value).decode(), seconds=SECONDS)


def read_notice(request: Request) -> Notice | None:
    """The notice that a page before left."""
    value = read_cookie(request, COOKIE)
    if value is None or len(value) > MAX_COOKIE_LENGTH:
        return None
    try:
        sealed = urlsafe_b64decode(value)
    except ValueError:
        return None
    seal, content = sealed[:SEAL_BYTES], sealed[SEAL_BYTES:]
    if not hmac.compare_digest(seal, _seal(request, content)):
        return None
    try:
        return NOTICE.validate_json(content)
    except ValueError:  # another release wrote it
        return None


def forget_notice(response: Response) -> None:
    """A notice is shown once."""
    delete_cookie(response, COOKIE)


def _seal(request: Request, content: bytes) -> bytes:
    return hmac.digest(services_of(request).get(NoticeKey), content, "sha256")
