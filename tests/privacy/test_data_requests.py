"""Commands to export and erase a person's data, run on data that the real service stored."""

from __future__ import annotations

import asyncio
import json
import re
from uuid import UUID, uuid4

import asyncpg
import pytest
from click.testing import CliRunner

from provider_registration import email_addresses
from provider_registration.cli import main
from tests.documents.markdown import read, sections

PASSWORD = "correct horse battery staple"


@pytest.fixture
def call(migrated_database_url):
    async def call(*arguments, stdin=None):
        environment = {"DATABASE_URL": migrated_database_url}
        return await asyncio.to_thread(CliRunner().invoke, main, arguments, input=stdin, env=environment)

    return call


@pytest.fixture
def export(call):
    async def export(email):
        result = await call("export-data", email)
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)

    return export


async def test_everything_about_a_candidate_is_exported(export, admin, register):
    candidate = await register(language="es")
    await admin.post(f"/candidates/{candidate['candidate_id']}/approve")

    held = await export(candidate["contact_email"].upper())

    assert held["user"] is None
    for field in ("company_name", "contact_email", "phone", "location", "products", "truck_count"):
        assert held["candidate"][field] == candidate[field]
    assert held["candidate"]["language"] == "es"
    assert [event["type"] for event in held["candidate"]["events"]] == [
        "candidate.registered",
        "candidate.approval_requested",
        "candidate.approved",
    ]
    assert not {"status_secret_hash", "rejected_by"} & set(held["candidate"])


async def test_links_in_e_mails_are_exported_without_their_secrets_and_erased(export, call, register, database):
    candidate = await register()
    secret = uuid4().bytes * 2
    await database.execute(
        "INSERT INTO status_links (secret_hash, candidate_id) VALUES ($1, $2::text::uuid)",
        secret,
        candidate["candidate_id"],
    )

    held = (await export(candidate["contact_email"]))["candidate"]
    await call("erase-data", candidate["contact_email"], "--yes")

    assert len(held["links_in_emails"]) == 1
    assert secret.hex() not in str(held)
    assert not await database.fetchval("SELECT EXISTS (SELECT FROM status_links WHERE secret_hash = $1)", secret)


async def test_everything_about_a_member_of_staff_is_exported_but_no_password(
    export, users, anonymous, registration, register
):
    email = registration()["contact_email"]
    await users.create(email, PASSWORD, "admin")
    login = await anonymous.post("/auth/login", json={"username": email, "password": PASSWORD})
    candidate, approved = [(await register())["candidate_id"] for _ in range(2)]
    token = {"Authorization": f"Bearer {login.json()['access_token']}"}
    (await anonymous.post(f"/candidates/{candidate}/reject", headers=token)).raise_for_status()
    (await anonymous.post(f"/candidates/{approved}/approve", headers=token)).raise_for_status()

    held = await export(email)

    assert held["candidate"] is None
    assert (held["user"]["email"], held["user"]["role"]) == (email, "admin")
    assert [(event["candidate_id"], event["type"]) for event in held["user"]["events"]] == [
        (candidate, "candidate.rejected"),
        (approved, "candidate.approval_requested"),
        (approved, "candidate.approved"),
    ]
    assert len(held["user"]["sessions"]) == 1
    assert "password_hash" not in held["user"]


@pytest.mark.parametrize("command", ["export-data", "erase-data"])
async def test_an_unknown_address_is_an_error(call, command):
    result = await call(command, "nobody@example.com", stdin="y\n")

    assert result.exit_code == 1
    assert "No candidate or user has this e-mail address." in result.output


@pytest.mark.parametrize(("decision", "status"), [(None, "rejected"), ("reject", "rejected"), ("approve", "approved")])
async def test_an_erased_candidate_is_anonymous_and_still_counted(
    call, admin, register, registration, database, decision, status
):
    candidate = await register(phone="+49 221 5550 199", location="Zollstock", language="es")
    path = f"/candidates/{candidate['candidate_id']}"
    if decision:
        await admin.post(f"{path}/{decision}")
    before = (await admin.get("/candidates")).json()["pagination"]["total"]
    seen = (await admin.get(path)).json()

    result = await call("erase-data", candidate["contact_email"], "--yes")

    assert result.exit_code == 0, result.output
    record = (await admin.get(path)).json()
    assert record["status"] == status
    assert record["version"] == seen["version"] + 1
    assert (record["updated_at"] == seen["updated_at"]) == bool(decision)  # it is the time of the decision
    assert record["contact_email"] == f"erased-{candidate['candidate_id']}@erased.invalid"
    assert (record["phone"], record["location"], record["rejection_reason"]) == (None, None, None)
    language = "SELECT language FROM candidates WHERE id = $1"
    assert await database.fetchval(language, UUID(candidate["candidate_id"])) is None
    assert (record["company_name"] == candidate["company_name"]) == (status == "approved")
    assert ("ask billing to erase" in result.output) == (status == "approved")
    assert (await admin.get("/candidates")).json()["pagination"]["total"] == before
    again = await admin.post("/candidates", json=registration(contact_email=candidate["contact_email"]))
    assert again.status_code == 201


