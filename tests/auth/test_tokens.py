"""The signer of access tokens on its own: what it issues, and that it raises only its own errors."""

from __future__ import annotations

import base64
import json
import time
from unittest.mock import Mock
from uuid import uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jose import jws, jwt

from provider_registration.auth import tokens
from provider_registration.auth.errors import NotAuthenticated
from provider_registration.auth.models import Role, User
from provider_registration.auth.tokens import TokenSigner

KEY = "a key of the tests that is long enough to sign with"
PREVIOUS_KEY = "the key before, which is long enough to sign with too"
VIEWER = User(uuid4(), uuid4(), role=Role.VIEWER)


@pytest.fixture(scope="module")
def signer():
    return TokenSigner(KEY)


@pytest.mark.parametrize("role", Role)
def test_what_was_issued_is_verified(signer, role):
    user = User(uuid4(), uuid4(), role=role)

    assert signer.verify(signer.issue(user)) == user


def test_a_token_is_valid_for_half_an_hour(signer):
    issued = int(time.time())
    token = signer.issue(VIEWER)

    claims = jwt.get_unverified_claims(token)

    assert claims["exp"] - claims["iat"] == tokens.ACCESS_TOKEN_SECONDS == 1800
    assert claims["iat"] - issued in (0, 1)


@pytest.mark.asvs("V9.2.1")
@pytest.mark.parametrize("seconds_ago", [1801, 86_400])
def test_it_is_refused_when_its_time_is_over(signer, monkeypatch, seconds_ago):
    now = time.time()
    monkeypatch.setattr(tokens.time, "time", lambda: now - seconds_ago)
    token = signer.issue(VIEWER)
    monkeypatch.undo()

    with pytest.raises(NotAuthenticated):
        signer.verify(token)


@pytest.mark.parametrize("seconds", [1800, 1801])
def test_a_token_that_was_verified_before_expires_all_the_same(signer, monkeypatch, seconds):
    token = signer.issue(VIEWER)
    expires_at = jwt.get_unverified_claims(token)["exp"]
    assert signer.verify(token) == VIEWER
    monkeypatch.setattr(tokens.time, "time", lambda: expires_at - 1800 + seconds)

    with pytest.raises(NotAuthenticated):
        signer.verify(token)


def test_a_token_that_was_refused_before_is_looked_at_again(signer, monkeypatch):
    now = time.time()
    monkeypatch.setattr(tokens.time, "time", lambda: now + 100)
    token = signer.issue(VIEWER)
    monkeypatch.setattr(tokens.time, "time", lambda: now + 5000)
    with pytest.raises(NotAuthenticated):
        signer.verify(token)
    monkeypatch.undo()

    assert signer.verify(token) == VIEWER


def test_another_key_verifies_nothing(signer):
    with pytest.raises(NotAuthenticated):
        TokenSigner(KEY[::-1]).verify(signer.issue(VIEWER))


@pytest.mark.asvs("V9.1.3")
def test_the_previous_key_is_accepted_while_it_is_set():
    old = TokenSigner(PREVIOUS_KEY).issue(VIEWER)

    assert TokenSigner(KEY, PREVIOUS_KEY).verify(old) == VIEWER
    with pytest.raises(NotAuthenticated):
        TokenSigner(KEY).verify(old)


def test_new_tokens_are_signed_with_the_current_key():
    token = TokenSigner(KEY, PREVIOUS_KEY).issue(VIEWER)

    assert jwt.get_unverified_header(token)["kid"] == tokens.key_id(KEY)
    assert TokenSigner(KEY).verify(token) == VIEWER


def test_the_name_of_a_key_does_not_give_it_away():
    assert len(tokens.key_id(KEY)) == 16
    assert tokens.key_id(KEY) != tokens.key_id(PREVIOUS_KEY)
    assert tokens.key_id(KEY) not in KEY


def test_every_token_has_an_id_of_its_own(signer):
    ids = {jwt.get_unverified_claims(signer.issue(VIEWER))["jti"] for _ in range(20)}

    assert len(ids) == 20


