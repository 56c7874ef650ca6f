"""Open pages of the console tell when something has changed, and all tabs of a browser use one stream."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import pytest
from playwright.async_api import expect

from provider_registration.auth.models import Role


def notice(page):
    return expect(page.locator(".live"))


# Each page shows what its stream did as data-open and data-message. Once it is open, the server sends every event.
SHOW_STREAM = """
    window.EventSource = class extends EventSource {
      constructor(url) {
        super(url);
        const page = document.documentElement;
        for (const type of ["open", "message"]) this.addEventListener(type, () => { page.dataset[type] = ""; });
      }
    };
"""


@pytest.fixture
def signed_in(signed_in):
    @asynccontextmanager
    async def showing(**options):
        async with signed_in(**options) as page:
            await page.context.add_init_script(SHOW_STREAM)
            yield page

    return showing


async def followed(page):
    """Wait until this page follows events."""
    await expect(page.locator("html[data-open]")).to_have_count(1)


async def test_tabs_share_one_stream_which_outlives_the_tab_that_opened_it(signed_in, register):
    async with signed_in() as first:
        streams = []  # those that are open: one that breaks is opened again

        def forget(request):
            if request in streams:
                streams.remove(request)

        first.context.on(
            "request", lambda request: streams.append(request) if "/events/stream" in request.url else None
        )
        first.context.on("requestfailed", forget)
        first.context.on("requestfinished", forget)
        await first.goto("/admin/candidates")
        second = await first.context.new_page()
        await second.goto("/admin/candidates")
        await followed(first)

        await register()

        for page in (first, second):
            await notice(page).to_contain_text("Candidates have changed.")
        assert len(streams) == 1
        await second.reload()
        await notice(second).to_be_hidden()
        [of_first] = streams
        await first.close()
        await followed(second)
        await register()
        await notice(second).to_be_visible()
        assert [stream for stream in streams if stream is not of_first] != []


async def test_a_candidates_page_tells_of_its_own_events_alone(signed_in, register, admin):
    candidate, other = await register(), await register()
    async with signed_in() as page:
        await page.goto(f"/admin/candidates/{candidate['candidate_id']}")
        await followed(page)

        await admin.submit(await admin.open(f"/admin/candidates/{other['candidate_id']}/status-link"), "/status-link")
        await admin.submit(
            await admin.open(f"/admin/candidates/{candidate['candidate_id']}/status-link"), "/status-link"
        )

        await notice(page).to_contain_text("This candidate has changed.")
        await page.locator(".live a").click()
        await notice(page).to_be_hidden()
        await expect(page.locator(".timeline li")).to_have_count(2)


async def has_been_dispatched(database):
    async with asyncio.timeout(30):
        while await database.fetchval("SELECT count(*) FROM event_queue"):
            await asyncio.sleep(0.05)


async def test_ones_own_decision_is_no_news(signed_in, register, database, accounts):
    candidate = await register()
    async with signed_in() as page:
        await page.goto(f"/admin/candidates/{candidate['candidate_id']}/reject")
        await page.locator("#reason").fill("No cold chain")
        await page.get_by_role("button", name="Reject").click()
        await has_been_dispatched(database)
        await page.goto("/admin/candidates?status=rejected")
        await followed(page)
        await write(database, candidate, accounts[Role.ADMIN])
        await expect(page.locator("html[data-message]")).to_have_count(1)
        await notice(page).to_be_hidden()
        await write(database, candidate, accounts[Role.VIEWER])
        await notice(page).to_be_visible()


async def write(database, candidate, email):
    await database.execute(
        "INSERT INTO candidate_events (candidate_id, type, actor_kind, actor_id) "
        "SELECT $1, 'candidate.status_link_replaced', 'user', id FROM users WHERE email = $2",
        candidate["candidate_id"],
        email,
    )
