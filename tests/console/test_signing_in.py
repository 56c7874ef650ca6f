"""Signing in to and out of the console, and what ends a session."""

from __future__ import annotations

import asyncio
import html
import re
from urllib.parse import urlencode
from uuid import uuid4

import httpx
import pytest
from click.testing import CliRunner
from playwright.async_api import expect

from provider_registration.auth.models import Role
from provider_registration.cli import main
from tests.chromium import text_of, visit
from tests.service import PASSWORD

from .conftest import form_of

SESSION = "__Host-session"


@pytest.fixture
async def account(users):
    email = f"{uuid4().hex[:8]}@supply.example"
    await users.create(email, PASSWORD, Role.ADMIN)
    return email


async def test_a_console_page_redirects_to_sign_in_and_back(someone, account):
    page = await someone.open("/admin/candidates?status=rejected&product=apples")
    assert page.url.path == "/admin/sign-in"

    page = await someone.submit(page, "/sign-in", username=account.upper(), password=PASSWORD)

    assert page.status_code == 200
    assert page.url.raw_path == b"/admin/candidates?status=rejected&product=apples"
    assert account in page.text


@pytest.fixture
async def ended(someone, account, register):
    """A user whose session ended with a reject form open; the page and its path."""
    address = f"/admin/candidates/{(await register())['candidate_id']}/reject"
    await someone.sign_in(account)
    page = await someone.open(address)
    await someone.submit(page, "/sign-out")
    return page, address


TYPED = {"choice": "own", "reason": 'Zu weit <weg> & "teuer"\n\nsagt Lena'}


async def test_a_reason_that_was_typed_survives_signing_in_and_decides_nothing(someone, account, ended, database):
    page, address = ended

    page = await someone.submit(page, "/reject", **TYPED)
    assert page.status_code == 401
    assert "Your session has ended and nothing was decided." in text_of(page)
    page = await someone.submit(page, "/sign-in", username=account, password="wrong")
    page = await someone.submit(page, "/sign-in", username=account, password=PASSWORD)
    assert "Nothing has been decided yet." in text_of(page)
    page = await someone.submit(page, "/reject")

    assert page.url.path == address
    [reason] = re.findall(r"<textarea [^>]*>(.*?)</textarea>", page.text, re.DOTALL)
    assert html.unescape(reason).replace("\r\n", "\n") == TYPED["reason"]
    assert re.search(r'id="choice-own" [^>]*checked', page.text)
    status = "SELECT status FROM candidates WHERE id::text = $1"
    assert await database.fetchval(status, address.split("/")[3]) == "pending"
    page = await someone.submit(page, "/reject", **TYPED)
    assert "was rejected." in text_of(page)


async def test_typed_values_survive_signing_in_on_another_page(someone, account, ended):
    page = await someone.submit(ended[0], "/reject", **TYPED)
    await someone.submit(await someone.open("/admin/sign-in"), "/sign-in", username=account, password=PASSWORD)

    page = await someone.submit(page, "/sign-in", username=account, password=PASSWORD)
    page = await someone.submit(page, "/reject")

    assert "Zu weit" in page.text


async def test_typed_values_for_a_decided_candidate_redirect_to_it(someone, account, admin, ended):
    page, address = ended
    page = await someone.submit(page, "/reject", **TYPED)
    await admin.submit(await admin.open(address), "/reject", choice="none")

    page = await someone.submit(page, "/sign-in", username=account, password=PASSWORD)
    page = await someone.submit(page, "/reject")

    assert page.url.path == address.removesuffix("/reject")
    assert "This application was already decided." in text_of(page)


async def test_a_selection_and_its_reason_survive_signing_in(someone, account, register):
    candidates = [await register() for _ in range(2)]
    marks = [f"{one['candidate_id']}:{one['version']}" for one in candidates]
    await someone.sign_in(account)
    page = await someone.open("/admin/candidates?order=newest")
    page = await someone.submit(page, "/marked", mark=marks, decision="reject")
    someone.cookies.pop(SESSION)

    page = await someone.submit(page, "/marked/reject", mark=marks, **TYPED)
    page = await someone.submit(page, "/sign-in", username=account, password=PASSWORD)
    assert page.text.count('name="mark"') == 2
    page = await someone.submit(page, "/marked", mark=marks)

    assert "Reject these 2 candidates?" in text_of(page)
    assert "Zu weit" in page.text


