"""A sentence that the next page shows once: it travels in a cookie, not in an address that could be sent on."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass, replace
from typing import Annotated, Literal

from fastapi import Request
from pydantic import Field, TypeAdapter
from starlette.responses import Response

from provider_registration.pages.cookies import delete_cookie, read_cookie, set_cookie

COOKIE = "notice"
SECONDS = 60  # until the next page has surely come
MAX_LENGTH = 1500  # characters; browsers keep cookies of 4096 bytes

Kind = Literal["success", "info", "warning", "danger"]


@dataclass(frozen=True, slots=True)
class Notice:
    """What happened, in a sentence, and where to go on, if there is a place."""

    kind: Kind
    text: str
    link: Annotated[str, Field(pattern=r"^/[^/]")] | None = None
    link_text: str | None = None


NOTICE = TypeAdapter(Notice)


def leave_notice(response: Response, notice: Notice) -> None:
    """Have the next page show a notice."""
    value = NOTICE.dump_json(replace(notice, text=notice.text[:MAX_LENGTH]))
    set_cookie(response, COOKIE, urlsafe_b64encode(value).decode(), seconds=SECONDS)


def read_notice(request: Request) -> Notice | None:
    """The notice that a page before left."""
    value = read_cookie(request, COOKIE)
    if value is None:
        return None
    try:
        return NOTICE.validate_json(urlsafe_b64decode(value))
    except ValueError:  # it is not one of ours
        return None


def forget_notice(response: Response) -> None:
    """A notice is shown once."""
    delete_cookie(response, COOKIE)
