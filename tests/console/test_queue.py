"""The list of candidates in the console, with its filters, order and columns; and the overview page."""

from __future__ import annotations

import re
from urllib.parse import quote
from uuid import uuid4

import pytest

from provider_registration.candidates import search as candidate_search
from provider_registration.db.database import Database
from provider_registration.similar.filling import filler_of_keys
from provider_registration.statistics import service as statistics
from tests.chromium import text_of

from .conftest import form_of


def names_in(page):
    return re.findall(r'class="row-link" href="[^"]*/candidates/[^"]*"><bdi>([^<]*)</bdi>', page.text)


@pytest.fixture
def word():
    """A word that no company of another test has."""
    return "w" + uuid4().hex[:10]


async def test_pending_candidates_are_listed_oldest_first(admin, register, word):
    names = [f"{word} {number}" for number in range(3)]
    for name in names:
        await register(company_name=name)

    assert names_in(await admin.open(f"/admin/candidates?search={word}")) == names
    assert names_in(await admin.open(f"/admin/candidates?search={word}&order=newest")) == names[::-1]
    assert names_in(await admin.open("/admin/candidates?order=newest"))[:3] == names[::-1]


@pytest.mark.parametrize("name", ["<script>{}", "<style>{}</style>", "<script {}", "a&lt;{}", "~{}", "https://{}"])
async def test_no_name_hides_a_company_from_the_search(admin, register, word, name):
    company = await register(company_name=name.format(word))

    for search in (word, name.format(word), company["contact_email"]):
        page = await admin.open(f"/admin/candidates?search={quote(search)}")
        assert f"/admin/candidates/{company['candidate_id']}" in page.text


async def test_a_search_shows_no_counts(admin, register, word):
    await register(company_name=word)

    assert "Pending" in (shown := text_of(await admin.open(f"/admin/candidates?search={word}")))
    assert not re.search(r"Pending \d", shown)


async def test_pages_reach_every_candidate_and_the_first_page_again(admin, register, word, monkeypatch):
    monkeypatch.setattr("provider_registration.console.candidates.PAGE_SIZE", 2)
    names = [f"{word} {number}" for number in range(5)]
    for name in names:
        await register(company_name=name)

    for query in (f"search={word}&order=oldest", "order=newest"):
        page, seen = await admin.open(f"/admin/candidates?{query}"), []
        while True:
            seen += names_in(page)
            following = re.search(r'rel="next" href="(\?[^"]*)"', page.text)
            if not following or len(seen) > 5:
                break
            page = await admin.open("/admin/candidates" + following[1].replace("&amp;", "&"))
            assert "First page" in page.text
        assert seen[:5] == (names if "oldest" in query else names[::-1])


async def test_the_status_and_the_product_are_chosen(admin, register, word):
    await register(company_name=f"{word} apples", products=["apples"])
    rejected = await register(company_name=f"{word} grapes", products=["grapes"])
    page = await admin.open(f"/admin/candidates/{rejected['candidate_id']}/reject")
    await admin.submit(page, "/reject", choice="none")

    for query, shown in {
        "": [f"{word} apples"],
        "&status=": [f"{word} apples"],
        "&status=rejected": [f"{word} grapes"],
        "&status=approved": [],
        "&status=all": [f"{word} grapes", f"{word} apples"],
        "&status=all&product=apples": [f"{word} apples"],
        "&status=all&product=mangoes": [],
    }.items():
        assert names_in(await admin.open(f"/admin/candidates?search={word}{query}")) == shown


@pytest.mark.parametrize(
    "asked",
    [
        "ventas-{0}",
        "VENTAS-{0}@huertas-{0}.example",
        "{0} valència",
        "Valè {0}",
        "{0}/sol",
        "d'{0}",
        "{0} S.L.",
        "सब्ज़ी {0}",
        " {0}  ",
    ],
)
async def test_beginnings_of_words_find_company_address_and_place(admin, register, word, asked):
    name = f"Huertas d'{word} Sol सब्ज़ी S.L."
    await register(company_name=name, contact_email=f"ventas-{word}@huertas-{word}.example", location="València")

    page = await admin.ask("GET", "/admin/candidates", params={"search": asked.format(word)})

    assert [shown.replace("&#39;", "'") for shown in names_in(page)] == [name]


@pytest.mark.parametrize("asked", ["--", "'", "\\", "a:*", "!(&|", "<->", "%", "' | '", "\\' | x", "zq" * 40])
async def test_no_search_breaks_anything(admin, asked):
    page = await admin.ask("GET", "/admin/candidates", params={"search": asked, "status": "all"})

    assert page.status_code == 200
    assert "'" not in asked or f'value="{asked}"' not in page.text.replace("&#39;", "")