@pytest.mark.parametrize(
    ("action", "typed"),
    [("/reject", {"reason": "x" * 20_000}), ("/approve", {"version": "1"})],
    ids=["too much", "nothing typed"],
)
async def test_what_is_not_kept_is_said_to_be_undone(someone, account, ended, action, typed):
    address = ended[1].removesuffix("/reject")

    response = await someone.send(address + action, typed)
    page = await someone.open(response.headers["Location"])

    assert "Your session has ended and nothing was saved." in text_of(page)
    page = await someone.submit(page, "/sign-in", username=account, password=PASSWORD)
    assert page.url.path == address


@pytest.mark.parametrize(
    ("path", "kept"),
    [("/admin/sign-out", "reason=x"), ("https://evil.example", "reason=x"), ("/admin/candidates", "reason=x")],
)
async def test_what_is_kept_goes_back_into_forms_of_the_console_alone(someone, account, path, kept):
    page = await someone.open("/admin/sign-in")
    address, form = form_of(page, "/sign-in", username=account, password=PASSWORD)

    response = await someone.send(address, form | {"next": path, "kept": kept})

    assert response.status_code == 303
    assert response.headers["Location"].startswith("/admin")


async def test_without_cookies_the_sign_in_page_says_what_is_missing(browser, service_url, account):
    plain = service_url.replace("127.0.0.1", "supply.test")  # a host name that no browser trusts without TLS
    page = await browser.new_page(base_url=plain, proxy={"server": service_url})
    await page.goto("/admin/sign-in")
    await page.get_by_label("E-mail address").fill(account)
    await page.get_by_label("Password").fill(PASSWORD)
    await page.keyboard.press("Enter")

    await expect(page.get_by_role("alert")).to_contain_text("Open this page over https:// and allow cookies")
    await expect(page.get_by_label("E-mail address")).to_have_value(account)
    await page.close()


@pytest.mark.asvs("V6.2.6", "V6.2.7")
async def test_the_password_is_masked_and_may_be_pasted(someone):
    [field] = re.findall(r'<input [^>]*name="password"[^>]*>', (await someone.open("/admin/sign-in")).text)

    assert 'type="password"' in field
    assert 'autocomplete="current-password"' in field
    assert "paste" not in field


async def test_a_user_who_signed_in_on_another_page_is_redirected(someone, account):
    first, second = await someone.open("/admin/sign-in?next=/admin/candidates"), await someone.open("/admin/sign-in")
    await someone.submit(second, "/sign-in", username=account, password=PASSWORD)

    page = await someone.submit(first, "/sign-in", username=account, password=PASSWORD)

    assert page.url.path == "/admin/candidates"


@pytest.mark.asvs("V3.3")
async def test_the_cookie_is_kept_from_scripts_other_sites_and_other_hosts(someone, account):
    page = await someone.open("/admin/sign-in")
    response = await someone.send(*form_of(page, "/sign-in", username=account, password=PASSWORD))

    [cookie] = [line for line in response.headers.get_list("set-cookie") if line.startswith(SESSION)]
    assert set(cookie.split("; ")[1:]) == {"HttpOnly", "Path=/", "Secure", "SameSite=lax"}
    assert response.headers["Cache-Control"] == "no-store"


@pytest.mark.asvs("V3.3")
async def test_only_a_hash_of_the_cookie_is_stored(someone, account, database):
    await someone.sign_in(account)

    stored = await database.fetchval("SELECT string_agg(encode(secret_hash, 'escape'), ' ') FROM browser_sessions")
    assert someone.cookies[SESSION] not in stored


@pytest.mark.parametrize(("username", "password"), [("", PASSWORD), ("x@y.example", ""), ("\x00", "x" * 500)])
async def test_what_cannot_be_right_is_wrong_in_the_same_words(someone, username, password):
    page = await someone.open("/admin/sign-in")
    page = await someone.submit(page, "/sign-in", username=username, password=password)

    assert page.status_code == 401
    assert "The e-mail address or password is incorrect." in page.text
    assert SESSION not in someone.cookies


async def test_a_wrong_password_keeps_the_name_and_a_right_one_then_works(someone, account):
    page = await someone.sign_in(account, "wrong")
    assert page.status_code == 401
    assert f'value="{account}"' in page.text
    assert "wrong" not in page.text

    page = await someone.submit(page, "/sign-in", username=account, password=PASSWORD)
    assert page.status_code == 200