async def test_a_response_of_a_webhook_that_may_name_an_erased_company_is_erased(call, register, database):
    candidate = await register()
    insert = """
        INSERT INTO deliveries (kind, target, event_id, state, next_attempt_at, last_status, last_error)
        SELECT 'webhook', 'test', id, 'dead', NULL, 409, 'status 409: duplicate of ' || $2
        FROM candidate_events WHERE candidate_id = $1
        RETURNING id
    """
    delivery = await database.fetchval(insert, UUID(candidate["candidate_id"]), candidate["company_name"])

    await call("erase-data", candidate["contact_email"], "--yes")

    left = await database.fetchrow("SELECT last_status, last_error FROM deliveries WHERE id = $1", delivery)
    assert tuple(left) == (409, None)


async def test_the_link_of_an_erased_company_stops_working(call, anonymous, admin, registration):
    candidate = (await anonymous.post("/candidates", json=registration())).json()
    assert (await anonymous.get(candidate["status_url"])).status_code == 200

    await call("erase-data", candidate["contact_email"], "--yes")

    assert (await anonymous.get(candidate["status_url"])).status_code == 404
    assert (await admin.get(f"/candidates/{candidate['candidate_id']}")).json()["version"] == 2


async def test_an_erased_member_of_staff_is_logged_out_and_cannot_come_back(call, users, anonymous, registration):
    email = registration()["contact_email"]
    await users.create(email, PASSWORD, "viewer")
    login = {"username": email, "password": PASSWORD}
    tokens = (await anonymous.post("/auth/login", json=login)).json()

    result = await call("erase-data", email, "--yes")

    assert result.exit_code == 0, result.output
    authorization = {"Authorization": f"Bearer {tokens['access_token']}"}
    async with asyncio.timeout(5):
        while (await anonymous.get("/candidates", headers=authorization)).status_code != 401:
            await asyncio.sleep(0.05)
    assert (await anonymous.post("/auth/login", json=login)).status_code == 401
    refresh = await anonymous.post("/auth/refresh", json={"refresh_token": tokens["refresh_token"]})
    assert refresh.status_code == 401


async def test_the_time_of_disabling_survives_erasure(call, users, registration, database):
    email = registration()["contact_email"]
    await users.create(email, PASSWORD, "viewer")
    user_id = await users.disable(email)
    when = "SELECT disabled_at FROM users WHERE id = $1"
    before = await database.fetchval(when, user_id)

    await call("erase-data", email, "--yes")

    assert await database.fetchval(when, user_id) == before


async def test_an_erased_user_cannot_sign_in(call, users, anonymous, registration, database):
    email = registration()["contact_email"]
    await users.create(email, PASSWORD, "viewer")
    user_id = await database.fetchval("SELECT id FROM users WHERE email = $1", email)
    await call("erase-data", email, "--yes")

    for password in (PASSWORD, "!", "wrong password"):
        login = {"username": f"erased-{user_id}@erased.invalid", "password": password}
        assert (await anonymous.post("/auth/login", json=login)).status_code == 401


@pytest.mark.usefixtures("tokens")  # its users request the approval
async def test_an_approval_that_begins_while_erasing_waits_is_seen(call, register, database, migrated_database_url):
    candidate = await register()
    async with database.transaction():
        await database.execute(
            "UPDATE candidates SET updated_at = updated_at WHERE id = $1::text::uuid", candidate["candidate_id"]
        )
        erasing = asyncio.create_task(call("erase-data", candidate["contact_email"], "--yes"))
        await waits_for_a_lock(migrated_database_url)
        await database.execute(
            "INSERT INTO approval_intents (candidate_id, idempotency_key, provider_name, requested_by, next_attempt_at)"
            " SELECT $1::text::uuid, gen_random_uuid(), $2, min(id::text)::uuid, now() + interval '1 hour' FROM users",
            *(candidate["candidate_id"], candidate["company_name"]),
        )

    result = await erasing

    await database.execute(
        "DELETE FROM approval_intents WHERE candidate_id = $1::text::uuid", candidate["candidate_id"]
    )
    assert result.exit_code == 1
    assert "The candidate has an unfinished approval" in result.output