@pytest.mark.parametrize("query", ["search=a%00b", "search=" + "a" * 101, "status=gone", "after=x", "order=name"])
async def test_an_invalid_url_is_an_error_page(admin, query):
    page = await admin.open(f"/admin/candidates?{query}")

    assert page.status_code == 422
    assert "The request failed" in text_of(page)


async def test_words_that_very_many_have_are_ranked_in_part_and_the_page_says_so(admin, register, word, monkeypatch):
    monkeypatch.setattr(candidate_search, "MAX_RELEVANT", 2)
    monkeypatch.setattr("provider_registration.console.candidates.MAX_RELEVANT", 2)
    for number in range(3):
        await register(company_name=f"{word} no{number}")

    page = await admin.open(f"/admin/candidates?search={word}")
    sorted_by_name = await admin.open(f"/admin/candidates?search={word}&order=company_name")

    assert (len(names_in(page)), len(names_in(sorted_by_name))) == (2, 3)
    assert "of 3 candidates" in text_of(page)
    assert "3 candidates" in text_of(sorted_by_name)
    assert "The best" not in text_of(sorted_by_name)


async def test_a_typing_error_finds_the_company_after_those_without_one(admin, register, settings, word):
    letters = "".join(chr(ord("g") + int(digit, 16)) for digit in word[1:])
    wrong = letters[:4] + letters[5] + letters[4] + letters[6:]
    await register(company_name=f"Obst {letters}")
    await register(company_name=f"Obst {wrong}")
    database = Database(settings.database_url, pool_size=1)
    await filler_of_keys(database).fill_all()
    await database.close()

    page = await admin.open(f"/admin/candidates?search={wrong}+obst")

    assert names_in(page) == [f"Obst {wrong}", f"Obst {letters}"]


async def test_the_list_is_filtered_and_counted(admin, register, word):
    for trucks in (1, 5, 9):
        await register(company_name=f"{word} {trucks}", truck_count=trucks, capacity_tons_per_day=10 * trucks)

    for filters, expected in {
        "trucks_min=5": [5, 9],
        "trucks_max=5": [1, 5],
        "capacity_min=50&capacity_max=89": [5],
        "registered_from=2000-01-01&registered_to=2000-01-02": [],
        "registered_from=2000-01-01&decided_from=": [1, 5, 9],
        "decided_from=2000-01-01": [],
        f"decided_by={uuid4()}": [],
    }.items():
        page = await admin.open(f"/admin/candidates?search={word}&order=truck_count&{filters}")
        assert names_in(page) == [f"{word} {trucks}" for trucks in expected], filters
        count = f"{len(expected)} candidate{'s' * (len(expected) != 1)}"
        assert f"Pending candidates {count}" in text_of(page), filters
        assert not re.search(r"Approved \d", text_of(page))


async def test_who_decided_is_a_filter(admin, viewer, register, word):
    rejected = await register(company_name=word)
    await admin.submit(
        await admin.open(f"/admin/candidates/{rejected['candidate_id']}/reject"), "/reject", choice="none"
    )

    page = await viewer.open(f"/admin/candidates?search={word}&status=all")
    [user_id] = re.findall(rf'<option value="([0-9a-f-]+)">{admin.email}</option>', page.text)

    assert names_in(await viewer.open(f"/admin/candidates?status=rejected&search={word}&decided_by={user_id}")) == [
        word
    ]
    assert names_in(await viewer.open(f"/admin/candidates?status=rejected&search={word}&decided_by={uuid4()}")) == []


async def test_the_heads_of_columns_sort(admin, register, word):
    for trucks in (5, 9, 1):
        await register(company_name=f"{word} {trucks}", truck_count=trucks)
    page = await admin.open(f"/admin/candidates?search={word}")

    for expected, state in ((["9", "5", "1"], "descending"), (["1", "5", "9"], "ascending")):
        [address] = re.findall(r'<th scope="col"[^>]*><a href="([^"]+)">Trucks</a>', page.text)
        page = await admin.open("/admin/candidates" + address.replace("&amp;", "&"))
        assert [name.rpartition(" ")[2] for name in names_in(page)] == expected
        assert f'aria-sort="{state}"><a' in page.text