@pytest.mark.asvs("V3.7.1", "V3.7.2")
@pytest.mark.parametrize(
    "target",
    [
        "https://evil.example/admin",
        "//evil.example",
        "/\\evil.example",
        "/adminx",
        "/admin/../../evil",
        "/admin//evil.example",
        "/admin\r\nX: y",
        "/admin/sign-in",
        "/docs//evil.example",
        "/docs@evil.example",
        "/redoc?next=//evil.example",
        "/candidates",
        "javascript:alert(1)",
        "/admin?" + "a" * 2000,
    ],
)
async def test_signing_in_redirects_only_to_the_console(someone, account, target):
    page = await someone.ask("GET", "/admin/sign-in", params={"next": target})
    address, form = form_of(page, "/sign-in", username=account, password=PASSWORD)
    assert form["next"] == "/admin"

    response = await someone.send(address, form | {"next": target})
    assert response.headers["Location"] == "/admin"


async def test_a_form_for_signing_in_that_another_page_made_is_refused(someone, account):
    page = await someone.open("/admin/sign-in")
    address, form = form_of(page, "/sign-in", username=account, password=PASSWORD)

    assert (await someone.send(address, form, headers={"Sec-Fetch-Site": "cross-site"})).status_code == 403
    someone.cookies.clear()
    assert (await someone.send(address, form)).status_code == 403


@pytest.mark.asvs("V7.4.4")
async def test_signing_out_ends_the_session_for_good(someone, account):
    page = await someone.sign_in(account)
    secret = someone.cookies[SESSION]

    page = await someone.submit(page, "/sign-out")

    assert "You are signed out." in text_of(page)
    assert SESSION not in someone.cookies
    someone.cookies[SESSION] = secret
    assert (await someone.open("/admin/candidates")).url.path == "/admin/sign-in"


@pytest.mark.parametrize("change", ["disable", "set_role", "set_password"])
async def test_what_takes_access_away_does_so_with_the_next_page(someone, account, users, change):
    await someone.sign_in(account)
    more = {"disable": [], "set_role": [Role.VIEWER], "set_password": ["another good password"]}[change]

    await getattr(users, change)(account, *more)

    assert (await someone.open("/admin/candidates")).url.path == "/admin/sign-in"


@pytest.mark.asvs("V7.1.1", "V7.3.1", "V7.3.2")
@pytest.mark.parametrize(
    ("table", "column", "seconds"),
    [
        ("browser_sessions", "seen_at", -30 * 60 - 1),
        ("sessions", "expires_at", -1),
    ],
)
async def test_a_session_ends_by_itself(someone, account, database, table, column, seconds):
    await someone.sign_in(account)
    session_id = await database.fetchval(
        "SELECT max(sessions.id::text) FROM sessions JOIN users ON users.id = user_id WHERE email = $1", account
    )
    key = "id" if table == "sessions" else "session_id"

    await database.execute(
        f"UPDATE {table} SET {column} = now() + $2 * interval '1 s' WHERE {key}::text = $1", session_id, seconds
    )

    assert (await someone.open("/admin/candidates")).url.path == "/admin/sign-in"


async def test_a_session_lasts_a_days_work_and_its_use_is_noted(someone, account, database):
    await someone.sign_in(account)
    session = "FROM sessions JOIN browser_sessions ON session_id = id JOIN users ON users.id = user_id WHERE email = $1"
    seconds = await database.fetchval(f"SELECT extract(epoch FROM expires_at - sessions.created_at) {session}", account)
    assert round(seconds) == 12 * 3600

    await database.execute(
        "UPDATE browser_sessions SET seen_at = now() - interval '20 min' FROM sessions, users "
        "WHERE sessions.id = session_id AND users.id = user_id AND email = $1",
        account,
    )
    await someone.open("/admin/candidates")

    assert await database.fetchval(f"SELECT now() - seen_at < interval '1 min' {session}", account)
    noted = await database.fetchval(f"SELECT seen_at {session}", account)
    await someone.open("/admin/candidates")
    assert await database.fetchval(f"SELECT seen_at {session}", account) == noted  # once a minute is enough


