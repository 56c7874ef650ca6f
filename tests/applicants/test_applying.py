"""The application form: what it accepts, its error messages, and that no input is lost."""

from __future__ import annotations

import asyncio
import html
import re
from uuid import uuid4

import httpx
import pytest

from provider_registration.applicants.applying import EMAIL_TAKEN, NOT_SAVED
from provider_registration.applicants.questions import sentence
from provider_registration.applicants.router import ALREADY_SENT, SWITCH
from provider_registration.candidates.schemas import CandidateRegistration
from provider_registration.pages.translations import Languages
from tests.chromium import text_of

from .conftest import BROWSER

STATUS_PAGE = re.compile(r"/applications/[A-Za-z0-9_-]{43}")
ENGLISH = Languages().english
AS_API = {"Accept": "application/json"}


@pytest.fixture
def send(client):
    """Sends a form, without following the redirect."""

    async def send(form, **headers):
        return await client.post("/apply", data=form, headers=headers)

    return send


def errors_of(page):
    """The error messages by field; each is also in the summary, as a link to its field."""
    beside = re.findall(r'id="(\w+)-error"><span class="visually-hidden">Error:</span> (.+?)</p>', page.text)
    summary = re.findall(r'<li><a href="#(\w+)">(.+?)</a></li>', page.text)
    assert summary == beside
    for field, _ in beside:
        assert f'id="{field}"' in page.text
    return {field: html.unescape(sentence) for field, sentence in beside}


def values_of(page):
    """The values of the text fields."""
    found = re.findall(r'<input type="(?:text|email|tel)" id="(\w+)" name="\1" value="([^"]*)"', page.text)
    return {name: html.unescape(value) for name, value in found}


@pytest.mark.asvs("V3.7.1", "V3.7.2")
async def test_a_company_that_applies_is_registered_and_redirected_to_its_page(client, send, typed, candidate_of):
    form = typed()

    response = await send(form)

    assert response.status_code == 303
    assert STATUS_PAGE.fullmatch(response.headers["Location"])
    page = await client.get(response.headers["Location"])
    assert page.status_code == 200
    assert form["company_name"] in page.text
    candidate = await candidate_of(form["contact_email"])
    assert (candidate["status"], candidate["truck_count"]) == ("pending", 7)
    assert candidate["products"] == ["apples", "grapes"]


async def test_only_what_is_needed_is_enough(send, typed, candidate_of):
    form = typed(phone=" ", location="")

    assert (await send(form)).status_code == 303

    candidate = await candidate_of(form["contact_email"])
    assert (candidate["phone"], candidate["location"]) == (None, None)


async def test_the_form_asks_for_what_the_api_takes(client):
    page = await client.get("/apply")

    names = set(re.findall(r'name="(\w+)"', page.text)) - {"viewport", "color", "key", "website", SWITCH}
    assert names | {"language"} == set(CandidateRegistration.model_fields)  # the form's URL has it
    assert page.headers["Cache-Control"] == "private, no-cache"
    assert "Set-Cookie" not in page.headers


