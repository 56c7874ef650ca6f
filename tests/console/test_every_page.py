"""Every page of the console is accessible and fits a narrow screen, in light and dark mode.

With SCREENSHOTS set to a folder, a picture of each is also written there: `make screenshots`.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from secrets import token_hex

import asyncpg
import httpx
import pytest
from playwright.async_api import Page

from provider_registration.auth.models import Role
from provider_registration.console import activity, candidates
from provider_registration.local.demo_data import load_demo_data
from provider_registration.statistics import service as statistics
from tests.chromium import violations, visit
from tests.imports.files import a_row, as_csv
from tests.service import PASSWORD

SCREENSHOTS = os.environ.get("SCREENSHOTS")
WIDE, NARROW = {"width": 1280, "height": 860}, {"width": 320, "height": 640}
RULES = {
    "light": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]},
    "dark": {"type": "rule", "values": ["color-contrast"]},  # nothing else differs
}
COMPANIES = {
    "huerta": {
        "company_name": "Huerta del Sol S.L.",
        "location": "Valencia, España",
        "products": ["oranges", "grapes"],
    },
    "obsthof": {"company_name": "Obsthof Lindner KG", "location": "Jork, Deutschland", "products": ["apples"]},
    "vergers": {"company_name": "Vergers de la Loire", "location": "Angers, France", "products": ["apples", "grapes"]},
    "agrumi": {"company_name": "Agrumi Cutrufo S.r.l.", "location": "Catania, Italia", "products": ["oranges"]},
}

# A job; while it is running, no process knows how to work on it.
ADD_JOB = """
    WITH job AS (
        INSERT INTO jobs (id, kind, state, actor_kind, actor_id, parameters, is_partial, total, done, summary,
                          cancel_reason, ended_at, due_at)
        SELECT gen_random_uuid(), CASE $1 WHEN 'running' THEN 'candidates.screen' ELSE 'candidates.approve' END, $1,
               'user', id, CASE WHEN $1 = 'running' THEN CAST('{}' AS jsonb) END, true, 40, 3,
               '{"approved": 2, "billing-paused": 1}', CASE WHEN $1 = 'cancelled' THEN 'asked' END,
               CASE WHEN $1 = 'cancelled' THEN now() END, CASE WHEN $1 = 'running' THEN now() END
        FROM users WHERE role = 'admin' LIMIT 1
        RETURNING id
    ), items AS (
        INSERT INTO job_items (job_id, number, candidate_id, status, code, claim_id)
        SELECT job.id, number, candidates.id, CASE WHEN number < 2 THEN 'approved' WHEN number = 2 THEN 'failed' END,
               CASE WHEN number = 2 THEN 'billing-paused' END, CASE WHEN number = 3 THEN gen_random_uuid() END
        FROM job, generate_series(0, 39) AS number
        LEFT JOIN LATERAL (SELECT id FROM candidates OFFSET number LIMIT 1) AS candidates ON true
    )
    SELECT id::text FROM job
