"""Security headers of every response, as OWASP's REST Security Cheat Sheet recommends; and `Retry-After` of others."""

from __future__ import annotations

import time
from email.utils import parsedate_to_datetime
from functools import cache

RawHeaders = list[tuple[bytes, bytes]]  # names in lower case, as ASGI has them

SECURITY_HEADERS = {
    "Cache-Control": "no-store",  # responses contain personal data
    "Content-Security-Policy": "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "accelerometer=(), camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "Referrer-Policy": "no-referrer",
    "Strict-Transport-Security": "max-age=31536000; includeSubDomains",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
RAW_SECURITY_HEADERS: RawHeaders = [(name.lower().encode(), value.encode()) for name, value in SECURITY_HEADERS.items()]
SECURITY_NAMES = frozenset(name for name, _ in RAW_SECURITY_HEADERS)


def add_security_headers(headers: RawHeaders) -> None:
    """Add the headers that are not set yet: a page may set its own Content-Security-Policy."""
    headers += _without(SECURITY_NAMES.intersection([name for name, _ in headers]))


@cache  # of a few combinations; three times as fast
def _without(names: frozenset[bytes]) -> RawHeaders:
    return [header for header in RAW_SECURITY_HEADERS if header[0] not in names]


def retry_after_seconds(value: str) -> float:
    """Seconds of a `Retry-After` header, 0 if it is missing or invalid (RFC 9110 section 10.2.3)."""
    if value.isdecimal():
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, OverflowError):  # the latter for a year or offset too large for a C integer
        return 0.0
