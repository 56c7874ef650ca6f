"""The access tokens that the service accepts: its own, intact, not expired, of active users."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import random
import string
import time

import pytest

from provider_registration.auth.models import Role
from provider_registration.auth.tokens import key_id

LOGIN = "/auth/login"
PASSWORD = "correct horse battery staple"
HASHES = {"HS256": hashlib.sha256, "HS384": hashlib.sha384, "HS512": hashlib.sha512}


def encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def decode(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


def sign(claims, key, header=None):
    """A JWT made without the library that the service uses."""
    header = {"alg": "HS256", "typ": "JWT", "kid": key_id(key)} | (header or {})
    payload = claims if isinstance(claims, bytes) else json.dumps(claims).encode()
    message = f"{encode(json.dumps(header).encode())}.{encode(payload)}"
    if str(header["alg"]) not in HASHES:
        return f"{message}."
    return f"{message}.{encode(hmac.digest(key.encode(), message.encode(), HASHES[header['alg']]))}"


@pytest.fixture
def key(settings):
    """The key that the service signs with."""
    return settings.jwt_secret_key.get_secret_value()


@pytest.fixture
def claims(tokens):
    """The claims of a viewer's token."""
    return json.loads(decode(tokens[Role.VIEWER].split(".")[1]))


@pytest.fixture
def status_with(anonymous):
    """Request the list of candidates with this Authorization header; return the status."""

    async def status_with(authorization):
        return (await anonymous.get("/candidates", headers={"Authorization": authorization})).status_code

    return status_with


async def test_a_token_made_by_the_rules_is_taken(status_with, claims, key):
    assert await status_with(f"Bearer {sign(claims, key)}") == 200


CHANGED_CLAIMS = {
    "expired": {"exp": int(time.time()) - 60},
    "expired long ago": {"exp": 0},
    "expiry that is no time": {"exp": "tomorrow"},
    "expiry null": {"exp": None},
    "expiry infinite": {"exp": float("inf")},
    "not valid yet": {"nbf": int(time.time()) + 3600},
    "another audience": {"aud": "somebody-else"},
    "another audience in a list": {"aud": ["somebody-else"]},
    "another issuer": {"iss": "somebody-else"},
    "a role that does not exist": {"role": "owner"},
    "a role that is no text": {"role": ["admin"]},
    "a subject that is no id": {"sub": "admin@example.com"},
    "a subject that is no text": {"sub": 1},
    "an issue time that is no time": {"iat": "yesterday"},
    "an id that is no text": {"jti": 7},
}


@pytest.mark.asvs("V9.2.3", "V9.2.4", "V10.3.1")
@pytest.mark.parametrize("changes", CHANGED_CLAIMS.values(), ids=CHANGED_CLAIMS.keys())
async def test_changed_claims_are_refused(status_with, claims, key, changes):
    assert await status_with(f"Bearer {sign(claims | changes, key)}") == 401


@pytest.mark.asvs("V9.2.3", "V9.2.4")
@pytest.mark.parametrize("name", ["iss", "aud", "sub", "role", "sid", "iat", "exp", "jti"])
async def test_a_missing_claim_is_refused(status_with, claims, key, name):
    del claims[name]

    assert await status_with(f"Bearer {sign(claims, key)}") == 401


@pytest.mark.parametrize("payload", [b"", b"null", b"[]", b'"x"', b"{", b"\xff", b"[" * 1000, b'{"a":' * 300])
async def test_a_payload_that_holds_no_claims_is_refused(status_with, key, payload):
    assert await status_with(f"Bearer {sign(payload, key)}") == 401


CHANGED_HEADERS = {
    "no algorithm": {"alg": "none"},
    "no algorithm in another letter case": {"alg": "NoNe"},
    "another algorithm with the same key": {"alg": "HS384"},
    "a longer algorithm with the same key": {"alg": "HS512"},
    "an algorithm with a public key": {"alg": "RS256"},
    "an unknown algorithm": {"alg": "XS256"},
    "an extension that is critical": {"crit": ["b64"], "b64": False},
    "critical extensions that are none": {"crit": []},
    "another type": {"typ": "at+jwt"},
}


@pytest.mark.asvs("V9.1.2", "V9.1.3", "V9.2.2", "V11.4.1", "V11.4.3")
@pytest.mark.parametrize("changes", CHANGED_HEADERS.values(), ids=CHANGED_HEADERS.keys())
async def test_changed_headers_are_refused(status_with, claims, key, changes):
    assert await status_with(f"Bearer {sign(claims, key, changes)}") == 401


@pytest.mark.asvs("V9.1.1")
@pytest.mark.parametrize("other", ["", "x", "another key that is quite as long as it must be"])
async def test_another_key_is_refused(status_with, claims, other):
    assert await status_with(f"Bearer {sign(claims, other)}") == 401


@pytest.mark.parametrize(
    "authorization",
    [
        "",
        "Bearer",
        "Bearer .",
        "Bearer ..",
        "Bearer ...",
        "Bearer null",
        "Bearer " + "x" * 5000,
        "Bearer " + "a.b.c" * 300,
        "Bearer " + "." * 2000,
        "Bearer " + "e30." * 500,
        "Basic YWRtaW46YWRtaW4=",
        "Bearer \xff\xfe".encode("latin-1"),
        b"\xff",
    ],
)
async def test_what_is_no_token_is_refused(status_with, authorization):
    assert await status_with(authorization) == 401


