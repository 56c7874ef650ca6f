"""The caught e-mails of `run`: as JSON, and on pages that run nothing of theirs."""

from __future__ import annotations

import httpx
import pytest
from starlette.applications import Starlette

from provider_registration.local.background_server import serve_in_background
from provider_registration.local.mails import MAX_MAILS, Mails, catching
from provider_registration.notifications.composing import Mail
from provider_registration.notifications.mail_server import MailServer
from tests.ports import a_port

CONTENT = (
    "From: supply@supply.example\r\nTo: {to}\r\nSubject: <b>Hello</b> & welcome\r\nMIME-Version: 1.0\r\n"
    "Content-Type: multipart/alternative; boundary=x\r\n\r\n--x\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n"
    "Añadir <i>text</i>\r\n--x\r\nContent-Type: text/html; charset=utf-8\r\n\r\n"
    '<html><head></head><body><a href="https://supply.example/x">Go</a><script>alert(1)</script></body></html>\r\n--x--\r\n'
)


@pytest.fixture
async def box():
    """Sends mails to the catcher, and asks for them."""
    mails, port = Mails(), a_port()
    async with (
        catching(mails, port),
        serve_in_background(Starlette(routes=mails.routes())) as url,
        httpx.AsyncClient(base_url=url) as client,
    ):

        async def send(*recipients):
            async with MailServer(f"smtp://127.0.0.1:{port}?starttls=off").connect() as connection:
                for to in recipients:
                    await connection.send(Mail("supply@supply.example", to, CONTENT.format(to=to).encode(), True))

        client.send_mails = send
        yield client


async def test_caught_mails_are_listed_with_both_parts(box):
    await box.send_mails("ana@huerta.example", "josé@huerta.example")

    found = (await box.get("/sandbox/mails")).json()
    assert found["total"] == 2
    [one] = (await box.get("/sandbox/mails", params={"to": "josé@huerta.example"})).json()["mails"]
    assert (one["number"], one["recipients"]) == (2, ["josé@huerta.example"])
    assert one["headers"]["Subject"] == "<b>Hello</b> & welcome"
    assert "Añadir <i>text</i>" in one["text"]
    assert "https://supply.example/x" in one["html"]


async def test_the_pages_show_mails_as_text_and_their_html_without_scripts(box):
    assert "None yet" in (await box.get("/mails")).text
    await box.send_mails("ana@huerta.example")

    listed, shown, inner = [(await box.get(path)) for path in ("/mails", "/mails/1", "/mails/1/html")]
    for page in (listed, shown):
        assert "&lt;b&gt;Hello&lt;/b&gt; &amp; welcome" in page.text
    assert "Añadir &lt;i&gt;text&lt;/i&gt;" in shown.text
    assert 'sandbox="allow-top-navigation-by-user-activation"' in shown.text
    assert '<base target="_top">' in inner.text
    assert inner.headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert (await box.get("/mails/2")).status_code == 404


async def test_only_the_last_mails_are_kept(box, monkeypatch):
    await box.send_mails(*["ana@huerta.example"] * (MAX_MAILS + 1))

    numbers = [mail["number"] for mail in (await box.get("/sandbox/mails")).json()["mails"]]
    assert (len(numbers), numbers[0], numbers[-1]) == (MAX_MAILS, 2, MAX_MAILS + 1)
