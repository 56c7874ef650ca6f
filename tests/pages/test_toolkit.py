"""The toolkit of the HTML pages: forms from other sites, static files, flash messages, error pages."""

from __future__ import annotations

import gzip
import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from datetime import timedelta

import httpx
import pytest
from fastapi import Request
from starlette.responses import Response

from provider_registration.approvals.errors import ApprovalFailed
from provider_registration.candidates.errors import CandidateChanged, VersionMismatch
from provider_registration.pages import rendering
from provider_registration.pages.cookies import PREFIX
from provider_registration.pages.cross_site import CrossSiteGuard
from provider_registration.pages.error_pages import ErrorPages
from provider_registration.pages.flash import COOKIE, FlashKey, FlashMessage, read_flash, set_flash
from provider_registration.pages.forms import FormDep
from provider_registration.pages.rendering import Renderer, duration
from provider_registration.pages.router import RendererDep
from provider_registration.pages.router import router as pages_router
from provider_registration.web.error_handlers import install_error_handlers
from provider_registration.web.openapi import EXAMPLE_ID
from provider_registration.web.paths import PublicUrl
from provider_registration.web.problems import status_of
from provider_registration.web.services import Application

SIGNED_IN = "__Host-session=a-secret"
HOST = "supply.example"
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
BROWSER = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
REFUSED_FORMS = [ApprovalFailed("it is broken"), CandidateChanged(EXAMPLE_ID), VersionMismatch(EXAMPLE_ID, 2)]
PUBLIC_URL = "https://apply.example"  # the URL at the gateway, which sends HOST


@pytest.fixture(scope="module")
def app():
    app, renderer = Application(), Renderer()
    app.services.add(renderer, PublicUrl(PUBLIC_URL), FlashKey(b"a key"))
    app.include_router(pages_router)
    install_error_handlers(app)

    @app.post("/here/echo")
    async def echo(form: FormDep):
        return form.fields

    @app.post("/here/leave")
    async def leave(_form: FormDep, renderer: RendererDep, request: Request):
        page = renderer.page(request, "pages/base.html")
        set_flash(request, page, FlashMessage("success", "Obst & Söhne <GmbH> was approved."))
        return page

    @app.get("/here/page")
    async def page(renderer: RendererDep, request: Request):
        return renderer.page(request, "pages/base.html")

    @app.post("/here/failing/{status}")
    async def fail(status: int):
        [error] = [each for each in REFUSED_FORMS if status_of(each) == status]
        raise error

    @app.get("/here/broken")
    @app.get("/elsewhere")
    async def broken():
        error = ApprovalFailed("<b>it</b> is broken")
        error.retry_after = 7
        raise error

    app.add_middleware(CrossSiteGuard, below=["/here"], public_url=PUBLIC_URL)
    app.add_middleware(ErrorPages, renderer=renderer, root_path="", homes={"/here": "/here/start"})
    return app


@pytest.fixture
async def client(app):
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url=f"https://{HOST}", headers=BROWSER) as client:
        yield client


async def test_a_form_may_name_a_field_several_times(client):
    response = await client.post("/here/echo", content="product=apples&product=grapes&name=", headers=FORM)

    assert response.json() == {"product": ["apples", "grapes"], "name": [""]}


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "same-origin"},
        {"Sec-Fetch-Site": "none"},
        {"Sec-Fetch-Site": "same-origin", "Origin": "null"},
        {"Origin": f"https://{HOST}"},
        {"Origin": PUBLIC_URL},
        {"Origin": f"http://{HOST}", "Host": f"{HOST.upper()}:80"},
        {"Origin": f"https://{HOST}", "Host": f"{HOST}:443"},
        {"Origin": f"https://{HOST}", "Cookie": SIGNED_IN},
        {},
    ],
)
async def test_forms_of_this_host_are_read(client, headers):
    assert (await client.post("/here/echo", content="a=1", headers=FORM | headers)).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "cross-site", "Origin": f"https://{HOST}"},
        {"Origin": "https://evil.example"},
        {"Origin": "http://apply.example"},
        {"Origin": "http://["},
        {"Origin": "null"},
        {"Origin": "null", "Host": ""},
        {"Origin": f"https://{HOST}", "Host": f"{HOST}:80"},
        {"Origin": "", "Cookie": SIGNED_IN},
        {"Cookie": SIGNED_IN},
    ],
)
async def test_forms_of_other_sites_are_refused(client, headers):
    response = await client.post("/here/echo", content="a=1", headers=FORM | headers | {"Accept": "application/json"})

    assert response.status_code == 403
    assert response.json()["type"].endswith("cross-site-request")


