"""The pages for companies in Chromium: on a phone, by keyboard, without JavaScript, light and dark, accessible."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import pytest

from provider_registration.applicants.questions import QUESTIONS
from provider_registration.applicants.router import ALREADY_SENT
from tests.chromium import violations

NOT_A_NUMBER = QUESTIONS["truck_count"].sentences["int_type"]
PHONE = {"width": 360, "height": 740}
MAX_BYTES = 100_000  # of a page with all that it loads
WCAG_AA = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice")


@pytest.fixture
def visiting(browser, service_url):
    """A visitor's page during the block; its requests are in `page.asked`, its console errors in `page.complaints`."""

    @asynccontextmanager
    async def visiting(**how):
        context = await browser.new_context(**{"base_url": service_url, "viewport": PHONE, **how})
        page = await context.new_page()
        page.asked, page.complaints, page.sizes = [], [], []
        page.on("request", lambda request: page.asked.append(request.url))
        page.on("console", lambda message: page.complaints.append(message.text))
        page.on("pageerror", lambda error: page.complaints.append(str(error)))
        page.on("requestfinished", lambda request: page.sizes.append(asyncio.ensure_future(request.sizes())))
        yield page
        await context.close()

    return visiting


async def fill_in(page, form):
    for name in ("company_name", "location", "contact_email", "phone", "truck_count", "capacity_tons_per_day"):
        await page.fill(f"#{name}", form[name])
    for product in form["products"]:
        await page.get_by_label(product.capitalize()).check()


async def check_accessibility(page):
    """Check that axe-core finds nothing and that nothing is wider than the screen."""
    assert await violations(page, {"type": "tag", "values": list(WCAG_AA)}) == []
    assert await page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


async def test_a_company_applies_from_a_phone_without_javascript(visiting, typed):
    form = typed()
    async with visiting(java_script_enabled=False) as page:
        await page.goto("/apply")
        await fill_in(page, {**form, "truck_count": "seven"})
        await page.get_by_role("button", name="Send application").click()
        summary = page.get_by_role("alert")
        assert await summary.get_by_role("link").all_inner_texts() == [NOT_A_NUMBER]

        await summary.get_by_role("link").click()
        await page.keyboard.type("7")  # the link moved the focus to the field
        assert await page.input_value("#truck_count") in ("7seven", "seven7")
        await page.fill("#truck_count", "7")
        await page.get_by_role("button", name="Send application").click()

        await page.wait_for_url("**/applications/*")
        assert await page.get_by_role("heading", level=1).inner_text() == form["company_name"]
        assert await page.get_by_role("heading", name="We have received your application").is_visible()


async def test_going_back_loses_nothing_and_sending_again_says_where_the_application_is(visiting, typed):
    form = typed()
    async with visiting() as page:
        await page.goto("/apply")
        await fill_in(page, form)
        await page.get_by_role("button", name="Send application").click()
        await page.wait_for_url("**/applications/*")
        address = page.url
        await page.go_back()
        assert await page.input_value("#company_name") == form["company_name"]
        assert await page.input_value("#truck_count") == form["truck_count"]

        await page.get_by_role("button", name="Send application").click()

        await page.wait_for_url(address)


async def test_a_company_applies_by_keyboard_alone(visiting, typed):
    form = typed()
    async with visiting() as page:
        await page.goto("/apply")
        await page.keyboard.press("Tab")
        assert await page.evaluate("document.activeElement.getAttribute('href')") == "#main"
        await page.keyboard.press("Tab")
        assert await page.evaluate("document.activeElement.lang") == "es"
        for name in ("company_name", "location", "contact_email", "phone"):
            await page.keyboard.press("Tab")
            await page.keyboard.type(form[name])
        await page.keyboard.press("Tab")
        await page.keyboard.press("Space")  # apples
        for _ in range(5):
            await page.keyboard.press("Tab")
        await page.keyboard.type("7")
        await page.keyboard.press("Tab")
        await page.keyboard.type("40")
        await page.keyboard.press("Enter")

        await page.wait_for_url("**/applications/*")
        assert await page.get_by_text("Apples", exact=True).is_visible()