async def test_every_way_back_leads_to_the_same_list(admin, register, word):
    candidate = await register(company_name=word)
    query = f"trucks_min=1&order=-truck_count&search={word}"
    await admin.open(f"/admin/candidates?{query}")
    mark = f"{candidate['candidate_id']}:1"

    pages = [
        await admin.open(f"/admin/candidates/{candidate['candidate_id']}"),
        await admin.send("/admin/candidates/marked", {"mark": mark, "decision": "approve"}),
        await admin.send("/admin/candidates/marked/reject", {"mark": mark, "choice": "own"}),
    ]

    for page in pages:
        addresses = [each.replace("&amp;", "&") for each in re.findall(r'href="(/admin/candidates\?[^"]*)"', page.text)]
        assert addresses
        for address in addresses:
            assert sorted(address.partition("?")[2].split("&")) == sorted(query.split("&"))
    nothing = await admin.send("/admin/candidates/marked", {"decision": "approve"})
    assert sorted(nothing.headers["Location"].partition("?")[2].split("&")) == sorted(query.split("&"))
    await admin.open("/admin/candidates")
    page = await admin.open(f"/admin/candidates/{candidate['candidate_id']}")
    assert 'href="/admin/candidates" data-key="q"' in page.text


@pytest.mark.parametrize("value", ["//evil.example", "\r\nX: y", "a=<script>", "x" * 5000])
async def test_a_list_cookie_of_someone_else_leads_to_the_plain_list(admin, register, value):
    candidate = await register()
    kept = admin.cookies
    admin.cookies = kept | {"__Host-list": quote(value) if "\r" in value else value}

    page = await admin.open(f"/admin/candidates/{candidate['candidate_id']}")

    admin.cookies = kept
    assert re.search(r'href="/admin/candidates(\?x*)?" data-key="q"', page.text) or "%0D" in page.text


async def test_ready_views_are_urls_of_lists(admin):
    page = await admin.open("/admin/candidates")
    [views] = re.findall(r"<summary[^>]*>Views</summary>(.*?)</details>", page.text, re.DOTALL)
    addresses = re.findall(r'<a href="([^"]+)">', views)

    assert len(addresses) >= 4
    for address in addresses:
        assert (await admin.open("/admin/candidates" + address.replace("&amp;", "&"))).status_code == 200


async def test_columns_are_chosen_and_remembered(admin, register):
    await register()
    page = await admin.open("/admin/candidates?order=newest")
    assert "Köln" in page.text

    page = await admin.submit(page, "/columns", column=["contact_email", "truck_count", "nonsense"])

    assert page.url.query == b"order=-created_at"
    [head] = re.findall(r"<thead>(.*?)</thead>", page.text, re.DOTALL)
    assert re.findall(r"<th scope=\"col\"[^>]*>(?:<a [^>]*>)?([^<]+)<", head) == ["Company", "E-mail", "Trucks"]
    assert "Köln" not in page.text
    del admin.cookies["__Host-columns"]


async def test_choosing_columns_redirects_only_to_the_list(admin):
    address, form = form_of(await admin.open("/admin/candidates"), "/columns")

    response = await admin.send(address, form | {"list": "\r\nX: y//evil.example"})

    assert response.headers["Location"] == "/admin"
    del admin.cookies["__Host-columns"]


async def test_a_viewer_sees_the_list(viewer, register, word):
    await register(company_name=word)

    assert names_in(await viewer.open(f"/admin/candidates?search={word}")) == [word]


async def test_the_overview_shows_current_figures(admin, register, monkeypatch):
    monkeypatch.setattr(statistics, "CACHE_SECONDS", 0.0)
    approved, rejected = await register(products=["mangoes"], capacity_tons_per_day=123), await register()
    await admin.submit(await admin.open(f"/admin/candidates/{approved['candidate_id']}/approve"), "/approve")
    before = figures(await admin.open("/admin"))
    await admin.submit(
        await admin.open(f"/admin/candidates/{rejected['candidate_id']}/reject"), "/reject", choice="none"
    )
    more = await register(products=["mangoes"], capacity_tons_per_day=1000)
    await admin.submit(await admin.open(f"/admin/candidates/{more['candidate_id']}/approve"), "/approve")

    page = await admin.open("/admin")

    after = figures(page)
    changes = {name: after[name] - before[name] for name in before}
    assert changes == {"waiting": -1, "approved": 1, "rejected": 1, "tons": 1000, "outcome": 1}
    span = r"[\d.]+ (s|min|h|days)"  # other tests may have loaded candidates that waited a long time
    assert re.search(rf"Time to decision {span} median; 90% within {span}, 95% within {span}", text_of(page))


def figures(page):
    """Figures of the overview page."""
    shown = text_of(page).replace(",", "")
    patterns = {
        "waiting": r"Pending candidates (\d+)",
        "approved": r"(\d+) approved \d+ rejected",
        "rejected": r"approved (\d+) rejected",
        "tons": r"Capacity by product now.*?Mangoes (\d+)",
        "outcome": r"Outcome Share Count Approved (\d+)",
    }
    return {name: int(re.search(pattern, shown)[1]) for name, pattern in patterns.items()}