@settings(deadline=None, max_examples=300)
@given(st.text(max_size=300))
def test_arbitrary_text_is_refused(text):
    with pytest.raises(NotAuthenticated):
        TokenSigner(KEY).verify(text)


values = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.text()) | st.just({"a": []})


@settings(deadline=None, max_examples=300)
@given(st.dictionaries(st.sampled_from([*tokens.REQUIRED_CLAIMS, "nbf"]), values))
def test_arbitrary_claims_are_refused_even_under_the_right_signature(changes):
    claims = jwt.get_unverified_claims(TokenSigner(KEY).issue(VIEWER)) | {"role": "owner"} | changes
    token = jws.sign(json.dumps(claims).encode(), KEY, headers={"kid": tokens.key_id(KEY)})

    with pytest.raises(NotAuthenticated):
        TokenSigner(KEY).verify(token)


@pytest.mark.parametrize("length", [2049, 100_000])
def test_a_long_token_is_refused_without_being_read(signer, monkeypatch, length):
    read = []
    monkeypatch.setattr(tokens.jwt, "get_unverified_header", read.append)

    with pytest.raises(NotAuthenticated):
        signer.verify("x" * length)

    assert read == []


def signed(changes="", header=None, *, lacks=None):
    """A token with a valid signature, which may lack a claim; `changes` are JSON that replaces claims."""
    claims = jwt.get_unverified_claims(TokenSigner(KEY).issue(VIEWER))
    claims.pop(lacks, None)
    payload = json.dumps(claims)
    payload = f"{payload[:-1]}, {changes}}}" if changes else payload
    return jws.sign(payload.encode(), KEY, headers={"kid": tokens.key_id(KEY)} | (header or {}))


# The errors that reading a token raises, and that the module catches.
ODD_TOKENS = {
    "JWTError: one part": "x",
    "JWTError: a header of many levels": f"{base64.urlsafe_b64encode(b'[' * 1000).decode()}.e30.x",
    "JWTError: half a surrogate": "\ud800.e30.x",
    "JWTError: another audience": signed('"aud": "another"'),
    "JWTError: another issuer": signed('"iss": []'),
    "KeyError: another key": signed(header={"kid": "another"}),
    "KeyError: no session": signed(lacks="sid"),
    "TypeError: a list of keys": signed(header={"kid": []}),
    "TypeError: a time of nothing": signed('"exp": null'),
    "TypeError: a time that is a list": signed('"iat": []'),
    "OverflowError: an infinite time": signed('"exp": 1e999'),
    "ValueError: no number": signed('"nbf": NaN'),
    "ValueError: no role": signed('"role": "owner"'),
    "ValueError: no user": signed('"sub": "nobody"'),
    "AttributeError: a session that is a number": signed('"sid": 7'),
    "TypeError: a session of nothing": signed('"sid": null'),
    "RecursionError: claims of many levels": jws.sign(b"[" * 1400, KEY, headers={"kid": tokens.key_id(KEY)}),
}


@pytest.mark.parametrize("token", ODD_TOKENS.values(), ids=ODD_TOKENS)
def test_an_odd_token_is_refused_under_the_right_signature_too(token):
    with pytest.raises(NotAuthenticated):
        TokenSigner(KEY).verify(token)


def test_the_tokens_that_are_changed_here_are_good_unchanged():
    assert TokenSigner(KEY).verify(signed()) == VIEWER


@pytest.mark.parametrize("error", tokens.REFUSALS)
def test_what_the_library_lets_through_is_a_refusal(signer, monkeypatch, error):
    monkeypatch.setattr(tokens.jwt, "decode", Mock(side_effect=error))

    with pytest.raises(NotAuthenticated):
        signer.verify(signer.issue(VIEWER))


@pytest.mark.parametrize("error", [MemoryError, OSError, AssertionError, LookupError])
def test_a_fault_that_is_not_the_tokens_is_no_refusal(signer, monkeypatch, error):
    monkeypatch.setattr(tokens.jwt, "decode", Mock(side_effect=error))

    with pytest.raises(error):
        signer.verify(signer.issue(VIEWER))
