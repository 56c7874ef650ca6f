"""How the console reads: text of either direction, long words, print, and errors in the URL."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from playwright.async_api import expect

from tests.chromium import text_of

from .test_every_page import WIDE, overflow

SCREENSHOTS = os.environ.get("SCREENSHOTS")
MIDDLE = {"width": 760, "height": 640}  # the list is still a table, but does not fit
ARABIC = "شركة الفواكه الطازجة"
# The number of lines that each word of an element takes.
LINES_OF_WORDS = """element => {
  const text = document.createTreeWalker(element, NodeFilter.SHOW_TEXT).nextNode();
  return [...text.data.matchAll(/\\S+/g)].map(word => {
    const range = document.createRange();
    range.setStart(text, word.index);
    range.setEnd(text, word.index + word[0].length);
    return new Set([...range.getClientRects()].map(box => Math.round(box.top))).size;
  });
}"""


@pytest.mark.parametrize("step", ["", "/approve", "/reject"])
async def test_a_title_from_right_to_left_begins_where_titles_begin(signed_in, register, step):
    candidate = await register(company_name=ARABIC, location="القاهرة")
    async with signed_in(viewport=WIDE) as page:
        await page.goto(f"/admin/candidates/{candidate['candidate_id']}{step}")

        title, back = page.get_by_role("heading", level=1), page.locator(".back")
        if SCREENSHOTS:
            await page.screenshot(path=Path(SCREENSHOTS) / f"right-to-left{step.replace('/', '-')}.png")
        start = "element => { const r = document.createRange(); r.selectNodeContents(element);"
        start += " return r.getBoundingClientRect().left }"
        assert abs(await title.evaluate(start) - await back.evaluate(start)) < 2
        assert await overflow(page) == 0


async def test_words_in_the_list_are_whole_where_there_is_room_for_them(signed_in, register):
    candidate = await register(
        company_name="Hijos de Fructuosa Villanueva y Compañía Exportadora", location="Peñíscola, Castellón de la Plana"
    )
    async with signed_in(viewport=MIDDLE) as page:
        await page.goto(f"/admin/candidates?search={candidate['contact_email']}")

        cell = page.locator('td[data-label="Location"] bdi')
        await expect(cell).to_have_text(candidate["location"])
        if SCREENSHOTS:
            await page.screenshot(path=Path(SCREENSHOTS) / "whole-words.png")
        assert set(await cell.evaluate(LINES_OF_WORDS)) == {1}
        assert set(await page.locator("th .row-link bdi").evaluate(LINES_OF_WORDS)) == {1}


async def test_print_shows_content_without_buttons(signed_in, register):
    candidate = await register()
    async with signed_in(viewport=WIDE, color_scheme="dark") as page:
        for address in ("/admin", "/admin/candidates?order=newest", f"/admin/candidates/{candidate['candidate_id']}"):
            await page.goto(address)
            await page.emulate_media(media="print")
            if SCREENSHOTS:
                name = address.partition("?")[0].strip("/").replace("/", "-")[:20]
                await page.screenshot(path=Path(SCREENSHOTS) / f"paper-{name}.png", full_page=True)

            await expect(page.get_by_role("heading", level=1)).to_be_visible()
            assert await page.locator("main button:visible, .button:visible, header.top:visible").count() == 0
            colours = "body => [getComputedStyle(body).color, getComputedStyle(body).backgroundColor]"
            assert await page.locator("body").evaluate(colours) == ["rgb(0, 0, 0)", "rgb(255, 255, 255)"]
            await page.emulate_media(media="screen")


async def test_the_statuses_need_no_bar_to_scroll_by(signed_in):
    async with signed_in(viewport=WIDE) as page:
        await page.goto("/admin/candidates")

        tabs = page.locator(".tabs")
        await expect(tabs).to_be_visible()
        assert await tabs.evaluate("tabs => getComputedStyle(tabs).overflowY") == "hidden"
        assert await tabs.evaluate("tabs => tabs.offsetWidth - tabs.clientWidth") == 0


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("/admin/candidates?status=nonsense", "“status” in the URL has an unknown value."),
        (
            "/admin/candidates?product=pears&order=x",
            "“product” in the URL has an unknown value.",
        ),
        ("/admin/candidates?after=%00", "“after” in the URL has an unknown value."),
        ("/admin/candidates/no-id", "“candidate id” in the URL has an unknown value."),
    ],
)
async def test_errors_in_the_url_are_explained(admin, url, message):
    page = await admin.open(url)

    assert page.status_code == 422
    assert text_of(page).count(message) == 1
    for code in ("[", "_", "str-enum", "literal", "Input should"):
        assert code not in text_of(page)