ADD_UNFILLED = """
    INSERT INTO candidates (id, company_name, contact_email, products, truck_count, capacity_tons_per_day)
    VALUES ($1, 'Obsthof', $2, '{apples}', 1, 1)
"""


@pytest.fixture
async def unfilled(database, monkeypatch):
    """Add candidates as an earlier release does, more than a command's batch, and do not fill their new column."""
    added = []
    monkeypatch.setattr(email_addresses, "BATCH", 3)

    async def add(address, number):
        added.append(UUID(int=number))
        await database.execute(ADD_UNFILLED, added[-1], address)

    for number in range(10):
        await add(f"é{uuid4().hex}@x.example", number)
    yield add
    await database.execute("DELETE FROM candidate_events WHERE candidate_id = ANY($1)", added)
    await database.execute("DELETE FROM candidates WHERE id = ANY($1)", added)


async def test_a_person_of_an_earlier_release_is_found_among_any_number_of_others(call, export, unfilled, database):
    address = f"JOSÉ{uuid4().hex}@x.example"
    await unfilled(address, 99)

    assert (await export(address.lower()))["candidate"]["contact_email"] == address
    assert (await call("erase-data", address.lower(), "--yes")).exit_code == 0

    erased = await database.fetchval("SELECT contact_email FROM candidates WHERE id = $1", UUID(int=99))
    assert erased == f"erased-{UUID(int=99)}@erased.invalid"


async def test_one_whose_row_is_held_is_waited_for(call, unfilled, database, migrated_database_url):
    address = f"JOSÉ{uuid4().hex}@x.example"
    await unfilled(address, 99)
    async with database.transaction():
        await database.execute("SELECT FROM candidates WHERE id = $1 FOR NO KEY UPDATE", UUID(int=99))
        erasing = asyncio.create_task(call("erase-data", address, "--yes"))
        await waits_for_a_lock(migrated_database_url, "%SET contact_email_canonical%")

    assert (await erasing).exit_code == 0


async def test_an_address_that_two_share_is_refused_by_their_ids(call, unfilled, database):
    address = f"josé{uuid4().hex}@x.example"
    await unfilled(address, 98)
    assert (await call("export-data", address)).exit_code == 0  # which fills it
    await unfilled(address.replace("é", "e\u0301"), 99)

    for command in (("export-data", address), ("erase-data", address, "--yes")):
        result = await call(*command)
        assert result.exit_code == 1
        assert str(UUID(int=99)) in result.output
        [section] = re.findall(r"see OPERATIONS\.md, (.+)\.$", result.output, re.MULTILINE)
        assert section in {one.title for one in sections(read("OPERATIONS.md"))}
    assert await database.fetchval("SELECT contact_email FROM candidates WHERE id = $1", UUID(int=98)) == address


async def waits_for_a_lock(url, statement="%FOR UPDATE%"):
    connection = await asyncpg.connect(url)
    async with asyncio.timeout(20):
        while not await connection.fetchval(
            "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database()"
            " AND wait_event_type = 'Lock' AND query LIKE $1)",
            statement,
        ):
            await asyncio.sleep(0.02)
    await connection.close()


async def test_a_candidate_whose_approval_is_not_finished_is_not_erased(call, admin, register, billing):
    candidate = await register()
    await billing.fail("hang", names=[candidate["company_name"]])
    approving = asyncio.create_task(admin.post(f"/candidates/{candidate['candidate_id']}/approve"))
    await asyncio.sleep(0.5)

    result = await call("erase-data", candidate["contact_email"], "--yes")

    assert result.exit_code == 1
    assert "The candidate has an unfinished approval" in result.output
    await billing.fail("none")
    assert (await approving).status_code == 200


async def test_nothing_is_erased_without_a_yes(call, admin, register):
    candidate = await register()

    result = await call("erase-data", candidate["contact_email"], stdin="n\n")

    assert result.exit_code == 1
    record = (await admin.get(f"/candidates/{candidate['candidate_id']}")).json()
    assert record["contact_email"] == candidate["contact_email"]