async def test_a_token_of_another_scheme_is_refused(status_with, tokens):
    assert await status_with(f"Basic {tokens[Role.VIEWER]}") == 401
    assert await status_with(tokens[Role.VIEWER]) == 401


@pytest.mark.asvs("V3.5.1", "V3.5.2", "V14.2.1")
async def test_a_token_anywhere_but_in_the_header_is_ignored(anonymous, tokens):
    token = tokens[Role.VIEWER]

    assert (await anonymous.get("/candidates", headers={"Cookie": f"access_token={token}"})).status_code == 401
    assert (await anonymous.get("/candidates", params={"access_token": token})).status_code == 401


async def test_every_truncated_token_is_refused(status_with, tokens):
    token = tokens[Role.VIEWER]

    for length in range(1, len(token), 7):
        assert await status_with(f"Bearer {token[:length]}") == 401, length


MUTANTS = 1000


def mutants(token, key):
    """A thousand tokens that look like ours: other headers, other claims, truncated, enlarged, nested, shuffled."""
    chance = random.Random(7)  # noqa: S311 - not a secret
    claims = json.loads(decode(token.split(".")[1]))
    kinds = (_with_another_header, _with_another_claim, _cut, _swollen, _nested, _of_other_parts, _scrambled)
    for number in range(MUTANTS):
        yield kinds[number % len(kinds)](chance, token, claims, key)


def _with_another_header(chance, _token, claims, key):
    field, values = chance.choice(
        [
            ("alg", ["none", "None", "nOnE", "", None, "RS256", "ES256", "PS512", "HS384", "HS512", "hs256", 7, []]),
            (
                "kid",
                ["", "0" * 16, key_id(key)[:-1], key_id(key) + "0", key_id(key).upper(), "../../dev/null", 7, None],
            ),
            ("typ", ["", "jwt", "at+jwt", "JWS", "JOSE", 7, None, ["JWT"]]),
            ("crit", [["exp"], ["b64"], [], "exp", None, 7]),
        ]
    )
    value = chance.choice(values)
    return sign(claims | {"jti": chance.random()}, key, {field: value})


def _with_another_claim(chance, _token, claims, key):
    name = chance.choice(["iss", "aud", "sub", "role", "sid", "exp", "iat"])
    value = chance.choice([None, "", "x", -1, 0, 2**80, -(2**63), 1.5e308, float("nan"), [], {}, [[]], True])
    if (name, value) in (("exp", 2**80), ("exp", 1.5e308)) or (name == "iat" and isinstance(value, int | float)):
        name = "sub"  # a long-lived token is not a forged one
    return sign(claims | {name: value}, key)


def _cut(chance, token, _claims, _key):
    return token[: chance.randrange(1, len(token))] if chance.random() < 0.5 else token[chance.randrange(1, 40) :]


def _swollen(chance, token, claims, key):
    if chance.random() < 0.5:
        return sign(claims | {"more": "x" * chance.randrange(2000, 9000)}, key)
    part, *others = token.split(".")
    return ".".join([part + "A" * chance.randrange(4, 7000), *others])


def _nested(chance, _token, claims, key):
    depth = chance.randrange(20, 700)
    deep = b'{"a":' * depth + b"1" + b"}" * depth if chance.random() < 0.5 else b"[" * depth + b"]" * depth
    payload = deep if chance.random() < 0.5 else json.dumps(claims).encode()[:-1] + b',"sub":' + deep + b"}"
    return sign(payload, key)


def _of_other_parts(chance, token, _claims, _key):
    parts = [*token.split("."), "", "e30", "null", "...", "=" * 8]
    chosen = [chance.choice(parts) for _ in range(chance.randrange(1, 7))]
    return ".".join(chosen if chosen != token.split(".") else chosen[:2])


def _scrambled(chance, token, _claims, _key):
    alphabet = string.ascii_letters + string.digits + "-_.=+/ %~"
    changed = list(token)
    for _ in range(chance.randint(1, 3)):
        place = chance.randrange(len(changed))
        match chance.randrange(4):
            case 0:
                changed[place] = chance.choice(alphabet)
            case 1:
                changed.insert(place, chance.choice(alphabet))
            case 2:
                del changed[place]
            case _:
                other = chance.randrange(len(changed))
                changed[place], changed[other] = changed[other], changed[place]
    return "".join(changed)


@pytest.mark.asvs("V7.2.1", "V9.1.1", "API2")
async def test_a_thousand_mutants_of_a_token_are_refused(status_with, tokens, key):
    token = tokens[Role.VIEWER]

    for mutant in mutants(token, key):
        status = await status_with(f"Bearer {mutant}".strip().encode())
        assert status == 401 or says_the_same(mutant, token), mutant


def says_the_same(mutant, token):
    """Whether only the signature's encoding differs: unused bits of its last character, or extra characters."""
    (*message, signature), (*original_message, original) = mutant.strip().split("."), token.split(".")
    return message == original_message and decode(signature) == decode(original)