@pytest.mark.parametrize(
    ("changes", "kind", "limits"),
    [
        ({"company_name": " "}, "missing", {}),
        ({"company_name": "x" * 256}, "too_long", {"max_length": 255}),
        ({"company_name": "\u200b"}, "too_short", {}),
        ({"contact_email": ""}, "missing", {}),
        ({"contact_email": "sales"}, "email_address", {}),
        ({"contact_email": "x" * 255}, "string_too_long", {"max_length": 254}),
        ({"phone": "1" * 51}, "too_long", {"max_length": 50}),
        ({"phone": "none"}, "no_digits", {}),
        ({"location": "x" * 256}, "too_long", {"max_length": 255}),
        ({"products": []}, "missing", {}),
        ({"products": ["pears"]}, "enum", {}),
        ({"products": ["apples"] * 2}, "repeated_items", {}),
        ({"products": ["apples"] * 6}, "too_long", {}),
        ({"truck_count": ""}, "missing", {}),
        *(({"truck_count": typed}, "int_type", {}) for typed in ("twelve", "1.5", "½", "9" * 5000)),
        ({"truck_count": "0"}, "greater_than_equal", {"ge": 1}),
        ({"truck_count": "2147483648"}, "less_than_equal", {"le": 2**31 - 1}),
        ({"capacity_tons_per_day": ""}, "missing", {}),
        ({"capacity_tons_per_day": "80 kg"}, "int_type", {}),
        ({"capacity_tons_per_day": "-1"}, "greater_than_equal", {"ge": 1}),
        ({"capacity_tons_per_day": "9" * 30}, "less_than_equal", {"le": 2**31 - 1}),
        *(
            ({field: "a\x00b@x.example"}, "control_character", {})
            for field in ("company_name", "location", "contact_email", "phone")
        ),
    ],
    ids=lambda value: str(value)[:40],
)
async def test_what_is_wrong_is_said_beside_its_field_in_words_for_it(send, typed, changes, kind, limits):
    page = await send(typed(**changes))

    assert page.status_code == 422
    [field] = changes
    [(refused, said)] = errors_of(page).items()
    assert refused == field
    assert said == sentence({"loc": (field,), "type": kind, "ctx": limits}, ENGLISH)
    assert all(f"{limit:,}" in said for limit in limits.values())
    assert "<title>Error: " in page.text


async def test_everything_that_is_wrong_is_said_at_once_in_the_order_of_the_form(send):
    page = await send({"nothing": "of the form"})

    needed = ["company_name", "contact_email", "products", "truck_count", "capacity_tons_per_day"]
    assert list(errors_of(page)) == needed


@pytest.mark.asvs("V1.2.1", "V3.2.2")
async def test_nothing_that_was_typed_is_lost(send, typed):
    form = typed(contact_email='"><script>alert(1)</script>', truck_count="a dozen", phone="  +49 ")

    page = await send(form)

    fields = ("company_name", "location", "contact_email", "phone", "truck_count", "capacity_tons_per_day", "website")
    assert values_of(page) == {name: form[name] for name in fields}
    assert re.findall(r'value="(\w+)" checked', page.text) == form["products"]
    assert f'name="key" value="{form["key"]}"' in page.text
    assert "<script" not in page.text


async def test_a_corrected_form_is_accepted(send, typed):
    page = await send(form := typed(truck_count="a dozen"))

    key = re.search(r'name="key" value="([^"]+)"', page.text)[1]
    assert (await send({**form, "key": key, "truck_count": "12"})).status_code == 303


async def test_a_registered_email_address_is_refused_as_in_the_api(client, send, typed):
    first = typed()
    led_to = (await send(first)).headers["Location"]

    page = await send(typed(contact_email=first["contact_email"].upper()))

    api = await client.post("/candidates", json=as_json(typed(contact_email=first["contact_email"])))
    assert page.status_code == api.status_code == 409
    assert errors_of(page) == {"contact_email": EMAIL_TAKEN}
    assert first["company_name"] not in page.text
    assert led_to not in page.text


def as_json(form):
    numbers = {name: int(form[name]) for name in ("truck_count", "capacity_tons_per_day")}
    return {name: value for name, value in form.items() if name not in ("key", "website")} | numbers


async def test_a_form_sent_again_redirects_to_the_same_application(send, typed):
    form = typed()

    first, second = await send(form), await send(form)

    assert second.status_code == 303
    assert second.headers["Location"] == first.headers["Location"]
    assert "notice" not in str(second.headers.get_list("set-cookie"))


async def test_a_form_that_says_something_else_when_sent_again_changes_nothing_and_says_so(client, send, typed):
    form = typed()
    await send(form)

    again = await send({**form, "truck_count": "8"})

    assert "notice" in str(again.headers.get_list("set-cookie"))
    cookie = again.headers["set-cookie"].partition(";")[0]
    said = text_of(await client.get(again.headers["Location"], headers={"Cookie": cookie}))
    assert ALREADY_SENT in said
    assert "Number of trucks 7" in said


