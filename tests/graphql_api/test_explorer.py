"""GraphiQL in Chromium: it runs a query, breaks no policy and asks no other host."""

from __future__ import annotations

from urllib.parse import urlsplit

import httpx
import pytest
from playwright.async_api import expect

from tests.chromium import visit

PREFIX = "/registry"


@pytest.fixture(scope="module")
async def published(with_graphql, run_service):
    """A service published under the prefix."""
    async with run_service(with_graphql.model_copy(update={"root_path": PREFIX})) as service:
        yield service


async def test_a_query_is_executed_and_no_policy_is_broken(browser, published, tokens):
    asked_for = []
    async with visit(browser, published.url) as page:
        page.on("request", lambda request: asked_for.append(request.url))
        await page.set_extra_http_headers({"Authorization": f"Bearer {tokens['viewer']}"})
        await page.goto(f"{PREFIX}/graphiql")
        await page.get_by_role("button", name="Show Documentation Explorer").click()
        await page.get_by_role("link", name="Query", exact=True).first.click()  # it has read the schema
        await expect(page.get_by_role("link", name="Statistics", exact=True)).to_be_visible()
        await page.get_by_role("region", name="Query Editor").locator(".CodeMirror").click()
        await page.keyboard.press("Control+A")
        await page.keyboard.insert_text("{ statistics { is_complete } }")
        await page.keyboard.press("Control+Enter")
        await expect(page.get_by_role("region", name="Result Window")).to_contain_text("is_complete")

    assert f"{published.url}{PREFIX}/graphql" in asked_for
    assert not [url for url in asked_for if url.startswith("http") and not urlsplit(url).path.startswith(f"{PREFIX}/")]


async def test_its_example_is_a_query_of_this_api(published, tokens):
    async with httpx.AsyncClient(base_url=published.url) as client:
        example = (await client.get("/graphiql")).text.split("`")[1]
        headers = {"Authorization": f"Bearer {tokens['viewer']}"}
        found = (await client.post("/graphql", json={"query": example}, headers=headers)).json()

    assert "errors" not in found
    assert "total" in found["data"]["candidates"]["pagination"]


async def test_only_its_own_files_are_served(published):
    async with httpx.AsyncClient(base_url=published.url) as client:
        assert (await client.get("/graphiql/graphiql.min.js")).status_code == 200
        assert (await client.get("/graphiql/style.css")).status_code == 422
        assert (await client.get("/graphiql/..%2f..%2fviews.py")).status_code in (404, 422)


@pytest.mark.parametrize(("access", "status"), [("staff", 401), ("off", 404)])
async def test_it_is_open_only_where_docs_are(with_graphql, run_service, access, status):
    async with run_service(with_graphql.model_copy(update={"docs_access": access})) as service:
        async with httpx.AsyncClient(base_url=service.url) as client:
            for path in ("/docs", "/graphiql", "/graphiql/graphiql.min.js"):
                assert (await client.get(path)).status_code == status
