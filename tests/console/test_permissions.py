"""Permissions of every route of the console: strangers sign in first, viewers and auditors only read."""

from __future__ import annotations

import httpx
import pytest
from fastapi.routing import iter_route_contexts

from provider_registration.app import create_app
from provider_registration.auth.models import Role
from provider_registration.local.background_server import serve_in_background

from .conftest import ACCEPT, Person

SIGN_IN = "/admin/sign-in"
FOR_ANY_STAFF = {"/admin/sign-out", "/admin/candidates/columns"}  # among the POST routes
FOR_AUDITORS = ("/admin/approvals", "/admin/activity", "/admin/jobs")  # and below, among the GET routes
PATH_PARAMETERS = {
    "{candidate_id}": "0b8f3c52-94b1-4c43-9f0e-6a1f5f2d7c11",
    "{kind}": "csv",
    "{import_id}": "5d4e6a80-0b8f-4c43-9f0e-6a1f5f2d7c55",
    "{job_id}": "2c4e6a80-0b8f-4c43-9f0e-6a1f5f2d7c44",
    "{webhook_id}": "9a1f5c52-0b8f-4c43-9f0e-6a1f5f2d7c33",
    "{delivery_id}": "1",
    "{api_key_id}": "c1a5e0d2-7b34-4f3a-8a6e-2f5f2d7c11aa",
}


@pytest.fixture(scope="module")
def paths_by_method(settings):
    """Paths of the console's routes, by method."""
    found = {"GET": [], "POST": []}
    for route in iter_route_contexts(create_app(settings).routes):
        path = getattr(route, "path_format", "")
        if path.startswith("/admin") and path != SIGN_IN:
            for parameter, value in PATH_PARAMETERS.items():
                path = path.replace(parameter, value)
            for method in route.methods & found.keys():
                found[method].append(path)
    assert len(found["GET"]) >= 9
    assert len(found["POST"]) >= 9
    return found


async def test_strangers_sign_in_first(someone, paths_by_method):
    for method, paths in paths_by_method.items():
        for path in paths:
            response = await someone.ask(method, path, data={"x": "1"} if method == "POST" else None)
            if response.status_code == 401:  # the sign-in page itself, which keeps the form
                assert method == "POST"
                assert 'name="password"' in response.text
                continue
            assert (path, response.status_code) == (path, 303)
            assert response.headers["Location"].startswith(SIGN_IN)


async def test_no_form_counts_that_another_site_sent(admin, paths_by_method):
    for path in paths_by_method["POST"]:
        response = await admin.send(path, {"choice": "none"}, headers={"Sec-Fetch-Site": "cross-site"})
        assert (path, response.status_code) == (path, 403)


@pytest.mark.parametrize("role", [Role.VIEWER, Role.AUDITOR])
async def test_viewers_and_auditors_post_nothing_that_decides(viewer, auditor, role, paths_by_method, register):
    person, candidate = {Role.VIEWER: viewer, Role.AUDITOR: auditor}[role], await register()
    for path in set(paths_by_method["POST"]) - FOR_ANY_STAFF:
        real = path.replace(PATH_PARAMETERS["{candidate_id}"], candidate["candidate_id"])
        response = await person.send(real, {"choice": "none", "resolution": "let_go"})
        assert (path, response.status_code) == (path, 403)


async def test_auditors_read_what_admins_read_and_viewers_less(viewer, auditor, admin, paths_by_method, register):
    candidate = await register()
    of_admins = {
        path
        for path in paths_by_method["GET"]
        if path.endswith(("/approve", "/reject", "/resolve", "-link"))
        or path.startswith(("/admin/webhooks", "/admin/imports", "/admin/api-keys"))
    }
    for path in set(paths_by_method["GET"]) - of_admins:
        real = path.replace(PATH_PARAMETERS["{candidate_id}"], candidate["candidate_id"])
        codes = [(await person.ask("GET", real)).status_code for person in (viewer, auditor, admin)]
        assert (path, codes[1]) == (path, codes[2])
        assert (path, codes[0]) == (path, 403 if path.startswith(FOR_AUDITORS) else codes[2])
    for path in of_admins:
        real = path.replace(PATH_PARAMETERS["{candidate_id}"], candidate["candidate_id"])
        codes = [(await person.ask("GET", real)).status_code for person in (viewer, auditor)]
        assert (path, codes) == (path, [403, 403])


async def test_without_the_setting_there_is_no_console(settings):
    off = settings.model_copy(update={"admin_pages": False})
    async with serve_in_background(create_app(off)) as url, httpx.AsyncClient(base_url=url) as client:
        for path in ("/admin", SIGN_IN, "/admin/candidates"):
            assert (await client.get(path, headers={"Accept": ACCEPT})).status_code == 404


@pytest.mark.parametrize(
    ("pages", "leads_to"),
    [
        ({"admin_pages": True, "public_pages": True}, "/registry/apply"),
        ({"admin_pages": True, "public_pages": False}, "/registry/admin"),
        ({"admin_pages": False, "public_pages": False}, None),
    ],
)
async def test_the_root_path_redirects_to_the_start_page(settings, pages, leads_to):
    some = settings.model_copy(update={"root_path": "/registry", **pages})
    async with serve_in_background(create_app(some)) as url, httpx.AsyncClient(base_url=url) as client:
        response = await client.get("/registry/")

        assert response.headers.get("Location") == leads_to
        assert response.status_code == (303 if leads_to else 404)


@pytest.mark.parametrize("prefix", ["/registry", ""], ids=["prefix kept", "prefix taken off"])
async def test_the_console_works_behind_a_gateways_prefix(settings, accounts, prefix, register):
    await register()
    behind = settings.model_copy(update={"root_path": "/registry"})
    async with serve_in_background(create_app(behind)) as url, httpx.AsyncClient(base_url=url) as client:
        person = Person(client)
        page = await person.open(f"{prefix}/admin/candidates")
        page = await person.submit(
            page, "/sign-in", username=next(iter(accounts.values())), password="correct horse battery staple"
        )

        assert page.status_code == 200
        assert page.url.path == "/registry/admin/candidates"
        links = [part.split('"')[0] for part in page.text.replace('src="', 'href="').split('href="')[1:]]
        assert [link for link in links if link and not link.startswith(("/registry/", "#", "?"))] == []  # "": this page
        assert (await person.open(links[0])).status_code == 200
        nothing = await person.open(f"{prefix}/admin/nothing")
        assert (nothing.status_code, 'href="/registry/admin"' in nothing.text) == (404, True)
