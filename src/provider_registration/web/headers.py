"""Headers that every answer carries, as OWASP's REST Security Cheat Sheet advises for APIs."""

from __future__ import annotations

from starlette.datastructures import MutableHeaders

SECURITY_HEADERS = {
    "Cache-Control": "no-store",  # answers hold people's addresses; no cache keeps them
    "Content-Security-Policy": "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "accelerometer=(), camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "Referrer-Policy": "no-referrer",
    "Strict-Transport-Security": "max-age=31536000; includeSubDomains",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


def add_security_headers(headers: MutableHeaders) -> None:
    """Add what is not set yet: a page may have a Content-Security-Policy of its own."""
    for name, value in SECURITY_HEADERS.items():
        headers.setdefault(name, value)