"""

Visit = Callable[[Page], Awaitable[None]]


ENDLESS = {"company_name": "W" * 255, "location": "W" * 255}


@pytest.fixture(scope="module")
async def companies(register, admin, shared_billing_url, settings):
    """Companies in every state, among demo data."""
    await load_demo_data(settings.database_url, 400, seed=1, progress=lambda _: None)
    made = {
        name: await register(**company, contact_email=f"{name}-{token_hex(2)}@{name}.example")
        for name, company in COMPANIES.items()
    }
    paths = {name: f"/admin/candidates/{candidate['candidate_id']}" for name, candidate in made.items()}
    async with httpx.AsyncClient(base_url=shared_billing_url) as sandbox:
        await admin.submit(await admin.open(f"{paths['vergers']}/approve"), "/approve")
        await sandbox.put("/sandbox/faults", json={"mode": "commit_then_reset", "times": 2})
        for name in ("obsthof", "agrumi"):
            await admin.submit(await admin.open(f"{paths[name]}/approve"), "/approve")
        await leave_in_doubt(admin, sandbox, paths["agrumi"])
    await keep_waiting(settings.database_url.replace("+asyncpg", ""))
    database_url = settings.database_url.replace("+asyncpg", "")
    paths |= await some_jobs(admin, register, database_url)
    paths |= await some_imports(admin)
    return paths | {"webhook": await a_webhook(admin, database_url), "api_key": await an_api_key(database_url)}


async def some_jobs(admin, register, database_url):
    """A job that is done, with candidates that could not be decided, one that is running, and one that was stopped."""
    made = [
        await register(company_name=f"{name} KG") for name in ("Altes Land", "Niederelbe", "Vierlande", "Obsthof Jork")
    ]
    marks = [f"{one['candidate_id']}:{1 + number % 2}" for number, one in enumerate(made)]
    response = await admin.send("/admin/candidates/marked/reject", {"mark": marks, "choice": "0"})
    done = response.headers["Location"]
    connection = await asyncpg.connect(database_url)
    while await connection.fetchval("SELECT due_at FROM jobs WHERE id::text = $1", done.rpartition("/")[2]):
        await asyncio.sleep(0.1)
    jobs = {"job": done}
    for name, state in (("running", "running"), ("stopped", "cancelled")):
        jobs[f"job_{name}"] = f"/admin/jobs/{await connection.fetchval(ADD_JOB, state)}"
    await connection.close()
    return jobs


async def a_webhook(admin, database_url):
    """A failing webhook with deliveries in every state, and one that staff disabled; nothing is sent to them."""
    for url in ("https://erp.example/hooks/suppliers?token=4f8a1c", "https://crm.example/hooks"):
        form = {"url": url, "description": "Supplier master data", "types": "candidate.approved"}
        await admin.send("/admin/webhooks/new", form)
    connection = await asyncpg.connect(database_url)
    await connection.execute("UPDATE webhooks SET disabled_reason = 'staff' WHERE url LIKE 'https://crm%'")
    webhook = await connection.fetchval(
        """
        UPDATE webhooks SET failing_since = now() - interval '26 h', last_failure_at = now(),
               previous_secret_expires_at = now() + interval '5 h', previous_secret = secret
        WHERE url LIKE 'https://erp%' RETURNING id::text
        """
    )
    await connection.execute(
        """
        INSERT INTO deliveries (kind, target, event_id, state, attempts, next_attempt_at, last_status, last_error)
        SELECT 'webhook', $1, id, state, attempts,
               CASE WHEN state = 'pending' THEN now() + interval '5 h' END, status, error
        FROM (SELECT id, row_number() OVER (ORDER BY id) AS number FROM candidate_events LIMIT 5) AS events
        JOIN (VALUES
            (1, 'delivered', 1, 204, NULL),
            (2, 'dead', 10, 503, 'status 503: Service temporarily unavailable'),
            (3, 'failed', 1, 410, 'status 410'),
            (4, 'pending', 4, NULL, 'the certificate is not valid for the host'),
            (5, 'pending', 0, NULL, NULL)
        ) AS states (number, state, attempts, status, error) USING (number)
        """,
        webhook,
    )
    await connection.close()
    return f"/admin/webhooks/{webhook}"


async def some_imports(admin):
    """An import that is not started, and one with rows that are not valid and rows that are registered already."""
    row = a_row(company_name="Huerta del Sol S.L.", phone="W" * 45)
    rows = [row, row, a_row(truck_count="many", products="milk"), a_row(contact_email=""), [*a_row(), "", "", "more"]]
    paths = {}
    for name in ("import", "import_done"):
        response = await admin.ask("POST", "/admin/imports", files={"file": (f"{name}.csv", as_csv(rows), "text/csv")})
        paths[name] = response.headers["Location"]
    page = await admin.open(paths["import_done"])
    columns = dict(re.findall(r'<select id="(\w+)".*?<option value="([^"]+)" selected>', page.text, re.DOTALL))
    await admin.send(f"{paths['import_done']}/start", columns | {"action": "register"})
    async with asyncio.timeout(60):
        while "Imported" not in (await admin.open(paths["import_done"])).text:
            await asyncio.sleep(0.1)
    return paths


async def an_api_key(database_url):
    """A key that is used, an expired one, a revoked one, and one with a long name."""
    connection = await asyncpg.connect(database_url)
    [used, *_] = await connection.fetch("""
        INSERT INTO api_keys
            (name, key_hash, prefix, role, created_at, created_by, expires_at, revoked_at, last_used_at)
        SELECT name, sha256(convert_to(name || random(), 'UTF8')), prefix, role, now() - interval '100 days',
               (SELECT id FROM users ORDER BY created_at DESC LIMIT 1), now() + expires, now() + revoked, now() + used
        FROM (VALUES
            ('ERP import', 'prk_9fK2mX7q', 'admin', NULL, NULL, interval '-2 min'),
            ('Dashboard', 'prk_b71LmQ0z', 'viewer', interval '-2 days', NULL, interval '-3 days'),
            ('Old export', 'prk_Zx81Hq2m', 'auditor', interval '90 days', interval '-1 day', NULL),
            (repeat('W', 100), 'prk_WWWWWWWW', 'viewer', interval '90 days', NULL, NULL)
        ) AS keys (name, prefix, role, expires, revoked, used)
        RETURNING id::text
    """)
    await connection.close()
    return f"/admin/api-keys/{used['id']}"


@pytest.fixture(scope="module", autouse=True)
async def no_webhooks_afterwards(settings):
    yield
    connection = await asyncpg.connect(settings.database_url.replace("+asyncpg", ""))
    await connection.execute("DELETE FROM webhooks; DELETE FROM deliveries; DELETE FROM imports; DELETE FROM jobs")
    await connection.close()


async def leave_in_doubt(admin, sandbox, path):
    """Retry an approval whose provider exists, while billing ignores idempotency keys."""
    await sandbox.put("/sandbox/settings", json={"honour_idempotency_key": False, "latency_ms": 0})
    await admin.submit(await admin.open("/admin/approvals"), f"{path}/approval/retry")
    await sandbox.put("/sandbox/settings", json={"honour_idempotency_key": True, "latency_ms": 0})


async def keep_waiting(database_url):
    """Postpone automatic retries while a test checks an approval."""
    connection = await asyncpg.connect(database_url)
    await connection.execute("UPDATE approval_intents SET next_attempt_at = now() + interval '1 h'")
    await connection.close()


async def add_a_key(page: Page) -> None:
    await page.get_by_label("Name").fill("ERP import")
    await page.get_by_label("Auditor").check()
    await page.get_by_label("Last day").fill("2999-12-31")
    await page.get_by_role("button", name="Add API key").click()
    await page.get_by_text("It is shown only once").wait_for()


async def select_two(page: Page) -> None:
    boxes = page.locator("td.mark input")
    for index in range(2):
        await boxes.nth(index).check()


async def approve_selected(page: Page) -> None:
    await select_two(page)
    await page.get_by_role("button", name="Approve selected…").click()


async def approve_all(page: Page) -> None:
    await page.get_by_role("button", name="Approve all…").click()


async def reject_without_a_reason(page: Page) -> None:
    await page.locator("form[data-once]").evaluate("form => { form.noValidate = true }")
    await page.locator("form[data-once] button[type=submit]").click()
    await page.get_by_text("There is a problem").wait_for()


async def make_link(page: Page) -> None:
    await page.get_by_role("button", name="Create new link").click()
    await page.get_by_text("The link is shown only once.").wait_for()


async def open_keys(page: Page) -> None:
    await page.get_by_role("button", name="Keyboard shortcuts").click()


async def send_nothing(page: Page) -> None:
    await page.locator("form[data-once]").evaluate("form => { form.noValidate = true }")
    await page.locator("form[data-once] button[type=submit]").click()
    await page.get_by_text("There is a problem").wait_for()


async def send_an_empty_file(page: Page) -> None:
    await page.get_by_label("CSV file").set_input_files({"name": "a.csv", "mimeType": "text/csv", "buffer": b"Company"})
    await page.get_by_role("button", name="Read the file").click()
    await page.get_by_text("There is a problem").wait_for()


async def choose_no_column(page: Page) -> None:
    await page.get_by_label("E-mail").select_option("")
    await page.get_by_role("button", name="Check").click()
    await page.get_by_text("There is a problem").wait_for()


async def make_secret(page: Page) -> None:
    await page.get_by_role("button", name="Create new secret").click()
    await page.get_by_text("It is shown only once.").wait_for()


async def open_columns(page: Page) -> None:
    await page.get_by_text("Columns", exact=True).click()


async def open_views(page: Page) -> None:
    await page.get_by_text("Views", exact=True).click()


async def show_numbers(page: Page) -> None:
    await page.get_by_text("Show as a table").first.click()


async def type_a_number(page: Page) -> None:
    await page.get_by_label("The provider belongs to this company").check()
    await page.get_by_label("Provider ID in billing").fill("999999")
    await page.get_by_role("button", name="Resolve").click()
    await page.get_by_role("heading", name="Link provider 999999?").wait_for()


# The path of each page, with a company's name in braces, and what to do on it.
PAGES: dict[str, tuple[str, Visit | None]] = {
    "overview": ("/admin", None),
    "overview-year": ("/admin?period=year", None),
    "overview-mistake": ("/admin?from=2026-03-02&to=2026-03-01", None),
    "overview-numbers": ("/admin", show_numbers),
    "queue": ("/admin/candidates", None),
    "queue-marked": ("/admin/candidates", select_two),
    "queue-columns": ("/admin/candidates?status=all", open_columns),
    "queue-filtered": ("/admin/candidates?status=all&trucks_min=5&order=-capacity_tons_per_day", None),
    "queue-views": ("/admin/candidates?search=obst", open_views),
    "queue-empty": ("/admin/candidates?search=nobody", None),
    "keys": ("/admin/candidates", open_keys),
    "candidate-pending": ("{huerta}", None),
    "candidate-approved": ("{vergers}", None),
    "candidate-waiting": ("{obsthof}", None),
    "candidate-in-doubt": ("{agrumi}", None),
    "approve": ("{huerta}/approve", None),
    "reject": ("{huerta}/reject", None),
    "reject-wrong": ("{huerta}/reject", reject_without_a_reason),
    "marked": ("/admin/candidates", approve_selected),
    "marked-all": ("/admin/candidates", approve_all),
    "jobs": ("/admin/jobs", None),
    "job": ("{job}", None),
    "job-running": ("{job_running}", None),
    "job-stopped": ("{job_stopped}", None),
    "imports": ("/admin/imports", None),
    "imports-wrong": ("/admin/imports", send_an_empty_file),
    "import": ("{import}", None),
    "import-wrong": ("{import}", choose_no_column),
    "import-done": ("{import_done}", None),
    "status-link": ("{huerta}/status-link", None),
    "status-link-made": ("{huerta}/status-link", make_link),
    "approvals": ("/admin/approvals", None),
    "activity": ("/admin/activity", None),
    "activity-filtered": ("/admin/activity?type=candidate.approval_in_doubt&from=2026-01-01", None),
    "activity-empty": ("/admin/activity?to=2001-01-01", None),
    "resolve": ("{agrumi}/approval/resolve", None),
    "resolve-link": ("{agrumi}/approval/resolve", type_a_number),
    "webhooks": ("/admin/webhooks", None),
    "webhook": ("{webhook}", None),
    "webhook-edit": ("{webhook}/edit", None),
    "webhook-wrong": ("/admin/webhooks/new", send_nothing),
    "webhook-secret": ("{webhook}/rotate", make_secret),
    "webhook-replay": ("{webhook}/replay", None),
    "webhook-delete": ("{webhook}/delete", None),
    "api-keys": ("/admin/api-keys", None),
    "api-key-wrong": ("/admin/api-keys/new", send_nothing),
    "api-key-created": ("/admin/api-keys/new", add_a_key),
    "api-key-revoke": ("{api_key}/revoke", None),
    "error": ("/admin/nothing", None),
}


async def look_at(page: Page, name: str) -> None:
    """Check an open page for accessibility and width."""
    await page.evaluate("scrollTo(0, 0)")  # a focused button may have scrolled it: the header would cover links
    wrong = []
    for scheme in ("light", "dark"):
        await page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        if SCREENSHOTS:
            await page.screenshot(path=Path(SCREENSHOTS) / f"{name}-{scheme}.png", full_page="keys" not in name)
        wrong += [f"{scheme}: {found}" for found in await violations(page, RULES[scheme])]
    await page.set_viewport_size(NARROW)
    if SCREENSHOTS:
        await page.screenshot(path=Path(SCREENSHOTS) / f"{name}-narrow.png", full_page="keys" not in name)
    too_wide = await overflow(page)
    await page.set_viewport_size(WIDE)
    assert wrong == []
    assert too_wide == 0, f"{name} is {too_wide} pixels too wide for a screen of 320"


async def overflow(page: Page) -> int:
    """By how many pixels a page is wider than the screen."""
    return await page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")


@pytest.fixture(scope="module", autouse=True)
def short_lists_of_today():
    """Short lists: axe-core checks every element."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(candidates, "PAGE_SIZE", 12)
        patch.setattr(activity, "PAGE_SIZE", 12)
        patch.setattr(statistics, "CACHE_SECONDS", 0.0)  # a cached result may be empty
        yield


