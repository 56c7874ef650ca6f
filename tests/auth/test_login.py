"""`POST /auth/login`: JSON or the OAuth2 form, one error response for every wrong input."""

from __future__ import annotations

import asyncio
import base64
import json
import socket
import threading
import time
from types import SimpleNamespace
from uuid import uuid4

import httpx
import pytest

from provider_registration.auth import passwords
from provider_registration.auth.models import Role
from provider_registration.auth.passwords import MAX_QUEUED_PER_NETWORK, THREADS
from provider_registration.auth.service import AuthService
from provider_registration.web.text import prepare_password

LOGIN = "/auth/login"
PASSWORD = " Tr0ub4dor & 3 – ünïcödé "
JSON = {"Content-Type": "application/json"}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


@pytest.fixture(scope="module")
async def user(users):
    """The e-mail address of a viewer whose password is PASSWORD."""
    email = f"{uuid4().hex}@example.com"
    await users.create(email, PASSWORD, Role.VIEWER)
    return email


@pytest.fixture(scope="module")
async def disabled_user(users):
    """The same for a disabled user."""
    email = f"{uuid4().hex}@example.com"
    await users.create(email, PASSWORD, Role.ADMIN)
    await users.disable(email)
    return email


async def works(client, token):
    response = await client.get("/candidates", headers={"Authorization": f"Bearer {token}"})
    return response.status_code == 200


async def test_json_is_exchanged_for_a_token_that_works(anonymous, user):
    response = await anonymous.post(LOGIN, json={"username": user, "password": PASSWORD})

    assert response.status_code == 200
    token = response.json()["access_token"]
    assert response.json() == {
        "access_token": token,
        "token_type": "bearer",
        "expires_in": 1800,
        "refresh_token": response.json()["refresh_token"],
    }
    assert await works(anonymous, token)


async def test_a_token_is_not_to_be_cached(anonymous, user):
    response = await anonymous.post(LOGIN, json={"username": user, "password": PASSWORD})

    assert response.headers["Cache-Control"] == "no-store"


@pytest.mark.asvs("V6.1.3", "V6.3.4")
async def test_the_form_that_swagger_sends_works_too(anonymous, user):
    fields = {"grant_type": "password", "username": user, "password": PASSWORD}
    fields |= {"scope": "", "client_id": "", "client_secret": ""}

    response = await anonymous.post(LOGIN, data=fields)

    assert response.status_code == 200
    assert await works(anonymous, response.json()["access_token"])


@pytest.mark.parametrize("grant_type", [{}, {"grant_type": ""}, {"grant_type": "password"}])
async def test_a_form_need_not_name_its_grant_type(anonymous, user, grant_type):
    response = await anonymous.post(LOGIN, data={"username": user, "password": PASSWORD, **grant_type})

    assert response.status_code == 200


@pytest.mark.parametrize("name", ["", " ", "\u200b", "\u2060 \ufeff"])
async def test_an_empty_user_name_is_invalid(anonymous, name):
    response = await anonymous.post(LOGIN, json={"username": name, "password": PASSWORD})

    assert response.status_code == 422
    assert [error["field"] for error in response.json()["errors"]] == ["username"]


@pytest.mark.asvs("V10.3.3")
async def test_a_token_says_who_may_do_what_for_how_long_and_no_more(anonymous, user):
    response = await anonymous.post(LOGIN, json={"username": user, "password": PASSWORD})

    header, claims, _ = response.json()["access_token"].split(".")
    header, claims = (json.loads(base64.urlsafe_b64decode(part + "==")) for part in (header, claims))
    assert set(header) == {"alg", "typ", "kid"}
    assert (header["alg"], header["typ"]) == ("HS256", "JWT")
    assert set(claims) == {"iss", "aud", "sub", "role", "sid", "iat", "exp", "jti"}
    assert claims["exp"] - claims["iat"] == 1800
    assert claims["iat"] == pytest.approx(time.time(), abs=5)
    assert claims["role"] == "viewer"