async def test_a_company_changes_the_language_without_javascript_and_applies_in_it(visiting, typed, candidate_of):
    form = typed()
    async with visiting(java_script_enabled=False, locale="en-GB") as page:
        await page.goto("/apply")
        await fill_in(page, {**form, "truck_count": "siete"})

        await page.get_by_role("button", name="Español").click()

        await page.get_by_role("heading", name="Hágase proveedor").wait_for()
        assert await page.input_value("#company_name") == form["company_name"]
        assert await page.input_value("#truck_count") == "siete"
        assert await page.get_by_label("Manzanas").is_checked()
        await page.press("#truck_count", "Enter")  # which sends the form and does not change the language
        [wrong] = await page.get_by_role("alert").get_by_role("link").all_inner_texts()
        assert wrong == "Indique el número de camiones en cifras, por ejemplo 12"
        await page.fill("#truck_count", "7")
        await page.press("#truck_count", "Enter")

        await page.wait_for_url("**/applications/*")
        assert await page.get_by_role("heading", name="Hemos recibido su solicitud").is_visible()
        await page.get_by_role("link", name="English").click()
        await page.get_by_role("heading", name="We have received your application").wait_for()
    assert (await candidate_of(form["contact_email"]))["language"] == "es"


@pytest.mark.asvs("V14.2.3")
@pytest.mark.parametrize(("scheme", "locale"), [("light", "en-GB"), ("dark", "es-ES")])
async def test_every_page_is_accessible_small_and_from_this_host(
    visiting, admin, client, typed, service_url, scheme, locale
):
    accepted, declined, waiting = [typed() for _ in range(3)]
    sent = [
        await client.post("/apply", data=form, headers={"Accept-Language": locale})
        for form in (accepted, declined, waiting)
    ]
    links = [response.headers["Location"] for response in sent]
    ids = {one["contact_email"]: one["candidate_id"] for one in (await admin.get("/candidates")).json()["candidates"]}
    assert (await admin.post(f"/candidates/{ids[accepted['contact_email']]}/approve")).status_code == 200
    await admin.post(f"/candidates/{ids[declined['contact_email']]}/reject", json={"reason": "No cold chain " * 70})

    async with visiting(color_scheme=scheme, locale=locale) as page:
        for address in ("/apply", *links, "/applications/unknown", "/apply/unknown"):
            await page.goto(address)
            assert await page.evaluate("document.documentElement.lang") == locale[:2]
            await check_accessibility(page)
        await page.goto("/apply")
        await page.locator(".actions button").click()
        await page.get_by_role("alert").wait_for()
        await check_accessibility(page)

        assert all(url.startswith(service_url) for url in page.asked)
        assert [text for text in page.complaints if "status of 4" not in text] == []  # it mentions the 404 and the 422

    async with visiting(color_scheme=scheme) as page:
        await page.goto(links[0])
        await page.wait_for_load_state("networkidle")
        sizes = [await size for size in page.sizes]
        assert sum(size["responseBodySize"] + size["responseHeadersSize"] for size in sizes) < MAX_BYTES


@pytest.mark.parametrize("scripts", [True, False], ids=["with scripts", "without"])
async def test_a_typo_corrected_after_going_back_leads_to_the_application_with_a_way_on(visiting, typed, scripts):
    form = typed()
    async with visiting(java_script_enabled=scripts) as page:
        await page.goto("/apply")
        await fill_in(page, form)
        await page.get_by_role("button", name="Send application").click()
        await page.wait_for_url("**/applications/*")
        address = page.url
        await page.go_back()
        await page.fill("#capacity_tons_per_day", "44")
        await page.get_by_role("button", name="Send application").click()

        await page.wait_for_url(f"{address}?language=en")
        said = await page.get_by_role("status").inner_text()
        assert said == ALREADY_SENT
