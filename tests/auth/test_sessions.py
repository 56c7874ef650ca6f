"""Sessions: they are renewed, and a logout takes effect at once, everywhere."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from uuid import uuid4

import httpx
import pytest
from passlib.hash import argon2

from provider_registration.auth.models import Role
from provider_registration.observability.metrics import REFRESHES

PASSWORD = "a password that nobody else has"


@pytest.fixture
async def maria(users):
    """E-mail address of a viewer that only this test uses."""
    email = f"{uuid4().hex}@example.com"
    await users.create(email, PASSWORD, Role.VIEWER)
    return email


@pytest.fixture
def log_in(anonymous):
    async def log_in(email, password=PASSWORD):
        response = await anonymous.post("/auth/login", json={"username": email, "password": password})
        assert response.status_code == 200, response.text
        return response.json()

    return log_in


async def refresh(client, tokens):
    return await client.post("/auth/refresh", json={"refresh_token": tokens["refresh_token"]})


async def status_of(client, tokens):
    headers = {"Authorization": f"Bearer {tokens['access_token']}"}
    return (await client.get("/candidates", params={"limit": 1}, headers=headers)).status_code


async def ends_within_a_second(client, tokens):
    """Whether an access token stops working everywhere within a second."""
    try:
        async with asyncio.timeout(1):
            while await status_of(client, tokens) != 401:
                await asyncio.sleep(0.05)
    except TimeoutError:
        return False
    return True


@pytest.mark.asvs("V7.2.3", "V11.5.1")
async def test_a_refresh_gives_the_next_two_tokens(anonymous, maria, log_in):
    first = await log_in(maria)

    response = await refresh(anonymous, first)

    second = response.json()
    assert response.status_code == 200
    assert second["refresh_token"] != first["refresh_token"]
    assert await status_of(anonymous, second) == 200
    assert (await refresh(anonymous, second)).status_code == 200


@pytest.mark.asvs("V10.4.5")
async def test_a_refresh_token_that_comes_twice_ends_the_session(anonymous, maria, log_in):
    first = await log_in(maria)
    second = (await refresh(anonymous, first)).json()
    third = (await refresh(anonymous, second)).json()

    stolen = await refresh(anonymous, first)

    assert stolen.status_code == 401
    assert stolen.json()["type"].endswith(":invalid-refresh-token")
    assert (await refresh(anonymous, third)).status_code == 401
    assert await ends_within_a_second(anonymous, third)


def refreshes():
    """How often refresh tokens were used, by outcome."""
    samples = [sample for metric in REFRESHES.collect() for sample in metric.samples]
    return {one.labels["outcome"]: one.value for one in samples if one.name.endswith("_total")}


async def test_refreshes_are_counted_by_what_became_of_them(anonymous, maria, log_in, database):
    first, other = await log_in(maria), await log_in(maria)
    before = refreshes()

    second = (await refresh(anonymous, first)).json()
    await refresh(anonymous, first)
    await refresh(anonymous, second)
    await refresh(anonymous, first)
    await refresh(anonymous, {"refresh_token": "a" * 43})
    await database.execute("UPDATE refresh_tokens SET expires_at = now() WHERE used_at IS NULL")
    await refresh(anonymous, other)

    after = refreshes()
    grown = {outcome: after[outcome] - before.get(outcome, 0) for outcome in after}
    assert grown == {"succeeded": 2, "repeated": 1, "reused": 1, "unknown": 1, "expired": 1}


@pytest.mark.asvs("V10.4.5")
async def test_a_refresh_whose_response_was_lost_can_be_repeated(anonymous, maria, log_in):
    tokens = await log_in(maria)

    responses = await asyncio.gather(*(refresh(anonymous, tokens) for _ in range(8)))

    assert [response.status_code for response in responses] == [200] * 8
    assert len({response.json()["refresh_token"] for response in responses}) == 1
    assert (await refresh(anonymous, responses[0].json())).status_code == 200


@pytest.mark.asvs("V10.4.5")
async def test_a_refresh_is_not_repeated_later(anonymous, maria, log_in, database):
    first = await log_in(maria)
    second = (await refresh(anonymous, first)).json()
    await database.execute("UPDATE refresh_tokens SET used_at = used_at - interval '11 s' WHERE used_at IS NOT NULL")

    assert (await refresh(anonymous, first)).status_code == 401
    assert (await refresh(anonymous, second)).status_code == 401


@pytest.mark.parametrize("token", ["", "x", "x" * 129, "a" * 43, "é", None, 7])
async def test_what_is_no_refresh_token_is_refused(anonymous, token):
    response = await anonymous.post("/auth/refresh", json={"refresh_token": token})

    assert response.status_code in (401, 422)


@pytest.mark.asvs("V7.4.1", "V10.4.9")
async def test_logging_out_ends_both_tokens_at_once(anonymous, maria, log_in):
    tokens = await log_in(maria)
    headers = {"Authorization": f"Bearer {tokens['access_token']}"}

    response = await anonymous.post("/auth/logout", headers=headers)

    assert response.status_code == 204
    assert await status_of(anonymous, tokens) == 401
    assert (await refresh(anonymous, tokens)).status_code == 401


@pytest.mark.asvs("V7.1.2")
async def test_logging_out_leaves_other_sessions_alone(anonymous, maria, log_in):
    here, there = await log_in(maria), await log_in(maria)

    await anonymous.post("/auth/logout", headers={"Authorization": f"Bearer {here['access_token']}"})

    assert await status_of(anonymous, there) == 200


@pytest.mark.asvs("V6.4.3", "V7.4.2", "V7.4.3", "V8.3.2")
@pytest.mark.parametrize("change", ["disable", "set_role", "set_password"])
async def test_revoking_access_ends_every_session_within_a_second(
    anonymous, maria, log_in, users, settings, run_service, change
):
    async with run_service(settings) as replica, httpx.AsyncClient(base_url=replica.url) as elsewhere:
        tokens = await log_in(maria)
        assert await status_of(elsewhere, tokens) == 200
        another = f"{uuid4().hex}@example.com"
        await users.create(another, PASSWORD, Role.VIEWER)
        others = await log_in(another)
        changes: dict[str, Callable[[], Awaitable[object]]] = {
            "disable": lambda: users.disable(maria),
            "set_role": lambda: users.set_role(maria, Role.ADMIN),
            "set_password": lambda: users.set_password(maria, "another password altogether"),
        }

        await changes[change]()

        assert all(
            await asyncio.gather(ends_within_a_second(anonymous, tokens), ends_within_a_second(elsewhere, tokens))
        )
        assert (await refresh(anonymous, tokens)).status_code == 401
        assert (await refresh(anonymous, others)).status_code == 200


@pytest.mark.asvs("V7.4.1")
async def test_an_ended_session_is_known_to_a_process_that_starts_later(
    anonymous, maria, log_in, settings, run_service
):
    tokens = await log_in(maria)
    await anonymous.post("/auth/logout", headers={"Authorization": f"Bearer {tokens['access_token']}"})

    async with run_service(settings) as replica, httpx.AsyncClient(base_url=replica.url) as elsewhere:
        assert await status_of(elsewhere, tokens) == 401


async def test_a_session_and_its_refresh_tokens_last_as_documented(maria, log_in, database):
    await log_in(maria)

    session, refresh_token = await database.fetchrow(
        """
        SELECT extract(epoch FROM sessions.expires_at - sessions.created_at),
               extract(epoch FROM refresh_tokens.expires_at - sessions.created_at)
        FROM sessions
        JOIN refresh_tokens ON session_id = sessions.id
        JOIN users ON users.id = user_id
        WHERE email = $1
        """,
        maria,
    )
    assert round(session) == 7 * 24 * 3600
    assert round(refresh_token) == 12 * 3600


async def test_a_disabled_users_session_is_not_refreshed_though_nobody_ended_it(anonymous, maria, log_in, database):
    tokens = await log_in(maria)
    await database.execute("UPDATE users SET disabled_at = now() WHERE email = $1", maria)

    assert (await refresh(anonymous, tokens)).status_code == 401


async def test_an_enabled_user_can_log_in_again(maria, users, log_in, anonymous):
    await users.disable(maria)
    refused = await anonymous.post("/auth/login", json={"username": maria, "password": PASSWORD})
    await users.enable(maria)

    assert refused.status_code == 401
    assert await log_in(maria)


async def test_a_key_is_changed_without_a_failed_request(anonymous, maria, log_in, settings, run_service):
    tokens = await log_in(maria)
    new_key = uuid4().hex + uuid4().hex
    both = settings.model_validate(
        {**settings.model_dump(), "jwt_secret_key": new_key, "jwt_previous_secret_key": settings.jwt_secret_key}
    )
    only_new = settings.model_validate({**settings.model_dump(), "jwt_secret_key": new_key})

    async with run_service(both) as changing, httpx.AsyncClient(base_url=changing.url) as client:
        assert await status_of(client, tokens) == 200
        renewed = (await refresh(client, tokens)).json()
    async with run_service(only_new) as changed, httpx.AsyncClient(base_url=changed.url) as client:
        assert await status_of(client, renewed) == 200
        assert await status_of(client, tokens) == 401


@pytest.mark.asvs("V11.2.2")
async def test_a_weaker_hash_is_replaced_at_login(maria, log_in, database, anonymous):
    weak = argon2.using(type="ID", memory_cost=8192, rounds=1, parallelism=1).hash(PASSWORD)
    await database.execute("UPDATE users SET password_hash = $1 WHERE email = $2", weak, maria)

    tokens = await log_in(maria)

    stored = await database.fetchval("SELECT password_hash FROM users WHERE email = $1", maria)
    assert "m=19456,t=2,p=1" in stored
    assert await status_of(anonymous, tokens) == 200
    assert await log_in(maria)