@pytest.mark.asvs("V7.2.2")
async def test_two_tokens_of_one_user_differ(anonymous, user):
    tokens = [
        (await anonymous.post(LOGIN, json={"username": user, "password": PASSWORD})).json()["access_token"]
        for _ in range(2)
    ]

    assert len(set(tokens)) == 2


@pytest.mark.parametrize("write", [str.upper, str.title, " {} \t".format], ids=["upper", "title", "spaced"])
async def test_letter_case_and_spaces_around_the_user_name_do_not_matter(anonymous, user, write):
    response = await anonymous.post(LOGIN, json={"username": write(user), "password": PASSWORD})

    assert response.status_code == 200


@pytest.mark.asvs("V6.2.8")
@pytest.mark.parametrize("write", [str.upper, str.strip, lambda p: p + " "], ids=["upper", "trimmed", "longer"])
async def test_the_password_is_taken_to_the_letter(anonymous, user, write):
    response = await anonymous.post(LOGIN, json={"username": user, "password": write(PASSWORD)})

    assert response.status_code == 401


@pytest.mark.asvs("V6.3.8")
async def test_every_wrong_input_gets_the_same_response(anonymous, user, disabled_user):
    attempts = [(user, "wrong password"), (disabled_user, PASSWORD), (f"{uuid4().hex}@example.com", PASSWORD)]

    responses = [
        await anonymous.post(LOGIN, json={"username": username, "password": password})
        for username, password in attempts
    ]

    assert {response.status_code for response in responses} == {401}
    assert {response.headers["WWW-Authenticate"] for response in responses} == {"Bearer"}
    assert len({response.text for response in responses}) == 1
    assert responses[0].json()["type"].endswith(":invalid-credentials")


@pytest.mark.parametrize("password", ["x", "x" * 128, "nul\x00nul", "\U0001f511" * 128])
async def test_odd_passwords_are_merely_wrong(anonymous, user, password):
    as_json = await anonymous.post(LOGIN, json={"username": user, "password": password})
    as_form = await anonymous.post(LOGIN, data={"username": user, "password": password})

    assert (as_json.status_code, as_form.status_code) == (401, 401)


@pytest.mark.parametrize("username", ["' OR 1=1 --", "nobody", "x" * 255, "%", "Ω" * 255])
async def test_odd_user_names_are_merely_unknown(anonymous, username):
    as_json = await anonymous.post(LOGIN, json={"username": username, "password": PASSWORD})
    as_form = await anonymous.post(LOGIN, data={"username": username, "password": PASSWORD})

    assert (as_json.status_code, as_form.status_code) == (401, 401)


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({}, {"username", "password"}),
        ({"username": "a"}, {"password"}),
        ({"password": "a"}, {"username"}),
        ({"username": "", "password": ""}, {"username", "password"}),
        ({"username": "a" * 256, "password": "a" * 129}, {"username", "password"}),
        ({"username": "nul\x00nul", "password": "a"}, {"username"}),
    ],
)
@pytest.mark.parametrize("kind", ["json", "data"], ids=["JSON", "form"])
async def test_what_is_missing_or_impossible_is_named(anonymous, kind, fields, named):
    body = {"content": b"", "headers": FORM} if kind == "data" and not fields else {kind: fields}

    response = await anonymous.post(LOGIN, **body)

    assert response.status_code == 422
    assert {error["field"] for error in response.json()["errors"]} == named
    assert {error["location"] for error in response.json()["errors"]} == {"body"}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b'"text"',
        b"{",
        b"\xff",
        b'{"username": "a", "password": "\\ud800"}',
        b'{"username": "a", "password": "\xed\xa0\x80"}',
        b'{"username": "a", "password": 1}',
        b'{"username": null, "password": "a"}',
        b'{"username": "a", "password": "a", "remember": true}',
        b'{"username": "a", "password": "a", "password": "b"}',
        b"[" * 10_000,
    ],
)
async def test_json_that_is_not_a_login_is_refused(anonymous, body):
    response = await anonymous.post(LOGIN, content=body, headers=JSON)

    assert response.status_code == 422


