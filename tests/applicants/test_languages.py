"""The pages for companies in Spanish, in a language added by one file, and in the language of a company."""

from __future__ import annotations

import html
import re
from io import BytesIO
from uuid import uuid4

import httpx
import pytest
from babel.messages.pofile import read_po

from provider_registration import app
from provider_registration.applicants.questions import PRODUCTS
from provider_registration.candidates.company import Product
from tests import messages
from tests.chromium import text_of

from .conftest import BROWSER

CATALOGUES = sorted(messages.TRANSLATIONS.glob("*.po"))
SPANISH = {"Accept-Language": "es-ES,es;q=0.9,en;q=0.8"}
PLACEHOLDERS = re.compile(r"%\(\w+\)s|</?\w+>")


def texts_of(message):
    """The plural forms of a message: in the source, and in the translation."""
    source = message.id if isinstance(message.id, tuple) else (message.id,)
    return source, message.string if isinstance(message.string, tuple) else (message.string,)


@pytest.fixture(scope="module")
def source():
    return messages.extract()


@pytest.mark.parametrize("path", CATALOGUES, ids=lambda path: path.stem)
def test_a_catalogue_has_every_message_of_the_source_and_no_other(path, source):
    written, updated = messages.read(path), read_po(BytesIO(messages.update(messages.read(path), source)))

    assert {message.id for message in written} == {message.id for message in updated}
    assert not written.obsolete
    for message in written:
        if message.id:
            originals, translations = texts_of(message)
            assert not message.fuzzy, message.id
            assert len(translations) == (written.num_plurals if message.pluralizable else 1), message.id
            assert all(translations), f"not translated: {message.id}"
            for text in (*originals, *translations):
                assert sorted(PLACEHOLDERS.findall(text)) == sorted(PLACEHOLDERS.findall(originals[-1])), text
                if values := dict.fromkeys(re.findall(r"%\((\w+)\)s", text), ""):
                    assert text % values  # otherwise a percent sign in it is not doubled


def test_spanish_is_there_and_every_product_has_a_name():
    assert "es" in [path.stem for path in CATALOGUES]
    assert set(PRODUCTS) == set(Product)


@pytest.fixture
def english(source):
    """The texts of the catalogue that differ in Spanish, as a page shows them."""
    spanish = messages.read(messages.TRANSLATIONS / "es.po")
    texts = [texts_of(message) for message in spanish if message.id]
    words = {text for originals, translations in texts for text in originals if text not in translations}
    patterns = [re.sub(r"%\\\(\w+\\\)s", ".+?", re.escape(re.sub("</?bdi>", "", text))) for text in words]
    return [re.compile(rf"(?<!\w){pattern}(?!\w)") for pattern in patterns]


def without_what_was_typed(page, form):
    text = f"{html.unescape(re.search('<title>(.*?)</title>', page.text)[1])}\n{text_of(page)}"
    return re.sub("|".join(re.escape(value) for value in form.values() if value and isinstance(value, str)), "", text)