@pytest.fixture(scope="module")
async def page(signed_in):
    async with signed_in(viewport=WIDE) as page:
        yield page


# Their parts are on other pages too.
PICTURES_ALONE = {
    "overview",
    "queue",
    "queue-marked",
    "queue-empty",
    "queue-views",
    "candidate-approved",
    "candidate-waiting",
    "reject",
    "activity-filtered",
}


@pytest.mark.parametrize("name", [name for name in PAGES if SCREENSHOTS or name not in PICTURES_ALONE])
async def test_a_page_is_accessible(page, companies, name):
    address, do = PAGES[name]
    await page.goto(address.format(**companies))
    if do:
        await do(page)

    await look_at(page, name)


@pytest.fixture(scope="module")
async def endless(register, admin, shared_billing_url, settings):
    """The pages of two companies with very long names: one pending, one with an approval in doubt."""
    pending, path = [f"/admin/candidates/{(await register(**ENDLESS))['candidate_id']}" for _ in range(2)]
    async with httpx.AsyncClient(base_url=shared_billing_url) as sandbox:
        await sandbox.put("/sandbox/faults", json={"mode": "commit_then_reset", "times": 1})
        await admin.submit(await admin.open(f"{path}/approve"), "/approve")
        await leave_in_doubt(admin, sandbox, path)
    return {"pending": pending, "in_doubt": path}


