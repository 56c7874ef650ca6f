"""A lost link: one answer and one time for every address, and a mail only to the one that applied."""

from __future__ import annotations

import asyncio
import statistics
import time

import httpx
import pytest

from provider_registration.app import create_app
from provider_registration.applicants.applying import EMAIL_TAKEN_WITH_LINKS
from tests.chromium import text_of as text_of_page
from tests.notifications.conftest import secret_in
from tests.running_service import Contract

API, PAGE = "/applications/lost", "/apply/lost"
BROWSER = {"Accept": "text/html", "Sec-Fetch-Site": "same-origin"}


async def ask(post, address, path=API, **headers):
    if path == API:
        return await post.client.post(API, json={"contact_email": address})
    return await post.client.post(path, data={"contact_email": address}, headers=BROWSER | headers)


@pytest.mark.parametrize("path", [API, PAGE])
async def test_the_company_gets_a_new_link_and_keeps_the_others(post, path):
    candidate = await post.register(language="es", contact_email="Ana@huerta.example")
    [received] = await post.mails(1)

    answer = await ask(post, "ana@HUERTA.example", path)

    assert answer.status_code == (202 if path == API else 303)
    [_, mail] = await post.mails(2)
    assert (mail["To"], mail["Subject"]) == ("Ana@huerta.example", "Su enlace a su solicitud")
    for secret in (secret_in(mail), secret_in(received), candidate["status_url"].rpartition("/")[2]):
        assert await post.shows_application(secret)


@pytest.mark.parametrize("path", [API, PAGE])
async def test_the_answer_is_the_same_for_an_unknown_address(post, path):
    candidate = await post.register()
    await post.mails(1)

    known, unknown = await ask(post, candidate["contact_email"], path), await ask(post, "nobody@huerta.example", path)

    assert (known.status_code, known.content) == (unknown.status_code, unknown.content)
    changing = {"date", "x-request-id"}
    assert [name for name in known.headers if name not in changing] == [
        name for name in unknown.headers if name not in changing
    ]
    assert known.headers.get("location") == unknown.headers.get("location")
    await post.mails(2)


async def test_the_answer_takes_as_long_for_an_unknown_address(post):
    candidates = [await post.register() for _ in range(10)]
    times = {True: [], False: []}
    for candidate in candidates:
        for is_known, address in ((True, candidate["contact_email"]), (False, f"x{candidate['contact_email']}")):
            started = time.perf_counter()
            await ask(post, address)
            times[is_known].append(time.perf_counter() - started)

    assert min(min(each) for each in times.values()) >= 0.25
    assert abs(statistics.median(times[True]) - statistics.median(times[False])) < 0.02


async def test_one_address_gets_three_links_an_hour(post):
    candidate = await post.register()
    answers = [await ask(post, candidate["contact_email"].upper()) for _ in range(4)]

    assert [answer.status_code for answer in answers] == [202, 202, 202, 429]
    assert int(answers[-1].headers["Retry-After"]) > 0
    assert (await ask(post, "other@huerta.example")).status_code == 202
    await post.mails(4)


async def test_a_request_ends_no_link_however_many_there_are(post):
    candidate = await post.register()
    [received] = await post.mails(1)
    await post.connection.execute(
        "INSERT INTO status_links (secret_hash, candidate_id) "
        "SELECT sha256(CAST(CAST(n AS text) AS bytea)), $1::text::uuid FROM generate_series(1, 18) AS n",
        candidate["candidate_id"],
    )

    assert (await ask(post, candidate["contact_email"])).status_code == 202
    await post.mails(2)
    assert (await ask(post, candidate["contact_email"])).status_code == 202

    await post.mails(2)
    assert await post.connection.fetchval("SELECT count(*) FROM status_links") == 20
    assert await post.shows_application(secret_in(received))


async def test_an_unknown_address_is_limited_alike(post):
    answers = [await ask(post, "nobody@huerta.example") for _ in range(4)]

    assert [answer.status_code for answer in answers] == [202, 202, 202, 429]


