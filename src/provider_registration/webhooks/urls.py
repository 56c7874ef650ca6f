"""URLs of webhooks: parsed once, in one way, and refused if they could mean something else to another parser."""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import Literal, Self
from urllib.parse import quote, urlsplit

import idna

from provider_registration.webhooks.addresses import AddressRules, IPAddress
from provider_registration.webhooks.errors import WebhookUrlRefused

Scheme = Literal["https", "http"]

MAX_URL_LENGTH = 2000
MAX_HOST_LENGTH = 253
MAX_PORT = 65535
DEFAULT_PORTS = {"https": 443, "http": 80}
_FORM = re.compile(r"(https?)://([^/?#\\@]+)(/[^#\\]*|\?[^#\\]*)?", re.IGNORECASE)
_HOST_AND_PORT = re.compile(r"(\[[^\]]*\]|[^:\[\]]+)(?::([0-9]{1,5}))?")
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")  # a last label that makes a host an IPv4 address (WHATWG URL, 3.5)
_DOT_SEGMENT = re.compile(r"/(\.|%2e){1,2}(?=/|$)", re.IGNORECASE)  # in a path
_SAFE_IN_PATH = "%/:@!$&'()*+,;=~?[]|-._"
# Names that never lead to the public internet (RFC 6761, 6762, 8375, 9476, and ICANN's decision on .internal).
INTERNAL_NAMES = ("localhost", "localdomain", "local", "internal", "home.arpa", "lan", "corp", "home", "intranet")


@dataclass(frozen=True, slots=True)
class WebhookUrl:
    """Where webhooks are sent: `host` is a name in A-labels or an IP address, `target` the path and query."""

    scheme: Scheme
    host: str
    port: int
    target: str

    @classmethod
    def parse(cls, text: str, *, rules: AddressRules, allow_http: bool) -> Self:
        """Parse a URL.

        Raises:
            WebhookUrlRefused: it is invalid, ambiguous, or visibly leads to an internal host.
        """
        if len(text) > MAX_URL_LENGTH or not text.isprintable() or " " in text:
            raise WebhookUrlRefused(f"it has more than {MAX_URL_LENGTH} characters, or spaces or control characters")
        match = _FORM.fullmatch(text)
        if match is None:
            raise WebhookUrlRefused("it must be like https://host/path, without a user, backslash or fragment")
        scheme: Scheme = "https" if match[1].lower() == "https" else "http"
        if scheme == "http" and not allow_http:
            raise WebhookUrlRefused("it must start with https://, because WEBHOOKS_ALLOW_HTTP is false")
        authority = _HOST_AND_PORT.fullmatch(match[2])
        if authority is None:
            raise WebhookUrlRefused("its host or port is invalid")
        port = int(authority[2] or DEFAULT_PORTS[scheme])
        if not 1 <= port <= MAX_PORT:
            raise WebhookUrlRefused("its port is not between 1 and 65535")
        target = quote(match[3] or "/", safe=_SAFE_IN_PATH)
        if _DOT_SEGMENT.search(target.partition("?")[0]):  # the client would remove it (RFC 3986, 5.2.4)
            raise WebhookUrlRefused("its path has a segment . or ..")
        url = cls(scheme, _host(authority[1], rules), port, target if target.startswith("/") else f"/{target}")
        if len(str(url)) > MAX_URL_LENGTH:
            raise WebhookUrlRefused(f"it has more than {MAX_URL_LENGTH} characters once it is percent-encoded")
        return url

    @classmethod
    def stored(cls, text: str) -> Self:
        """The URL in the database, which `parse` accepted earlier."""
        parts = urlsplit(text)
        scheme: Scheme = "https" if parts.scheme == "https" else "http"
        target = parts.path + (f"?{parts.query}" if "?" in text else "")
        return cls(scheme, parts.hostname or "", parts.port or DEFAULT_PORTS[scheme], target)

    @property
    def address(self) -> IPAddress | None:
        """The host if it is an IP address; names are resolved when something is sent."""
        return _address(self.host)

    @property
    def authority(self) -> str:
        """The host and, unless it is the default, the port, as in a `Host` header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def origin(self) -> str:
        """The URL without the path and query, which may be secret."""
        return f"{self.scheme}://{self.authority}"

    def __str__(self) -> str:
        return f"{self.origin}{self.target}"


def _host(text: str, rules: AddressRules) -> str:
    """The canonical host."""
    if text.startswith("["):
        host = text[1:-1]
        if not isinstance(_address(host), IPv6Address) or "%" in host:
            raise WebhookUrlRefused("its IPv6 address is invalid, or has a zone")
        host = IPv6Address(host).compressed
    else:
        host = _a_labels(text)
    address = _address(host)
    if address is None and _NUMBER.fullmatch(host.rpartition(".")[2]):
        raise WebhookUrlRefused("an IPv4 address must be written as four decimal numbers")
    if address is not None and not rules.permits(address):
        raise WebhookUrlRefused("its IP address is not public, and WEBHOOKS_ALLOWED_NETWORKS does not include it")
    if address is None and not rules.allowed and _is_internal(host):
        raise WebhookUrlRefused("its host name is internal, and WEBHOOKS_ALLOWED_NETWORKS is empty")
    return host


def _a_labels(text: str) -> str:
    """The name in lower case, with its labels as DNS has them; wide digits and dots become plain ones."""
    try:
        host = text.lower() if text.isascii() else idna.encode(text, uts46=True).decode()
    except (idna.IDNAError, UnicodeError):
        raise WebhookUrlRefused("its host name is invalid") from None
    host = host.removesuffix(".")
    if len(host) > MAX_HOST_LENGTH or not all(_LABEL.fullmatch(label) for label in host.split(".")):
        raise WebhookUrlRefused("its host name is invalid")
    return host


def _is_internal(host: str) -> bool:
    return "." not in host or any(host == name or host.endswith(f".{name}") for name in INTERNAL_NAMES)


def _address(host: str) -> IPAddress | None:
    try:
        return IPv6Address(host) if ":" in host else IPv4Address(host)
    except AddressValueError:
        return None
