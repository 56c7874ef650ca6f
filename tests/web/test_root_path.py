"""Behind a gateway that publishes the service under a prefix and may or may not strip it."""

from __future__ import annotations

import re
from urllib.parse import urljoin

import httpx
import pytest

PREFIX = "/registry"


@pytest.fixture(scope="module")
async def prefixed(settings, run_service):
    """A client of a service published under the prefix."""
    async with (
        run_service(settings.model_copy(update={"root_path": PREFIX})) as service,
        httpx.AsyncClient(base_url=service.url) as client,
    ):
        yield client


@pytest.mark.parametrize("path", [f"{PREFIX}/health", "/health"], ids=["prefix kept", "prefix taken off"])
async def test_paths_work(prefixed, path):
    response = await prefixed.get(path)

    assert response.status_code == 200


async def test_a_path_that_only_begins_like_the_prefix_is_unknown(prefixed):
    response = await prefixed.get(f"{PREFIX}health")

    assert response.status_code == 404
    assert response.json()["instance"] == f"{PREFIX}{PREFIX}health"


@pytest.mark.parametrize("path", [f"{PREFIX}/candidates", "/candidates"])
async def test_location_has_the_prefix_and_leads_to_the_candidate(prefixed, registration, tokens, path):
    response = await prefixed.post(path, json=registration())

    location = response.headers["Location"]
    assert location == f"{PREFIX}/candidates/{response.json()['candidate_id']}"
    headers = {"Authorization": f"Bearer {tokens['viewer']}"}
    record = (await prefixed.get(location, headers=headers)).json()
    assert response.json() == record | {"status_url": response.json()["status_url"]}


@pytest.mark.parametrize("path", [f"{PREFIX}/candidates", "/candidates"])
async def test_the_link_to_the_status_page_has_the_prefix(prefixed, registration, tokens, path):
    registered = (await prefixed.post(path, json=registration())).json()
    headers = {"Authorization": f"Bearer {tokens['admin']}"}

    replaced = await prefixed.post(f"{path}/{registered['candidate_id']}/status-link", headers=headers)

    for answer in (registered, replaced.json()):
        assert re.fullmatch(PREFIX + r"/applications/[\w-]{43}", answer["status_url"])


@pytest.mark.parametrize("path", [f"{PREFIX}/candidates", "/candidates"])
async def test_the_instance_of_a_problem_has_the_prefix(prefixed, path):
    response = await prefixed.get(path)

    assert response.status_code == 401
    assert response.json()["instance"] == f"{PREFIX}/candidates"


@pytest.mark.parametrize("path", [f"{PREFIX}/docs", "/docs"])
async def test_the_docs_load_everything_from_below_the_prefix(prefixed, path):
    page = await prefixed.get(path)

    links = re.findall(r"""(?:src|href)="([^"]+)"|url: '([^']+)'""", page.text)
    paths = {one or other for one, other in links}
    assert len(paths) == 4
    for link in paths:
        assert link.startswith(f"{PREFIX}/")
        assert (await prefixed.get(link)).status_code == 200


@pytest.mark.parametrize("path", [f"{PREFIX}/redoc", "/redoc"])
async def test_the_reference_loads_everything_from_below_the_prefix(prefixed, path):
    page = await prefixed.get(path)

    links = re.findall(r'(?:src|href|url)="([^"]+)"', page.text)
    assert len(links) == 3
    for link in links:
        assert link.startswith(f"{PREFIX}/")
        assert (await prefixed.get(link)).status_code == 200


@pytest.mark.parametrize("path", [f"{PREFIX}/openapi.json", "/openapi.json"])
async def test_try_it_out_and_authorize_call_paths_below_the_prefix(prefixed, path):
    document = (await prefixed.get(path)).json()

    assert document["servers"] == [{"url": PREFIX}]
    assert "/candidates" in document["paths"]
    scheme = document["components"]["securitySchemes"]["OAuth2PasswordBearer"]
    token_url = scheme["flows"]["password"]["tokenUrl"]
    # Swagger UI leaves a relative address to the browser, which resolves it against the page.
    assert urljoin(f"http://gateway{PREFIX}/docs", token_url) == f"http://gateway{PREFIX}/auth/login"


async def test_metrics_speak_of_routes_without_the_prefix(prefixed):
    await prefixed.get(f"{PREFIX}/health/live")

    metrics = (await prefixed.get(f"{PREFIX}/metrics")).text

    assert 'endpoint="/health/live"' in metrics
    assert PREFIX not in metrics


@pytest.mark.parametrize("path", [f"{PREFIX}/health/live", "/health/live"])
async def test_probes_are_not_limited_with_or_without_the_prefix(settings, run_service, path):
    strict = settings.model_copy(update={"root_path": PREFIX, "rate_limit_default": "2/minute"})
    async with run_service(strict) as service, httpx.AsyncClient(base_url=service.url) as client:
        codes = {(await client.get(path)).status_code for _ in range(5)}

    assert codes == {200}


async def test_with_a_public_url_the_api_says_where_people_find_the_page(settings, run_service, registration, tokens):
    public = settings.model_copy(update={"root_path": PREFIX, "public_url": "https://supply.example"})
    async with run_service(public) as service, httpx.AsyncClient(base_url=service.url) as client:
        registered = (await client.post("/candidates", json=registration())).json()
        headers = {"Authorization": f"Bearer {tokens['admin']}"}
        replaced = await client.post(f"/candidates/{registered['candidate_id']}/status-link", headers=headers)

    for answer in (registered, replaced.json()):
        assert answer["status_url"].startswith(f"{PREFIX}/applications/")
        assert answer["status_page_url"] == f"https://supply.example{answer['status_url']}"


async def test_without_one_the_api_names_the_path_alone(prefixed, registration, tokens):
    registered = (await prefixed.post("/candidates", json=registration())).json()
    headers = {"Authorization": f"Bearer {tokens['admin']}"}
    replaced = await prefixed.post(f"/candidates/{registered['candidate_id']}/status-link", headers=headers)

    assert "status_page_url" not in registered
    assert set(replaced.json()) == {"status_url"}