@pytest.mark.parametrize(
    "address",
    [
        "/admin/candidates?status=all&order=newest",
        "{pending}",
        "{pending}/approve",
        "{pending}/reject",
        "/admin/approvals",
        "{in_doubt}/approval/resolve",
        "/admin/activity",
    ],
)
async def test_a_word_that_never_ends_is_broken(page, endless, register, address):
    await register(**ENDLESS)  # the newest in lists
    await page.set_viewport_size(NARROW)
    await page.goto(address.format(**endless))

    assert await page.get_by_text("W" * 255).count() > 0
    assert await overflow(page) == 0
    await page.set_viewport_size(WIDE)


async def test_the_sign_in_page_is_accessible(browser, service_url):
    async with visit(browser, service_url, viewport=WIDE) as page:
        await page.goto("/admin/sign-in")
        await look_at(page, "sign-in")


async def test_the_page_with_the_kept_form_is_accessible(signed_in, companies, accounts):
    async with signed_in(viewport=WIDE) as page:
        await page.goto(f"{companies['huerta']}/reject")
        await page.get_by_label("Other reason").fill("Too far away")
        await page.context.clear_cookies()
        await page.get_by_role("button", name="Reject").click()
        await page.get_by_text("We kept what you entered").wait_for()
        await look_at(page, "sign-in-again")
        await page.get_by_label("E-mail address").fill(accounts[Role.ADMIN])
        await page.get_by_label("Password").fill(PASSWORD)
        await page.keyboard.press("Enter")
        await page.get_by_role("heading", name="You are signed in").wait_for()
        await look_at(page, "go-on")
        await page.get_by_role("button", name="Back to your form").click()
        await page.get_by_role("heading", name="Reject").wait_for()
        assert await page.get_by_label("Other reason").input_value() == "Too far away"