async def test_requests_of_one_ip_address_count_as_registrations(post_office):
    async with post_office(rate_limit_registration="2/hour") as post:
        await post.register()
        assert (await ask(post, "one@huerta.example")).status_code == 202
        assert (await ask(post, "other@huerta.example")).status_code == 429
        page = await ask(post, "another@huerta.example", PAGE)

    assert page.status_code == 429
    assert "You can ask again in" in text_of_page(page)
    assert 'value="another@huerta.example"' in page.text


@pytest.mark.parametrize("body", [{}, {"contact_email": "x"}, {"contact_email": "a@b.example", "more": 1}, []])
async def test_an_invalid_request(post, body):
    assert (await post.client.post(API, json=body)).status_code == 422


@pytest.mark.parametrize(
    ("language", "typed", "sentence"),
    [
        ("en", "", "Enter an e-mail address"),
        ("en", "ana", "Enter an e-mail address like name@company.com"),
        ("es", "ana", "Escriba"),
    ],
)
async def test_the_page_says_what_is_wrong(post, language, typed, sentence):
    page = await ask(post, typed, f"{PAGE}?language={language}")

    assert page.status_code == 422
    assert sentence in text_of_page(page)
    assert 'aria-invalid="true"' in page.text


async def test_the_pages_of_companies_lead_there_in_their_language(post):
    candidate = await post.register(language="es")
    for path, status in (("/apply", 200), ("/applications/unknown", 404), (candidate["status_url"], 200)):
        page = await post.client.get(f"{path}?language=es", headers=BROWSER)
        assert page.status_code == status
        assert f'href="{PAGE}?language=es"' in page.text
    sent = await ask(post, "nobody@huerta.example", f"{PAGE}?language=es")
    confirmation = await post.client.get(sent.headers["Location"], headers=BROWSER)
    assert "Revise su correo" in text_of_page(confirmation)


async def test_a_company_that_applies_again_may_get_a_new_link(post):
    candidate = await post.register(language="en")
    form = {**candidate, "website": ""}

    page = await post.client.post("/apply?language=en", data=form, headers=BROWSER)

    assert page.status_code == 409
    assert EMAIL_TAKEN_WITH_LINKS in page.text
    assert f'href="{PAGE}?language=en"' in page.text


@pytest.mark.parametrize("without", [{"smtp_url": None}, {"public_url": ""}])
async def test_without_e_mail_or_links_nothing_is_offered(post_office, without):
    async with post_office(**without) as post:
        assert (await ask(post, "ana@huerta.example")).status_code == 405
        assert (await post.client.get(PAGE, headers=BROWSER)).status_code == 404
        form = await post.client.get("/apply", headers=BROWSER)

    assert "/apply/lost" not in form.text


async def test_an_allowed_origin_may_ask(post_office):
    origin = "https://shop.example"
    async with post_office(cors_allowed_origins=origin) as post:
        headers = {"Origin": origin, "Sec-Fetch-Site": "cross-site"}
        answer = await post.client.post(API, json={"contact_email": "ana@huerta.example"}, headers=headers)

    assert (answer.status_code, answer.headers["Access-Control-Allow-Origin"]) == (202, origin)


async def test_a_form_of_another_site_is_refused(post):
    refused = await ask(post, "ana@huerta.example", PAGE, **{"Sec-Fetch-Site": "cross-site"})

    assert refused.status_code == 403


async def test_the_answers_are_documented(mail_settings, post):
    contract = Contract.of(create_app(mail_settings(docs_access="anyone")))
    async with httpx.AsyncClient(
        base_url=post.client.base_url, event_hooks={"response": [contract.check]}
    ) as documented:
        for body in ({"contact_email": "ana@huerta.example"}, {}, {"contact_email": "x"}):
            await documented.post(API, json=body)
        await asyncio.gather(*(documented.post(API, json={"contact_email": "ana@huerta.example"}) for _ in range(3)))
