"""Why an e-mail was not delivered. No error text has an e-mail address: servers repeat it in their replies."""

from __future__ import annotations


class MailServerUnavailable(Exception):
    """The server cannot be used for any e-mail: no connection, no TLS, or no sign-in."""


class MailError(Exception):
    """One e-mail was not delivered; `status` is the server's reply code, if it replied."""

    def __init__(self, reason: str, status: int | None = None) -> None:
        super().__init__(reason)
        self.status = status


class MailDeferred(MailError):
    """Not accepted now (4xx), or no valid reply before the message was sent: it can be sent again."""


class MailRefused(MailError):
    """Refused for good (5xx)."""


class MailUncertain(MailError):
    """No valid reply after the message was sent: it may have been accepted."""
