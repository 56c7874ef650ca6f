"""A page of the console may follow events with its cookie."""

from __future__ import annotations


async def status_of(person):
    cookies = "; ".join(f"{name}={value}" for name, value in person.cookies.items())
    async with person.client.stream("GET", "/events/stream", headers={"Cookie": cookies}) as response:
        if response.status_code == 200:
            assert await anext(response.aiter_lines())
        return response.status_code


async def test_the_cookie_of_an_admin_opens_a_stream(admin, viewer, someone):
    assert [await status_of(each) for each in (admin, viewer, someone)] == [200, 403, 401]


async def test_following_events_keeps_no_idle_session_alive(admin, database):
    await admin.open("/admin")
    await database.execute("UPDATE browser_sessions SET seen_at = now() - interval '20 minutes'")
    await status_of(admin)

    assert await database.fetchval("SELECT min(now() - seen_at) > interval '19 minutes' FROM browser_sessions")
    await admin.open("/admin")
    assert not await database.fetchval("SELECT min(now() - seen_at) > interval '19 minutes' FROM browser_sessions")