async def test_a_form_that_is_sent_many_times_at_once_applies_once(send, typed, settings, run_service, database):
    form = typed()

    async with run_service(settings) as other:  # which shares only the database
        responses = await asyncio.gather(
            *(httpx_post(other, form) if number % 2 else send(form) for number in range(20))
        )

    assert {response.status_code for response in responses} == {303}
    assert len({response.headers["Location"] for response in responses}) == 1
    count = "SELECT count(*) FROM candidates WHERE contact_email = $1"
    assert await database.fetchval(count, form["contact_email"]) == 1


async def httpx_post(url, form):
    async with httpx.AsyncClient(base_url=url, headers=BROWSER, timeout=30) as client:
        return await client.post("/apply", data=form)


async def test_one_form_sent_for_two_companies_makes_two_applications(send, typed):
    form = typed()
    other = {**typed(), "key": form["key"]}

    first, second = await send(form), await send(other)

    assert {first.status_code, second.status_code} == {303}
    assert first.headers["Location"] != second.headers["Location"]


@pytest.mark.parametrize("key", ["", "short", "x" * 44, "ä" * 43])
async def test_a_form_with_a_foreign_key_gets_an_unguessable_link(send, typed, key):
    form = typed(key=key)

    first, second = await send(form), await send(form)

    assert STATUS_PAGE.fullmatch(first.headers["Location"])
    assert second.status_code == 409


async def test_a_form_with_a_filled_honeypot_is_refused(send, typed, candidate_of):
    form = typed(website="https://spam.example")

    page = await send(form)

    assert page.status_code == 422
    assert list(errors_of(page)) == ["website"]
    assert await candidate_of(form["contact_email"]) is None


@pytest.mark.asvs("V3.5.1", "V3.5.2")
async def test_a_form_of_another_site_is_refused(send, typed, candidate_of):
    form = typed()

    page = await send(form, **{"Sec-Fetch-Site": "cross-site"})

    assert page.status_code == 403
    assert page.headers["Content-Type"].startswith("text/html")
    assert await candidate_of(form["contact_email"]) is None


async def test_a_body_that_is_not_a_form_is_refused(client, typed):
    response = await client.post("/apply", json=typed(), headers=AS_API)

    assert response.status_code == 415


async def test_applications_count_together_with_registrations(settings, run_service, typed):
    limited = settings.model_copy(update={"rate_limit_registration": "2/hour"})
    async with run_service(limited) as url, httpx.AsyncClient(base_url=url, headers=BROWSER) as client:
        for _ in range(3):  # these are not counted
            assert (await client.post("/apply", data=typed(truck_count=""))).status_code == 422
        assert (await client.post("/candidates", json=as_json(typed()))).status_code == 201
        assert (await client.post("/apply", data=typed())).status_code == 303
        form = typed()
        page = await client.post("/apply", data=form)
        api = await client.post("/candidates", json=as_json(form))

    assert page.status_code == api.status_code == 429
    assert int(page.headers["Retry-After"]) > 0
    assert re.search(r"You can send yours in \d+ minutes", text_of(page))
    assert values_of(page)["company_name"] == form["company_name"]


async def test_the_form_is_kept_while_the_database_does_not_respond(settings, run_service, typed):
    nowhere = settings.model_copy(update={"database_url": "postgresql+asyncpg://nobody@127.0.0.1:1/nothing"})
    async with run_service(nowhere) as url, httpx.AsyncClient(base_url=url, headers=BROWSER) as client:
        form = typed()
        page = await client.post("/apply", data=form)
        application = await client.get(f"/applications/{uuid4().hex}")

    assert page.status_code == 503
    assert NOT_SAVED in text_of(page)
    assert values_of(page)["company_name"] == form["company_name"]
    assert application.status_code == 503
    assert application.headers["Content-Type"].startswith("text/html")


async def test_without_public_pages_there_is_no_form(settings, run_service):
    async with (
        run_service(settings.model_copy(update={"public_pages": False})) as url,
        httpx.AsyncClient(base_url=url) as client,
    ):
        for path in ("/apply", f"/applications/{'x' * 43}", "/static/pages.css"):
            assert (await client.get(path)).status_code == 404
