"""Catches the e-mails of `run` instead of sending them, and shows them."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email import message_from_bytes, policy
from email.message import EmailMessage
from html import escape

from aiosmtpd.smtp import SMTP, Envelope, Session
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse
from starlette.routing import Route

HOST = "127.0.0.1"
MAX_MAILS = 1000
# The page of an e-mail shows its HTML in a frame without scripts; its links open in the whole window.
FRAME_HEADERS = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'"}
PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark"><title>{title}</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }}
table {{ border-collapse: collapse; width: 100%; }} td, th {{ text-align: left; padding: 0.3rem 0.8rem 0.3rem 0; }}
iframe {{ width: 100%; height: 34rem; border: 1px solid #8886; border-radius: 8px; }} pre {{ white-space: pre-wrap; }}
</style></head><body><h1>{title}</h1>{content}</body></html>
"""


@dataclass(frozen=True, slots=True)
class CaughtMail:
    """An e-mail that was caught; `number` counts from 1."""

    number: int
    time: datetime
    recipients: list[str]
    message: EmailMessage

    def part(self, kind: str) -> str:
        """The text of a part: `plain` or `html`; empty if there is none."""
        body = self.message.get_body((kind,))
        return str(body.get_content()).replace("\r\n", "\n") if body else ""

    def to_json(self) -> dict[str, object]:
        """The e-mail for `GET /sandbox/mails`."""
        return {
            "number": self.number,
            "time": self.time.isoformat().replace("+00:00", "Z"),
            "recipients": self.recipients,
            "headers": {name: str(value) for name, value in self.message.items()},
            "text": self.part("plain"),
            "html": self.part("html"),
        }


class Mails:
    """The last MAX_MAILS e-mails; also the handler of aiosmtpd's server."""

    def __init__(self) -> None:
        self.caught: deque[CaughtMail] = deque(maxlen=MAX_MAILS)
        self._count = 0

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802 - aiosmtpd's
        """Keep an e-mail."""
        content = envelope.original_content or b""
        message = message_from_bytes(content, _class=EmailMessage, policy=policy.default)
        self._count += 1
        self.caught.append(CaughtMail(self._count, datetime.now(UTC), list(envelope.rcpt_tos), message))
        return "250 2.0.0 caught"

    def routes(self) -> list[Route]:
        """The routes that show them."""
        return [
            Route("/sandbox/mails", self.list_mails),
            Route("/mails", self.show_mails),
            Route("/mails/{number:int}", self.show_mail),
            Route("/mails/{number:int}/html", self.show_html),
        ]

    async def list_mails(self, request: Request) -> JSONResponse:
        """Every e-mail, oldest first; `?to=` selects those to one e-mail address."""
        to = request.query_params.get("to")
        found = [mail.to_json() for mail in self.caught if to is None or to in mail.recipients]
        return JSONResponse({"total": len(found), "mails": found})

    async def show_mails(self, _request: Request) -> HTMLResponse:
        """The page with all e-mails, newest first."""
        rows = "".join(
            f"<tr><td>{mail.time:%H:%M:%S}</td><td>{escape(', '.join(mail.recipients))}</td>"
            f'<td><a href="/mails/{mail.number}">{escape(str(mail.message["Subject"]))}</a></td></tr>'
            for mail in reversed(self.caught)
        )
        none = "<p>None yet: apply, or decide on an application. Reload this page after a few seconds.</p>"
        head = "<tr><th>Time (UTC)</th><th>To</th><th>Subject</th></tr>"
        return HTMLResponse(PAGE.format(title="E-mails", content=f"<table>{head}{rows}</table>" if rows else none))

    async def show_mail(self, request: Request) -> HTMLResponse:
        """The page of one e-mail: headers, HTML and text."""
        mail = self._find(request)
        headers = "".join(
            f"<tr><th>{escape(name)}</th><td>{escape(str(value))}</td></tr>" for name, value in mail.message.items()
        )
        frame = (
            f'<iframe src="/mails/{mail.number}/html" title="HTML" sandbox="allow-top-navigation-by-user-activation">'
            "</iframe>"
        )
        content = (
            f'<p><a href="/mails">All e-mails</a></p><table>{headers}</table><h2>HTML</h2>{frame}'
            f"<h2>Text</h2><pre>{escape(mail.part('plain'))}</pre>"
        )
        return HTMLResponse(PAGE.format(title=escape(str(mail.message["Subject"])), content=content))

    async def show_html(self, request: Request) -> HTMLResponse:
        """The HTML of one e-mail, whose links open outside the frame."""
        html = self._find(request).part("html").replace("<head>", '<head><base target="_top">', 1)
        return HTMLResponse(html, headers=FRAME_HEADERS)

    def _find(self, request: Request) -> CaughtMail:
        for mail in self.caught:
            if mail.number == request.path_params["number"]:
                return mail
        raise HTTPException(404)


@asynccontextmanager
async def catching(mails: Mails, port: int) -> AsyncIterator[None]:
    """Catch what is sent to a port of this machine while the block runs, without TLS.

    Raises:
        OSError: the port is taken.
    """
    logging.getLogger("mail.log").setLevel(logging.WARNING)  # aiosmtpd would log every command, with its addresses
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: SMTP(mails, hostname="localhost", enable_SMTPUTF8=True, loop=loop), HOST, port
    )
    async with server:
        yield
