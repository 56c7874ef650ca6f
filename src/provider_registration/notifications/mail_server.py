"""The mail server of SMTP_URL. A connection carries several e-mails, one after another."""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from urllib.parse import unquote, urlsplit

from aiosmtplib import SMTP, SMTPException, SMTPResponseException
from aiosmtplib.protocol import SMTPProtocol

from provider_registration.notifications.composing import Mail
from provider_registration.notifications.errors import (
    MailDeferred,
    MailError,
    MailRefused,
    MailServerUnavailable,
    MailUncertain,
)

CONNECTING_SECONDS = 60.0  # until signed in
TIMEOUT = 20.0  # for each command
ACCEPTING_SECONDS = 120.0  # for the reply to a whole message: servers check it first (RFC 5321 section 4.5.3.2.6)
LEASE_SECONDS = 300.0  # longer than an e-mail can take, from its claim to its outcome
START_INPUT, PERMANENT = 354, 500
SUCCESSES, FAILURES, REPLIES = range(200, 300), range(400, 600), range(200, 600)  # RFC 5321 section 4.2.1
ENHANCED_CODE = re.compile(r"[245]\.\d{1,3}\.\d{1,3}(?!\S)")  # RFC 3463
NO_STARTTLS = "starttls=off"  # query of SMTP_URL


class MailServer:
    """Connects to the server of SMTP_URL: `smtps://` with TLS, `smtp://` with STARTTLS unless `?starttls=off`."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._host = parts.hostname or ""
        self._is_tls = parts.scheme == "smtps"
        self._starttls = not self._is_tls and parts.query != NO_STARTTLS
        self._port = parts.port or (465 if self._is_tls else 587)
        self._user = unquote(parts.username) if parts.username else None
        self._password = unquote(parts.password or "")
        self._tls = ssl.create_default_context() if self._is_tls or self._starttls else None  # reads the files once

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[Connection]:
        """A connection, signed in if SMTP_URL has a user; it ends with the block.

        Raises:
            MailServerUnavailable: there is none.
        """
        smtp = SMTP(
            hostname=self._host,
            port=self._port,
            username=self._user,
            password=self._password,
            use_tls=self._is_tls,
            start_tls=self._starttls,
            tls_context=self._tls,
            timeout=TIMEOUT,
        )
        try:
            async with asyncio.timeout(CONNECTING_SECONDS):
                await smtp.connect()
                if smtp.is_ehlo_or_helo_needed:
                    await smtp.ehlo()
        except (SMTPException, OSError, TimeoutError, ValueError) as error:  # ValueError: no resolver accepts the name
            smtp.close()
            raise MailServerUnavailable(_reason(error)) from error
        try:
            yield Connection(smtp)
            with suppress(SMTPException, OSError):
                await smtp.quit(timeout=1)
        finally:
            smtp.close()


class Connection:
    """An open connection to the mail server."""

    def __init__(self, smtp: SMTP) -> None:
        self._smtp = smtp

    @property
    def is_open(self) -> bool:
        """Whether it can carry another e-mail."""
        return self._smtp.is_connected

    def close(self) -> None:
        """Let it carry no other e-mail."""
        self._smtp.close()

    async def send(self, mail: Mail) -> None:
        """Send an e-mail.

        Raises:
            MailDeferred, MailRefused, MailUncertain: it was not, or may not have been, accepted. If the task is
                cancelled after the message was sent, that too is MailUncertain, so that the outcome can be recorded.
        """
        if mail.needs_utf8 and not self._smtp.supports_extension("smtputf8"):
            raise MailRefused("the mail server does not accept e-mail addresses beyond ASCII (SMTPUTF8)")
        protocol = await self._start(mail)
        try:
            protocol.write(mail.content.removesuffix(b"\r\n").replace(b"\r\n.", b"\r\n..") + b"\r\n.\r\n")
            code, text = await protocol.read_response(ACCEPTING_SECONDS)
        except (Exception, asyncio.CancelledError) as error:
            self.close()
            raise MailUncertain(f"no reply to the message: {type(error).__name__}") from error
        if code in FAILURES:
            raise _error_of("the message", code, text)
        if code not in SUCCESSES:
            self.close()
            raise MailUncertain("no valid reply to the message")

    async def _start(self, mail: Mail) -> SMTPProtocol:
        """Everything before the message itself: until here the server cannot have accepted it."""
        smtp, command = self._smtp, "MAIL"
        options, encoding = (["SMTPUTF8"], "utf-8") if mail.needs_utf8 else ([], "ascii")
        try:
            await smtp.mail(mail.sender, options=options, encoding=encoding)
            command = "RCPT"
            await smtp.rcpt(mail.recipient, encoding=encoding)
            command = "DATA"
            code, text = await smtp.execute_command(b"DATA")
            if code == START_INPUT and smtp.protocol is not None and smtp.protocol.is_connected:
                return smtp.protocol
        except SMTPResponseException as error:
            code, text = error.code, error.message
        except ValueError as error:
            raise MailRefused("the e-mail address cannot be used in SMTP") from error
        except (SMTPException, OSError) as error:
            smtp.close()
            raise MailDeferred(f"no reply to {command}: {type(error).__name__}") from error
        if code not in REPLIES:
            smtp.close()
            raise MailDeferred(f"no valid reply to {command}")
        with suppress(SMTPException, OSError):
            await smtp.rset()  # for the next e-mail
        raise _error_of(command, code, text)


def _error_of(command: str, code: int, text: str) -> MailError:
    """The error for a reply; its text may repeat the address, so only its codes are kept."""
    enhanced = ENHANCED_CODE.match(text)
    reason = f"{code}{f' {enhanced[0]}' if enhanced else ''} to {command}"
    return MailRefused(reason, code) if code >= PERMANENT else MailDeferred(reason, code)


def _reason(error: Exception) -> str:
    """Why there is no connection, without what the server wrote."""
    if isinstance(error, SMTPResponseException):
        return f"{type(error).__name__}: {error.code}"
    cause = error.__cause__ if isinstance(error.__cause__, OSError) else error
    return f"{type(cause).__name__}: {cause}"
