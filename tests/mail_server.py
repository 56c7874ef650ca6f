"""A real mail server whose answers a test chooses."""

from __future__ import annotations

import asyncio
import logging
import ssl
import subprocess
import warnings
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

HANG, SLOW, DIE, DIE_AFTER = "hang", "accept it after a second", "die", "die after keeping it"
NEW_KEY = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2"


class Mailbox:
    """Keeps what it is sent. `answers` has the next answers to a command, then it accepts; `always` those to all."""

    def __init__(self) -> None:
        self.port = 0
        self.mails: list[EmailMessage] = []
        self.recipients: list[str] = []
        self.envelopes: list[Envelope] = []
        self.answers: dict[str, list[str]] = defaultdict(list)
        self.always: dict[str, str] = {}
        self.sessions = 0
        self.at_once = self.most_at_once = 0
        self.arrived = asyncio.Event()

    def url(self, scheme: str = "smtp", user: str = "", query: str = "?starttls=off") -> str:
        return f"{scheme}://{user}127.0.0.1:{self.port}{query}"

    def to(self, address: str) -> list[EmailMessage]:
        """The mails to one address."""
        return [mail for mail, envelope in zip(self.mails, self.envelopes, strict=True) if address in envelope.rcpt_tos]

    async def answer(self, command: str, server: SMTP) -> str | None:
        answers = self.answers[command]
        given = answers.pop(0) if answers else self.always.get(command)
        if given == HANG:
            await asyncio.sleep(3600)
        if given == SLOW:
            await asyncio.sleep(1)
        if given in (DIE, DIE_AFTER):
            server.transport.abort()
        return None if given in (SLOW, DIE_AFTER) else given

    async def handle_EHLO(self, server: SMTP, session: Session, envelope: Envelope, host: str, lines: list[str]) -> Any:  # noqa: N802
        self.sessions += 1
        session.host_name = host
        refusal = await self.answer("EHLO", server)
        return [refusal] if refusal else lines

    async def handle_MAIL(  # noqa: N802
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        del session
        if refusal := await self.answer("MAIL", server):
            return refusal
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return "250 2.1.0 fine"

    async def handle_RCPT(  # noqa: N802
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        del session, options
        if refusal := await self.answer("RCPT", server):
            return refusal
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 fine"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        del session
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            if refusal := await self.answer("DATA", server):
                return refusal
        finally:
            self.at_once -= 1
        self.envelopes.append(envelope)
        self.mails.append(
            message_from_bytes(envelope.original_content or b"", _class=EmailMessage, policy=policy.default)
        )
        self.recipients += envelope.rcpt_tos
        self.arrived.set()
        return "250 2.0.0 kept"


def authenticate(_server: SMTP, _session: Session, _envelope: Envelope, _mechanism: str, data: object) -> AuthResult:
    is_right = data == LoginPassword(b"us@er", b"pa/ss")
    return AuthResult(success=is_right, handled=False)


@asynccontextmanager
async def mailbox(
    *, tls: ssl.SSLContext | None = None, is_smtps: bool = False, port: int = 0, **options: Any
) -> AsyncIterator[Mailbox]:
    """A mail server while the block runs; with `tls`, it offers STARTTLS, or TLS from the start if `is_smtps`."""
    logging.getLogger("mail.log").setLevel(logging.CRITICAL)
    box, loop = Mailbox(), asyncio.get_running_loop()
    opened: list[asyncio.BaseTransport] = []

    def session() -> SMTP:
        with warnings.catch_warnings(action="ignore", category=UserWarning):  # of passwords without TLS
            server = SMTP(
                box,
                hostname="mail.example",
                loop=loop,
                enable_SMTPUTF8=options.get("utf8", True),
                tls_context=None if is_smtps else tls,
                require_starttls=bool(tls and not is_smtps),
                authenticator=authenticate,
                auth_required=options.get("auth", False),
                auth_require_tls=bool(tls and not is_smtps),
            )
        made = server.connection_made

        def connection_made(transport: asyncio.BaseTransport) -> None:
            opened.append(transport)
            made(transport)

        server.connection_made = connection_made
        return server

    server = await loop.create_server(session, "127.0.0.1", port, ssl=tls if is_smtps else None)
    box.port = server.sockets[0].getsockname()[1]
    try:
        yield box
    finally:
        server.close()
        for transport in opened:
            transport.abort()
        await asyncio.sleep(0)


def certificate(folder: Path, name: str) -> tuple[Path, ssl.SSLContext]:
    """A new certificate for 127.0.0.1 or another name: its file, and a server's context with it."""
    key, file = folder / "key.pem", folder / "certificate.pem"
    subject = f"subjectAltName=IP:{name}" if name[0].isdigit() else f"subjectAltName=DNS:{name}"
    command = [*NEW_KEY.split(), "-subj", "/CN=mail", "-addext", subject, "-keyout", str(key), "-out", str(file)]
    subprocess.run(command, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file, key)
    return file, context