async def test_use_of_one_session_leaves_others_idle(someone, account, admin, database):
    await someone.sign_in(account)
    idle = "seen_at < now() - interval '19 min'"
    await database.execute("UPDATE browser_sessions SET seen_at = now() - interval '20 min'")

    await admin.open("/admin/candidates")

    session = "FROM browser_sessions JOIN sessions ON sessions.id = session_id JOIN users ON users.id = user_id"
    assert await database.fetchval(f"SELECT {idle} {session} WHERE email = $1", account)
    assert not await database.fetchval(f"SELECT bool_and({idle}) {session} WHERE email = $1", admin.email)


async def test_a_program_without_a_session_gets_a_problem(someone):
    response = await someone.ask("GET", "/admin/candidates", headers={"Accept": "application/json"})

    assert response.status_code == 401
    assert response.headers["Content-Type"] == "application/problem+json"


@pytest.mark.parametrize("address", ["/docs", "/redoc", "/openapi.json"])
async def test_a_document_for_staff_redirects_to_sign_in_and_back(someone, account, address):
    console = await someone.sign_in(account)
    await someone.submit(console, "/sign-out")

    asked = await someone.ask("GET", f"{address}?x=//evil.example")
    assert (asked.status_code, asked.headers["Location"]) == (303, "/admin/sign-in?next=%2Fadmin")
    asked = await someone.ask("GET", address)
    assert (asked.status_code, asked.headers["Location"]) == (303, f"/admin/sign-in?{urlencode({'next': address})}")
    page = await someone.submit(await someone.open(address), "/sign-in", username=account, password=PASSWORD)

    assert (page.status_code, page.url.path) == (200, address)


@pytest.mark.parametrize("address", ["/docs", "/redoc", "/openapi.json"])
async def test_a_program_without_a_valid_token_gets_no_document_but_a_problem(someone, address):
    as_program = {"Accept": "application/json"}
    answers = [
        await someone.ask("GET", address, headers=as_program),
        await someone.ask("GET", address, headers={**as_program, "Authorization": "Bearer none"}),
    ]

    assert [answer.status_code for answer in answers] == [401, 401]
    assert {answer.headers["Content-Type"] for answer in answers} == {"application/problem+json"}
    assert all(answer.headers["WWW-Authenticate"] for answer in answers)


async def test_swagger_ui_shows_the_api_to_staff_after_signing_in(browser, service_url, account):
    async with visit(browser, service_url) as page:
        await page.goto("/docs")
        await page.get_by_label("E-mail address").fill(account)
        await page.get_by_label("Password").fill(PASSWORD)
        await page.get_by_role("button", name="Sign in").click()

        await expect(page.get_by_text("Register a company", exact=True).last).to_be_visible()


async def test_an_access_token_opens_no_page_and_a_cookie_no_endpoint(someone, account):
    response = await someone.client.post("/auth/login", json={"username": account, "password": PASSWORD})
    token = {"Authorization": f"Bearer {response.json()['access_token']}"}
    await someone.sign_in(account)

    assert (await someone.client.get("/admin/candidates", headers=token)).status_code == 401
    assert (await someone.ask("GET", "/candidates")).status_code == 401


@pytest.mark.parametrize("written", ["eva-{}@bücher.example", "eva-{}@xn--bcher-kva.example"])
async def test_a_user_with_a_unicode_domain_signs_in_with_what_browsers_send(someone, written, migrated_database_url):
    unique = uuid4().hex[:8]
    created = await asyncio.to_thread(
        CliRunner().invoke,
        main,
        ["create-user", written.format(unique), "--password-stdin"],
        input=f"{PASSWORD}\n",
        env={"DATABASE_URL": migrated_database_url},
    )
    assert created.exit_code == 0, created.output

    for typed in ("eva-{}@xn--bcher-kva.example", "eva-{}@bücher.example", "Eva-{}@BÜCHER.example"):
        page = await someone.sign_in(typed.format(unique))
        assert page.url.path == "/admin"
        assert f"eva-{unique}@bücher.example" in page.text
        await someone.submit(page, "/sign-out")


@pytest.mark.parametrize("value", ["x" * 8000, "\u00ff" * 1000, "not-one-of-ours"])
async def test_the_sign_in_page_sends_back_no_cookie_that_it_did_not_make(service_url, value):
    """Bytes beyond ASCII were returned four times as long, and nginx responded 502 to the long header."""
    async with httpx.AsyncClient(base_url=service_url) as client:
        first = await client.get("/admin/sign-in")
        page = await client.get("/admin/sign-in", headers=[(b"cookie", f"__Host-visit={value}".encode("latin-1"))])

    assert page.headers["set-cookie"] == first.headers["set-cookie"]