@pytest.mark.parametrize("body", [b"a=%ff", b"\xff", b"&".join(b"a=1" for _ in range(101))])
async def test_a_body_that_is_not_a_form_is_refused(client, body):
    assert (await client.post("/here/echo", content=body, headers=FORM)).status_code == 422


async def test_json_is_no_form(client):
    assert (await client.post("/here/echo", json={"a": 1})).status_code == 415


async def test_static_files_are_cached_forever_and_named_by_their_content(client):
    page = await client.get("/here/page")
    address = page.text.split('rel="stylesheet" href="')[1].split('"')[0]

    style = await client.get(address)

    assert style.status_code == 200
    assert "immutable" in style.headers["Cache-Control"]
    assert style.headers["Content-Type"] == "text/css; charset=utf-8"
    assert (await client.get(address.replace("-", "-0"))).status_code == 404


async def test_static_files_are_compressed_for_whoever_can_read_that(client, app):
    address = f"/static/{app.services.get(Renderer).assets.name_of('pages.css')}"

    async with client.stream("GET", address, headers={"Accept-Encoding": "gzip"}) as response:
        compressed = b"".join([part async for part in response.aiter_raw()])
    plain = await client.get(address, headers={"Accept-Encoding": "identity"})

    assert gzip.decompress(compressed) == plain.content
    assert len(compressed) < len(plain.content) / 2


async def test_a_page_is_compressed_to_a_length_that_tells_nothing(client, monkeypatch):
    monkeypatch.setattr(rendering, "MIN_BYTES", 0)
    lengths = set()
    for _ in range(40):
        async with client.stream("GET", "/here/page", headers={"Accept-Encoding": "gzip"}) as response:
            compressed = b"".join([part async for part in response.aiter_raw()])
        lengths.add(len(compressed))
        assert response.headers["Content-Encoding"] == "gzip"
        assert response.headers["Vary"] == "Accept-Encoding"
        assert int(response.headers["Content-Length"]) == len(compressed)
    plain = await client.get("/here/page", headers={"Accept-Encoding": "gzip;q=0, br"})

    assert "Content-Encoding" not in plain.headers
    assert gzip.decompress(compressed) == plain.content
    assert min(lengths) < len(plain.content)
    assert len(lengths) > 5


async def test_a_flash_message_is_shown_once_and_as_text(client):
    left = await client.post("/here/leave", data={"a": "1"})
    [cookie] = left.headers.get_list("set-cookie")
    assert cookie.startswith("__Host-notice=")
    assert {"HttpOnly", "Path=/", "Secure", "SameSite=lax"} <= set(cookie.split("; "))

    shown = await client.get("/here/page")
    again = await client.get("/here/page")

    assert "Obst &amp; Söhne &lt;GmbH&gt; was approved." in shown.text
    assert "Obst" not in again.text


@pytest.mark.parametrize("value", ["x", "e30=", "WzFd", "eyJhIjoxfQ=="])
async def test_an_invalid_flash_message_is_not_shown(app, value):
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url=f"https://{HOST}") as client:
        response = await client.get("/here/page", headers={"Cookie": f"__Host-notice={value}"})

    assert response.status_code == 200
    assert 'class="notice' not in response.text


@pytest.mark.asvs("V3.4.3")
async def test_pages_let_no_script_or_style_in_but_those_of_files(client):
    response = await client.get("/here/page")

    policy = response.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "<style" not in response.text
    assert "style=" not in response.text