async def test_no_page_in_spanish_has_an_english_text(client, admin, typed, english):
    forms = [typed(location="") for _ in range(3)]
    sent = [await client.post("/apply?send&language=es", data=form) for form in forms]
    links = [response.headers["Location"] for response in sent]
    ids = {one["contact_email"]: one["candidate_id"] for one in (await admin.get("/candidates")).json()["candidates"]}
    assert (await admin.post(f"/candidates/{ids[forms[1]['contact_email']]}/approve")).status_code == 200
    await admin.post(f"/candidates/{ids[forms[2]['contact_email']]}/reject")
    again = await client.post("/apply?send&language=es", data=forms[0] | {"truck_count": "8"})
    cookie = {"Cookie": again.headers["set-cookie"].partition(";")[0]}
    taken = typed(contact_email=forms[0]["contact_email"])
    bare = {"website": "https://spam.example", "phone": "x", "location": "x" * 256, "truck_count": "0"}

    pages = {
        "the form": await client.get("/apply", headers=SPANISH),
        **{f"application {number}": await client.get(link) for number, link in enumerate(links)},
        "sent again": await client.get(links[0], headers=cookie),
        "no application": await client.get("/applications/none", headers=SPANISH),
        "wrong": await client.post("/apply", data=bare, headers=SPANISH),
        "taken": await client.post("/apply", data=taken, headers=SPANISH),
        "403": await client.post("/apply", data=bare, headers=SPANISH | {"Sec-Fetch-Site": "cross-site"}),
        "404": await client.get("/apply/nothing", headers=SPANISH),
        "405": await client.delete("/apply", headers=SPANISH),
        "413": await client.post("/apply", data={"phone": "1" * 100_000}, headers=SPANISH),
        "415": await client.post("/apply", json={}, headers=SPANISH),
        "422": await client.post(
            "/apply", content=b"\xff", headers=SPANISH | {"Content-Type": "application/x-www-form-urlencoded"}
        ),
    }

    for name, page in pages.items():
        if name.isdigit():
            assert page.status_code == int(name)
        assert '<html lang="es">' in page.text, name
        assert page.headers["Content-Language"] == "es"
        assert "Accept-Language" in page.headers["Vary"]
        shown = without_what_was_typed(page, forms[0] | forms[1] | forms[2] | taken | bare)
        for form in (*forms, taken):
            shown = shown.replace(form["company_name"], "").replace(form["contact_email"], "")
        shown = shown.replace("English", "")
        assert [text.pattern for text in english if text.search(shown)] == [], name


async def test_limits_and_outages_are_explained_in_spanish(settings, run_service, typed):
    nowhere = "postgresql+asyncpg://nobody@127.0.0.1:1/nothing"
    limited = settings.model_copy(update={"rate_limit_default": "3/minute", "database_url": nowhere})
    async with run_service(limited) as url, httpx.AsyncClient(base_url=url, headers=BROWSER | SPANISH) as client:
        form = await client.post("/apply", data=typed())
        application = await client.get(f"/applications/{uuid4().hex}")
        await client.get("/apply")
        limit = await client.get("/apply?language=es", headers={"Accept-Language": "en"})
        english = await client.get("/apply?language=en")

    assert [page.status_code for page in (form, application, limit, english)] == [503, 503, 429, 429]
    assert "no hemos podido guardar" in text_of(form)
    assert "No disponible temporalmente" in text_of(application)
    assert re.search(r"Demasiadas peticiones Puede volver a intentarlo dentro de \d+ segundos?\.", text_of(limit))
    assert 'href="/apply?language=es"' in limit.text
    assert "Too many requests" in text_of(english)


async def test_the_console_and_the_api_respond_in_english(client, settings, run_service):
    problem = await client.get("/apply/nothing", headers=SPANISH | {"Accept": "application/json"})
    async with (
        run_service(settings.model_copy(update={"admin_pages": True})) as url,
        httpx.AsyncClient(base_url=url, headers=BROWSER | SPANISH) as visitor,
    ):
        console = [await visitor.get("/admin/sign-in?language=es"), await visitor.get("/admin/nothing?language=es")]

    assert problem.json()["title"] == "Not found"
    for page in console:
        assert '<html lang="en">' in page.text
        assert page.headers["Content-Language"] == "en"
        assert "Accept-Language" not in page.headers.get("Vary", "")


async def test_what_was_typed_survives_a_change_of_language(client, typed, candidate_of):
    form = typed(truck_count="a dozen", products=["mangoes"])

    page = await client.post("/apply?send&language=es", data=form | {"switch": "es"})

    assert page.status_code == 200
    assert '<html lang="es">' in page.text
    assert "-error" not in page.text
    for name in ("key", "company_name", "location", "contact_email", "phone", "truck_count", "capacity_tons_per_day"):
        assert f'name="{name}" value="{html.escape(form[name])}"' in page.text
    assert re.findall(r'value="(\w+)" checked', page.text) == ["mangoes"]
    assert await candidate_of(form["contact_email"]) is None


