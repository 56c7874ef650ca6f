"""Compresses pages with gzip without leaking their content through their length.

BREACH compares the lengths of compressed pages that hold a secret beside text that an attacker chose. Here only
responses to forms do, and other sites cannot send our forms (`cross_site`). A file name of random length in gzip's
header hides small differences (Heal the BREACH, as in Django's GZipMiddleware).
"""

from __future__ import annotations

import secrets
import struct
import zlib

from fastapi import Request

MIN_BYTES = 1000  # shorter pages gain nothing
MAX_RANDOM_BYTES = 100
LEVEL = 6
_MAGIC, _DEFLATE, _HAS_NAME, _UNKNOWN_SYSTEM = b"\x1f\x8b", 8, 8, 255  # RFC 1952 section 2.3
_LETTERS = bytes.maketrans(b"\0", b"a")  # a NUL byte would end the name


def accepts_gzip(request: Request) -> bool:
    """Whether the client accepts gzip (RFC 9110 section 12.5.3)."""
    codings = request.headers.get("accept-encoding", "").lower().split(",")
    accepted = [coding.partition(";") for coding in codings]
    return any(
        name.strip() == "gzip" and parameter.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
        for name, _, parameter in accepted
    )


def compress(content: bytes) -> bytes:
    """Compress to a gzip member."""
    name = secrets.token_bytes(secrets.randbelow(MAX_RANDOM_BYTES + 1)).translate(_LETTERS)
    deflate = zlib.compressobj(LEVEL, wbits=-zlib.MAX_WBITS)
    head = _MAGIC + struct.pack("<BBIBB", _DEFLATE, _HAS_NAME, 0, 0, _UNKNOWN_SYSTEM) + name + b"\0"
    tail = struct.pack("<II", zlib.crc32(content), len(content) & 0xFFFFFFFF)
    return head + deflate.compress(content) + deflate.flush() + tail