async def test_an_error_is_a_page_for_people(client):
    response = await client.get("/here/broken")

    assert response.status_code == 502
    assert response.headers["Content-Type"] == "text/html; charset=utf-8"
    assert response.headers["Retry-After"] == "7"
    assert int(response.headers["Content-Length"]) == len(response.content)
    assert "&lt;b&gt;it&lt;/b&gt; is broken" in response.text
    assert 'href="/here/start"' in response.text


@pytest.mark.parametrize("error", REFUSED_FORMS, ids=lambda error: error.code)
async def test_after_a_form_no_advice_is_to_reload_which_would_send_it_again(client, error):
    response = await client.post(f"/here/failing/{status_of(error)}")

    assert response.status_code == status_of(error)
    assert "reload" not in response.text.lower().replace(str(error).lower(), "")


async def test_it_stays_a_problem_document_for_programs_and_elsewhere(client):
    program = await client.get("/here/broken", headers={"Accept": "application/json"})
    elsewhere = await client.get("/elsewhere")

    assert program.headers["Content-Type"] == elsewhere.headers["Content-Type"] == "application/problem+json"


async def test_an_unknown_page_says_so(client):
    response = await client.get("/here/nothing")

    assert response.status_code == 404
    assert "Page not found" in response.text
    assert "Not found." not in response.text


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0, "0 s"), (59, "59 s"), (90, "2 min"), (3600, "1 h"), (9000, "2.5 h"), (90_000, "25 h"), (259_200, "3 days")],
)
def test_spans_of_time_are_short(seconds, shown):
    assert duration(seconds) == duration(timedelta(seconds=seconds)) == shown


def a_request(app, cookie):
    headers = [(b"cookie", f"{PREFIX}{COOKIE}={cookie}".encode())]
    return Request({"type": "http", "app": app, "headers": headers})


FORGED = b'{"kind":"danger","text":"Call 900 123 123 and say your password"}'


@pytest.mark.asvs("V3.3")
@pytest.mark.parametrize(
    "content",
    [
        b"[" * 2000,
        b"{}",
        b"null",
        b"\xff",
        FORGED,
        bytes(32) + FORGED,
        hmac.digest(b"another key", FORGED, "sha256") + FORGED,
    ],
)
def test_a_flash_message_that_this_service_did_not_write_is_ignored(app, content):
    assert read_flash(a_request(app, urlsafe_b64encode(content).decode())) is None


@pytest.mark.parametrize(
    "content", [b"[" * 2000, b'{"kind":"success","text":7}', b'{"kind":"success","text":"x","link":"//evil"}']
)
def test_a_flash_message_of_another_release_is_ignored(app, content):
    sealed = hmac.digest(app.services.get(FlashKey), content, "sha256") + content

    assert read_flash(a_request(app, urlsafe_b64encode(sealed).decode())) is None


def test_a_changed_flash_message_is_ignored(app):
    page = Response()
    set_flash(a_request(app, ""), page, FlashMessage("success", "Obst & Söhne is approved."))
    cookie = page.headers["set-cookie"].partition("=")[2].partition(";")[0].strip('"')
    assert read_flash(a_request(app, cookie)) == FlashMessage("success", "Obst & Söhne is approved.")

    changed = urlsafe_b64encode(urlsafe_b64decode(cookie).replace(b"approved", b"rejected")).decode()

    assert read_flash(a_request(app, changed)) is None


@pytest.mark.parametrize("letter", ["x", "\u00fc", "\U0001f34a", '"', "\\"])
def test_a_flash_message_of_any_length_fits_a_cookie_and_is_shown(app, letter):
    page = Response()

    set_flash(a_request(app, ""), page, FlashMessage("success", letter * 3000, "/admin/candidates", "Look"))

    cookie = page.headers["set-cookie"]
    assert len(cookie) <= 4096
    shown = read_flash(a_request(app, cookie.partition("=")[2].partition(";")[0].strip('"')))
    assert set(shown.text) == {letter}


def test_a_cookie_longer_than_any_flash_message_is_not_decoded(app):
    content = b'{"kind":"success","text":"' + b"x" * 8000 + b'"}'
    sealed = hmac.digest(app.services.get(FlashKey), content, "sha256") + content

    assert read_flash(a_request(app, urlsafe_b64encode(sealed).decode())) is None