async def test_a_blank_form_in_another_language_is_a_page_that_can_be_kept(client):
    blank = re.search(r'name="key" value="([^"]+)"', (await client.get("/apply")).text)[1]

    response = await client.post("/apply?send&language=es", data={"key": blank, "company_name": "", "switch": "es"})

    assert (response.status_code, response.headers["Location"]) == (303, "/apply?language=es")
    assert '<html lang="es">' in (await client.get(response.headers["Location"])).text


async def test_the_language_of_the_form_is_kept_and_the_applications_page_is_in_it(client, typed, candidate_of):
    form = typed(capacity_tons_per_day="1200")
    path = (await client.post("/apply?send&language=es", data=form)).headers["Location"]

    page = await client.get(path, headers={"Accept-Language": "en"})
    chosen = await client.get(f"{path}?language=en", headers=SPANISH)

    assert (await candidate_of(form["contact_email"]))["language"] == "es"
    assert "1.200 toneladas al día" in text_of(page)
    assert "Manzanas, Uvas" in text_of(page)
    assert "1,200 tonnes per day" in text_of(chosen)
    assert 'href="?language=en"' in page.text


@pytest.mark.parametrize(
    ("sent", "kept", "shown"),
    [({"language": "es-MX"}, "es-MX", "es"), ({"language": "fr"}, "fr", "en"), ({"language": None}, None, "en")],
)
async def test_the_api_says_which_language_the_company_reads(client, typed, candidate_of, sent, kept, shown):
    form = typed()
    body = {name: form[name] for name in ("company_name", "contact_email", "products")}
    response = await client.post("/candidates", json=body | {"truck_count": 1, "capacity_tons_per_day": 2} | sent)

    assert response.status_code == 201
    assert (await candidate_of(form["contact_email"]))["language"] == kept
    assert f'<html lang="{shown}">' in (await client.get(response.json()["status_url"])).text
    browser = await client.get(response.json()["status_url"], headers=SPANISH)
    assert '<html lang="es">' in browser.text  # also for a language without a translation


@pytest.mark.parametrize("language", ["", "e", "es_MX", "es-", "x" * 9, "es-" + "a-" * 17 + "b", "español", 7, "es\n"])
async def test_the_api_takes_tags_alone(client, typed, language):
    form = typed()
    body = {name: form[name] for name in ("company_name", "contact_email", "products")}
    more = {"truck_count": 1, "capacity_tons_per_day": 2, "language": language}

    response = await client.post("/candidates", json=body | more)

    assert response.status_code == 422
    assert [error["field"] for error in response.json()["errors"]] == ["language"]


async def test_another_language_is_one_file(settings, run_service, source, tmp_path, monkeypatch):
    """The recipe of README.md: `make messages TAG=pt-BR`, fill in what it writes."""
    path = tmp_path / "pt-BR.po"
    path.write_bytes(messages.update(messages.read(path), source))
    path.write_text(re.sub(r'msgid "(Your company)"\nmsgstr ""', r'msgid "\1"\nmsgstr "Sua empresa"', path.read_text()))
    monkeypatch.setattr(app, "TRANSLATIONS", tmp_path)

    async with run_service(settings) as url, httpx.AsyncClient(base_url=url, headers=BROWSER) as client:
        page = await client.get("/apply", headers={"Accept-Language": "pt-BR,pt;q=0.9,en;q=0.8"})
        english = await client.get("/apply")

    assert '<html lang="pt-BR">' in page.text
    assert "Sua empresa" in text_of(page)
    assert "Company name" in text_of(page)  # while it is not translated
    assert "Português (Brasil)" in text_of(english)
