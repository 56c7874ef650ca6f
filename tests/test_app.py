"""The application as a whole: its middleware."""

from __future__ import annotations

import httpx

from provider_registration.app import create_app
from provider_registration.web.body import MAX_BODY_BYTES
from tests.service import make_settings

ORIGIN = "https://other.example"


async def test_a_request_too_many_is_refused_unread_with_a_page_that_has_all_an_answer_has():
    settings = make_settings(
        "postgresql://x:x@127.0.0.1/x",
        "http://127.0.0.1",
        admin_pages=True,
        rate_limit_default="1/day",
        cors_allowed_origins=ORIGIN,
    )
    headers = {"Accept": "text/html", "Origin": ORIGIN}
    transport = httpx.ASGITransport(create_app(settings))
    async with httpx.AsyncClient(transport=transport, base_url="http://test", headers=headers) as client:
        assert (await client.get("/admin/nothing")).status_code == 404
        refused = await client.post("/admin/nothing", content=b"x" * (MAX_BODY_BYTES + 1))
        preflight = await client.options("/candidates", headers={"Access-Control-Request-Method": "POST"})

    assert refused.status_code == 429
    assert refused.headers["Content-Type"].startswith("text/html")
    assert refused.headers["X-Request-ID"] in refused.text
    assert refused.headers["Access-Control-Allow-Origin"] == ORIGIN
    assert refused.headers["X-Content-Type-Options"] == "nosniff"
    assert preflight.status_code == 200
    assert preflight.headers["X-Request-ID"]