@pytest.mark.parametrize(
    "body",
    [
        b"username=a&password=a&password=b",
        b"username=a&password=%ff",
        b"username=a&password=%ED%A0%80",
        b"username=a&password=\xff",
        b"username=a&password=a&grant_type=refresh_token",
        b"username=a&password=a" + b"&x=1" * 1100,
        b"&" * 2000,
        b"=",
        b"%",
    ],
)
async def test_a_form_that_is_not_a_login_is_refused(anonymous, body):
    response = await anonymous.post(LOGIN, content=body, headers=FORM)

    assert response.status_code == 422


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/xml"},
        {"Content-Type": "multipart/form-data; boundary=x"},
        {"Content-Type": "application/json5"},
        {"Content-Type": ""},
    ],
)
async def test_other_content_types_are_refused(anonymous, user, headers):
    body = json.dumps({"username": user, "password": PASSWORD}).encode()

    response = await anonymous.post(LOGIN, content=body, headers=headers)

    assert response.status_code == 415
    assert "application/json" in response.json()["detail"]


@pytest.mark.parametrize("content_type", ["application/json; charset=utf-8", "APPLICATION/JSON", "application/json;"])
async def test_a_content_type_may_have_parameters_and_any_letter_case(anonymous, user, content_type):
    body = json.dumps({"username": user, "password": PASSWORD}).encode()

    response = await anonymous.post(LOGIN, content=body, headers={"Content-Type": content_type})

    assert response.status_code == 200


@pytest.mark.parametrize("headers", [JSON, FORM], ids=["JSON", "form"])
async def test_a_body_over_64_kibibytes_is_refused(anonymous, headers):
    response = await anonymous.post(LOGIN, content=b"x" * 65_537, headers=headers)

    assert response.status_code == 413


async def test_a_refusal_does_not_repeat_what_was_sent(anonymous):
    secret = "my-secret-which-is-none-of-yours"

    response = await anonymous.post(LOGIN, json={"username": secret, "password": secret * 5, "pin": secret})

    assert response.status_code == 422
    assert secret not in response.text


@pytest.fixture
def held(monkeypatch):
    """An event that blocks password checks until it is set, and the passwords that were checked."""
    go_on, checked = threading.Event(), []
    verify = passwords.ARGON2ID.verify

    def wait_and_verify(password, hash_):
        assert go_on.wait(30)
        checked.append(password)
        return verify(password, hash_)

    monkeypatch.setattr(passwords.ARGON2ID, "verify", wait_and_verify)
    yield SimpleNamespace(go_on=go_on, checked=checked)
    go_on.set()


@pytest.mark.asvs("V15.1.3")
async def test_a_login_abandoned_in_the_queue_is_skipped(service, anonymous, user, held):
    def begin(number):
        body = json.dumps({"username": f"nobody-{number}@example.com", "password": f"abandoned {number}"}).encode()
        caller = socket.create_connection(("127.0.0.1", httpx.URL(service.url).port))
        caller.sendall(b"POST /auth/login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n")
        caller.sendall(f"Content-Length: {len(body)}\r\n\r\n".encode() + body)
        return caller

    async def queued(number):
        async with asyncio.timeout(20):
            while hasher._queued.total() < number:
                await asyncio.sleep(0.01)

    hasher = service.app.services.get(AuthService)._hasher
    callers = [begin(number) for number in range(MAX_QUEUED_PER_NETWORK - 1)]
    await queued(len(callers))
    honest = asyncio.create_task(anonymous.post(LOGIN, json={"username": user, "password": PASSWORD}))
    await queued(len(callers) + 1)
    for caller in callers:
        caller.close()
    await anonymous.get("/health/live")  # the server has noticed the disconnects
    held.go_on.set()

    assert (await honest).status_code == 200
    assert len(held.checked) == THREADS + 1
    assert held.checked[-1] == prepare_password(PASSWORD)
