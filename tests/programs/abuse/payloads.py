"""The most expensive requests: bodies, heads, queries and paths, each with a name for the table.

Only the standard library: the attacker is a separate process that must start quickly.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from urllib.parse import quote

KIB = 1024
BODY = 64 * KIB  # the most that the service reads
HEAD = 30 * KIB  # just below the most that it reads
JSON = "application/json"
FORM = "application/x-www-form-urlencoded"
TEXT_FIELDS = ("company_name", "location", "phone", "contact_email", "username", "password", "refresh_token", "reason")
MARKS = "a" + "\u0301\u0316" * 16_000
CHOSEN = {"company_name": "a", "contact_email": "a@b.example", "products": ["apples"], "truck_count": 1}


def bodies() -> Iterator[tuple[str, str, bytes]]:
    """Name, Content-Type and body."""
    for field in TEXT_FIELDS:
        yield f"64 KiB of marks in {field}", JSON, json.dumps({field: MARKS}, ensure_ascii=False).encode()[:BODY]
        whole = json.dumps({**CHOSEN, field: MARKS[:15_000]}, ensure_ascii=False).encode()
        yield f"30 KiB of marks in {field}, whole JSON", JSON, whole
        yield f"64 KiB of marks in {field}, form", FORM, f"{field}={MARKS}".encode()[:BODY]
        yield f"many @ and dots in {field}", JSON, json.dumps({**CHOSEN, field: "a.@-" * 15_000}).encode()[:BODY]
    yield "5,000 fields", JSON, json.dumps({f"f{number}": 1 for number in range(5000)}).encode()[:BODY]
    yield "one field 5,000 times", JSON, b"{" + b",".join([b'"products":[]'] * 4500) + b"}"
    yield "an array of 15,000", JSON, json.dumps({"products": ["apples"] * 6000}).encode()
    yield "arrays 65,536 deep", JSON, b"[" * BODY
    yield "objects 13,000 deep", JSON, b'{"a":' * (BODY // 5)
    yield "a number of 65,000 digits", JSON, b'{"truck_count":' + b"9" * (BODY - 20) + b"}"
    yield "a number of 65,000 decimals", JSON, b'{"truck_count":1.' + b"9" * (BODY - 20) + b"}"
    yield "an exponent of 65,000 digits", JSON, b'{"truck_count":1e' + b"9" * (BODY - 20) + b"}"
    yield "invalid UTF-8", JSON, b'{"company_name":"' + b"\xff\xfe\xed\xa0\x80" * 10_000 + b'"}'
    yield "half surrogates", JSON, b'{"company_name":"' + b"\\ud800" * 10_000 + b'"}'
    yield "control characters", JSON, b'{"company_name":"' + b"\\u0000\\u202e\\u200b" * 3000 + b'"}'
    yield "white space", JSON, b" " * (BODY - 2) + b"{}"
    yield "no JSON", JSON, bytes(range(256)) * 255
    yield "compressed", f"{JSON}\r\nContent-Encoding: gzip", b"\x1f\x8b" + bytes(1000)
    yield "5,000 form fields", FORM, b"a=b&" * 16_000
    yield "form of % alone", FORM, b"%" * BODY
    yield "form of percent signs", FORM, b"username=" + b"%F0%9F%98%80" * 5400
    yield "numbers of /apply", FORM, b"truck_count=" + b"1,000" * 12_000 + b"&capacity_tons_per_day=" + b" t" * 200
    yield (
        "multipart of 900 parts",
        "multipart/form-data; boundary=x",
        b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n' * 1100,
    )
    yield "multipart without end", "multipart/form-data; boundary=x", b"--x\r\n" + b"a" * (BODY - 5)
    yield "multipart, long boundary", f"multipart/form-data; boundary={'x' * 20_000}", b"--x"
    yield "another type", "a/" + "b" * 20_000, b"x"
    yield "an empty body", JSON, b""


def heads() -> Iterator[tuple[str, bytes]]:
    """Name and header lines, without the line end of the last."""
    yield "cookie of backslashes", b'Cookie: a="' + b"\\\\" * (HEAD // 2) + b'"'
    yield "cookie of octal escapes", b'Cookie: __Host-notice="' + b"\\012" * (HEAD // 4) + b'"'
    yield "15,000 cookies", b"Cookie: " + b"a;" * (HEAD // 2)
    yield "a long session cookie", b"Cookie: __Host-session=" + b"a" * HEAD
    yield "a notice of nested JSON", b"Cookie: __Host-notice=" + b"W1tb" * (HEAD // 4)
    yield "Cookie in bytes", b"Cookie: __Host-visit=" + b"\xff" * 1000
    yield "7,500 header lines", b"\r\n".join([b"a:"] * 7500)
    yield "a token of 30 KiB", b"Authorization: Bearer " + b"a" * HEAD
    yield "a token of dots", b"Authorization: Bearer " + b"." * 2000
    yield "a token of nested JSON", b"Authorization: Bearer " + b"W1tb" * 500 + b".W1tb.W1tb"
    yield "Basic credentials", b"Authorization: Basic " + b"//79" * (HEAD // 4)
    yield "Authorization in bytes", b"Authorization: Bearer \xff\xfe\x80"
    yield "Accept of 30 KiB", b"Accept: " + b"text/html," * (HEAD // 10)
    yield "Accept-Encoding of 30 KiB", b"Accept-Encoding: " + b"gzip;q=0," * (HEAD // 9)
    yield "If-Match of 7,500 tags", b"If-Match: " + b'"1",' * (HEAD // 4)
    yield "If-None-Match of 30 KiB", b"If-None-Match: " + b'W/"' * (HEAD // 3)
    yield "10,000 ranges", b"Range: bytes=" + b"0-1," * (HEAD // 4)
    yield "a range of many digits", b"Range: bytes=0-" + b"9" * 20_000
    yield "traceparent", b"traceparent: 00-" + b"0" * HEAD
    yield "X-Request-ID of 30 KiB", b"X-Request-ID: " + b"a" * HEAD
    yield "10,000 forwarders", b"X-Forwarded-For: " + b"::," * (HEAD // 3)
    yield "a forwarder's port", b"X-Forwarded-For: 1.2.3.4:" + b"9" * 5000
    yield "X-Forwarded-Proto", b"X-Forwarded-Proto: " + b"https" * 5000
    yield "an origin that is no URL", b"Origin: http://["
    yield "an origin of 30 KiB", b"Origin: http://" + b"a." * (HEAD // 2)
    yield "an origin in bytes", b"Origin: http://\xbd\xe2\x84"
    yield "a site unknown", b"Sec-Fetch-Site: " + b"x" * HEAD
    yield "a second Host", b"Host: b"
    yield (
        "CORS",
        b"Origin: null\r\nAccess-Control-Request-Method: GET\r\nAccess-Control-Request-Headers: " + b"a," * 9000,
    )
    yield (
        "an upgrade",
        b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: eA==",
    )
    yield "an upgrade to h2c", b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk"
    yield "a length of 5,000 digits", b"Content-Length: " + b"9" * 5000
    yield "a negative length", b"Content-Length: -1"
    yield "two lengths", b"Content-Length: 1\r\nContent-Length: 2"
    yield "length and chunks", b"Content-Length: 5\r\nTransfer-Encoding: chunked"
    yield "an unknown coding", b"Transfer-Encoding: gzip"
    yield "expectation", b"Expect: 100-continue"


def queries() -> Iterator[tuple[str, str]]:
    """Name and query."""
    yield "7,000 parameters", "a=b&" * 7000
    yield "7,000 names", "&".join(f"a{number}" for number in range(4000))
    yield "a query of percent signs", "%ff" * (HEAD // 3)
    yield "a long search", "q=" + quote("\u0301\u0316") * 2000
    yield "a long cursor", "cursor=" + "A" * HEAD
    yield "where to go next", "next=/admin" + "/a" * 12_000
    yield "where to go next, repeatedly", "next=/admin/a" + "-/" * 480 + "%00"
    yield "numbers", "limit=" + "9" * 5000 + "&offset=" + "9" * 5000
    yield "semicolons and brackets", "a[b][c]=1;" * 2500


def paths() -> Iterator[tuple[str, str]]:
    """Name and path; values of the routes' own parameters are in `routes`."""
    yield "a path of 30 KiB", "/" + "a" * HEAD
    yield "a path of 15,000 slashes", "/" * (HEAD // 2)
    yield "a path of dots", "/static" + "/.." * 8000
    yield "a path of percent signs", "/" + "%ff" * 10_000
    yield "a path of wrong percents", "/" + "%zz" * 10_000
    yield "a path of NULs", "/applications/" + "%00" * 8000
    yield "a secret of 30 KiB", "/applications/" + "s" * HEAD
    yield "a secret of marks", "/applications/" + quote("\u0301\u0316") * 2400
    yield "a host in the path", "http://" + "a" * 1000 + "/"
    yield "a host alone in the path", "http://a"
    yield "an asterisk", "*"
    yield "an authority", "localhost:443"
