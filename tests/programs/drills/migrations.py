"""Upgrade and roll back a release under traffic, as DEPLOYMENT.md says: `-m tests.programs.drills.migrations`."""

from __future__ import annotations

import asyncio
import secrets
import shutil
import sys
import time
from argparse import ArgumentParser, Namespace
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import urlsplit

import asyncpg

from provider_registration.db import migrations
from provider_registration.db.revisions import REVISIONS
from provider_registration.local.demo_data import load_demo_data
from provider_registration.settings import DatabaseSettings
from tests.documents.markdown import ROOT
from tests.older import NoHistory, sources_before
from tests.programs.faults.world import EMAIL, PASSWORD, World

from .acknowledged import compare
from .fleet import Fleet, Release
from .lock_watch import LockWatch
from .programs import beside, run_drill, tell, temporary_folder
from .report import Report
from .stage import METRICS_TOKEN, prepared
from .traffic import Traffic

LOCK_SECONDS = 1.0
WAIT_SECONDS = 0.3  # a step that waits for a lock gives up after 0.05 s; the rest is for a busy machine
OLDER_SCHEMA = "008_sessions"
LAST_OF_INDEXES = "010_product_indexes"
BEFORE_TEXTS = "015_rejected_by"
# Migrations that fill a column of every candidate, and later ones.
STEPS_OF_TEXTS = ("016_canonical_email", "017_search_text", "018_functions_and_sessions", "019_language")
BEFORE_LOG = "019_language"
# Migrations that record and number what happened to every candidate, and all later ones.
STEPS_OF_LOG = REVISIONS[REVISIONS.index(BEFORE_LOG) + 1 :]
# The first of those that index names, add API keys, jobs and imports, and count by day, and all later ones.
FIRST_OF_JOBS = "029_api_keys"
# What a release may add: a column in every table, a constraint, and an index: last, because a step that finds a table
# locked begins again.
NEXT_STEP = """
from alembic import op

from provider_registration.db.index_builds import replace_indexes

revision = "999_next_release"
down_revision = "DOWN_REVISION"
TABLES = ("users", "sessions", "approval_intents", "approval_events", "candidate_counts", "candidates")


def upgrade():
    for table in TABLES:
        with op.get_context().autocommit_block():
            op.execute(f"ALTER TABLE {table} ADD COLUMN IF NOT EXISTS note text")
    with op.get_context().autocommit_block():
        op.execute("ALTER TABLE candidates DROP CONSTRAINT IF EXISTS ck_note")
        op.execute("ALTER TABLE candidates ADD CONSTRAINT ck_note CHECK (note <> \'\') NOT VALID")
        op.execute("ALTER TABLE candidates VALIDATE CONSTRAINT ck_note")
    replace_indexes("candidates", (), {"ix_candidates_note": "(note, company_name)"})


def downgrade():
    for table in TABLES:
        with op.get_context().autocommit_block():
            op.execute(f"ALTER TABLE {table} DROP COLUMN IF EXISTS note")
"""
# A digest of candidates that no client changes, over columns that every revision has.
FINGERPRINT = """
    SELECT count(*) || ' ' || sum(hashtextextended(concat_ws('|', id, status, company_name, contact_email, phone,
        products, truck_count, capacity_tons_per_day, location, provider_id), 0))
    FROM candidates
    WHERE company_name NOT LIKE 'company-%'
"""
# The events of demonstration candidates' approvals, as the release before 020 would have recorded them.
ADD_APPROVAL_EVENTS = """
    INSERT INTO approval_events (candidate_id, idempotency_key, event, at, user_id, provider_id)
    SELECT candidates.id, candidates.id, event, updated_at,
           CASE WHEN event = 'requested' THEN (SELECT id FROM users ORDER BY id LIMIT 1) END,
           CASE WHEN event = 'approved' THEN provider_id END
    FROM candidates CROSS JOIN (VALUES (1, 'requested'), (2, 'approved')) AS approval (number, event)
    WHERE status = 'approved'
      AND NOT EXISTS (SELECT FROM approval_events AS known WHERE known.candidate_id = candidates.id)
    ORDER BY updated_at, candidates.id, number
"""
LOG_PROBLEMS = {
    "events of approvals that were not copied": """
        SELECT count(*) FROM approval_events AS source
        WHERE NOT EXISTS (SELECT FROM candidate_events WHERE approval_event_id = source.id)
    """,
    "candidates without the events of their status": """
        SELECT count(*) FROM candidates
        WHERE NOT EXISTS (
            SELECT FROM candidate_events AS event
            WHERE event.candidate_id = candidates.id AND type = 'candidate.registered'
        ) OR status <> 'pending' AND NOT EXISTS (
            SELECT FROM candidate_events AS event
            WHERE event.candidate_id = candidates.id AND type = 'candidate.' || candidates.status
        )
    """,
    "candidates with an event too many": """
        SELECT count(*) FROM (
            SELECT FROM candidate_events
            WHERE type IN ('candidate.registered', 'candidate.approved', 'candidate.rejected')
            GROUP BY candidate_id, type HAVING count(*) > 1
        ) AS repeated
    """,
    "events with neither a number nor a place in the queue, or both": """
        SELECT count(*) FROM candidate_events AS event
        WHERE EXISTS (SELECT FROM event_positions WHERE event_id = event.id)
            = EXISTS (SELECT FROM event_queue WHERE event_id = event.id)
    """,
    "wrong numbers": """
        SELECT count(*) FROM (
            SELECT position, sequence, row_number() OVER (ORDER BY position) AS expected,
                   row_number() OVER (PARTITION BY candidate_id ORDER BY position) AS expected_sequence
            FROM event_positions
        ) AS numbered
        WHERE position <> expected OR sequence <> expected_sequence
    """,
}
# The earlier release wrote its log with a package that is no longer installed.
OLDER_LOG_PACKAGE = """
import logging


class JsonFormatter(logging.Formatter):
    def __init__(self, fields, *, style, **_others):
        super().__init__(fields, style=style)
"""
SERVING_ROLE = "provider_registration_api"
SETTLED_SECONDS = 5.0  # of traffic after each step
REPORTS = 2  # concurrent long readers
LONGEST_PAUSE = 4.0  # seconds between two reports of one
# The older release sorts and counts the whole table for a list, which keeps a core busy for a while.
PACE, LISTS_A_SECOND = 0.5, 0.5
COLUMNS = (*("step", "seconds", "requests", "failed", "slowest, s", "longest lock, s", "longest wait for it, s"),)


@dataclass
class Steps:
    """What operators do, with each step observed."""

    report: Report
    traffic: Traffic
    owner_url: str

    async def do(self, name: str, work: Awaitable[object]) -> None:
        """Do one step under traffic, and add a row."""
        tell(name)
        self.traffic.forget_times()
        begun = time.monotonic()
        async with LockWatch.watching(self.owner_url) as watch:
            await work
            seconds = time.monotonic() - begun
            await asyncio.sleep(SETTLED_SECONDS)
        slowest, endpoint = self.traffic.slowest_request
        failures = self.traffic.failures
        self.report.add(
            *(name, seconds, self.traffic.requests.total(), len(failures), f"{slowest:.2f} ({endpoint})"),
            *(watch.longest_lock, watch.longest_wait),
        )
        for failure in failures[:5]:
            tell(f"failed: {failure}")
        self.report.promise(not failures, f"{name}: {len(failures)} requests failed")
        self.report.at_most(watch.longest_lock, LOCK_SECONDS, f"{name}: seconds of {watch.locked}")
        self.report.at_most(
            watch.longest_wait, WAIT_SECONDS, f"{name}: seconds that callers waited for {watch.blocker}"
        )


async def drill(options: Namespace) -> bool:
    """Run every step on one database; return whether all promises were kept."""
    report = Report(COLUMNS)
    with temporary_folder("migrations") as folder:
        present, next_one = Release("present", ROOT), make_next_release(folder)
        parts = {
            "009": (release_before(folder, "009_list_indexes_and_counts"), go_up_and_down),
            "016": (
                release_before(folder, "018_functions_and_sessions"),
                fill_texts,
            ),  # the first of the first three
            "020": (release_before(folder, STEPS_OF_LOG[0]), write_logs),
            "029": (release_before(folder, FIRST_OF_JOBS), add_jobs),
            "next": (present, upgrade_and_roll_back),
        }
        chosen = {options.only: parts[options.only]} if options.only else parts
        schema = OLDER_SCHEMA if "009" in chosen else str(migrations.head())
        async with loaded(folder, options.rows, schema) as world:
            service_url = await serving_role(world.database_url, schema)
            for name, (release, work) in chosen.items():
                if name != "009":
                    await present.run(f"provider-registration migrate --grant-to {SERVING_ROLE}", world.database_url)
                part = folder / release.name
                part.mkdir(exist_ok=True)
                async with Fleet.started(part, world, service_url, release) as fleet:
                    with report.failures(fleet.logs):
                        traffic = await under_traffic(work, fleet, present, next_one, world, report, options)
                        for problem in await compare(world, traffic):
                            report.promise(kept=False, otherwise=problem)
                        for log in fleet.logs() if report.broken else ():
                            tell(log)
            await present.run(f"provider-registration migrate --grant-to {SERVING_ROLE}", world.database_url)
            said = await present.run("provider-registration recount", world.database_url)
            report.promise("The counts are correct." in said, f"counts: {said}")
    return report.show(
        f"{options.rows:,} candidates, {REPORTS} that read the table for {options.report_seconds:g} s again and again, "
        f"seed {options.seed}"
    )


async def under_traffic(
    work: Callable[[Steps, Fleet, Release, Release], Awaitable[None]],
    fleet: Fleet,
    present: Release,
    next_one: Release,
    world: World,
    report: Report,
    options: Namespace,
) -> Traffic:
    """Do a part of the drill under traffic and long reads of the table."""
    random = Random(options.seed)  # noqa: S311 - to be repeated, not to be secret
    traffic = Traffic(
        *([fleet.url], EMAIL, PASSWORD),
        metrics_token=METRICS_TOKEN,
        random=random,
        pace=PACE,
        lists_a_second=LISTS_A_SECOND,
    )
    reports = [read_reports(world.database_url, options.report_seconds, random) for _ in range(REPORTS)]
    async with beside(traffic.run(), *reports):
        await asyncio.sleep(SETTLED_SECONDS)
        await work(Steps(report, traffic, world.database_url), fleet, present, next_one)
    return traffic


async def go_up_and_down(steps: Steps, _fleet: Fleet, present: Release, _next_one: Release) -> None:
    """Index a large table, count it, and undo that, while the release from before serves."""
    url = steps.owner_url
    await steps.do("nothing, the release before 009 serves", nothing())
    up = migrate_to(LAST_OF_INDEXES)
    await steps.do("migrate 008 to 010, it continues to serve", present.run(up, url))
    await steps.do("downgrade 010 to 008", present.run(f"alembic downgrade {OLDER_SCHEMA}", url))
    await steps.do("migrate 008 to 010 again", present.run(up, url))


async def fill_texts(steps: Steps, _fleet: Fleet, present: Release, _next_one: Release) -> None:
    """Fill columns of every candidate, and undo that, while the release from before serves."""
    url = steps.owner_url
    await steps.do("nothing, the release before 016 serves", nothing())
    await steps.do("downgrade to 015, it continues to serve", present.run(f"alembic downgrade {BEFORE_TEXTS}", url))
    for revision in STEPS_OF_TEXTS:
        await steps.do(f"migrate to {revision[:3]}", present.run(migrate_to(revision), url))


async def write_logs(steps: Steps, _fleet: Fleet, present: Release, _next_one: Release) -> None:
    """Record and number the events of every candidate, twice, while the release from before serves."""
    url = steps.owner_url
    stored = await fetch_value(url, FINGERPRINT)
    await steps.do("nothing, the release before 020 serves", nothing())
    await go_down(steps, present, STEPS_OF_LOG)
    await fetch_value(url, ADD_APPROVAL_EVENTS)
    await go_up(steps, present, STEPS_OF_LOG)
    await check_log(steps)
    await go_down_and_up(steps, present, STEPS_OF_LOG)
    await check_log(steps)
    found = await fetch_value(url, FINGERPRINT)
    steps.report.promise(found == stored, f"candidates changed: {stored}, then {found}")


async def add_jobs(steps: Steps, _fleet: Fleet, present: Release, _next_one: Release) -> None:
    """Add what 029 and later migrations add, twice, while the release from before serves."""
    revisions = REVISIONS[REVISIONS.index(FIRST_OF_JOBS) :]
    stored = await fetch_value(steps.owner_url, FINGERPRINT)
    await steps.do("nothing, the release before 029 serves", nothing())
    await go_down(steps, present, revisions)
    await go_up(steps, present, revisions)
    await go_down_and_up(steps, present, revisions)
    found = await fetch_value(steps.owner_url, FINGERPRINT)
    steps.report.promise(found == stored, f"candidates changed: {stored}, then {found}")


async def go_down(steps: Steps, present: Release, revisions: Sequence[str]) -> None:
    """Undo revisions one by one, the last one first."""
    below = REVISIONS[REVISIONS.index(revisions[0]) - 1]
    for revision, next_one in pairwise(reversed((below, *revisions))):
        name = f"downgrade {revision[:3]} to {next_one[:3]}"
        await steps.do(name, present.run(f"alembic downgrade {next_one}", steps.owner_url))


async def go_up(steps: Steps, present: Release, revisions: Sequence[str]) -> None:
    """Migrate to revisions one by one."""
    for revision in revisions:
        await steps.do(f"migrate to {revision[:3]}", present.run(migrate_to(revision), steps.owner_url))


async def go_down_and_up(steps: Steps, present: Release, revisions: Sequence[str]) -> None:
    """Undo revisions at once, and migrate to the last one."""
    below, last = REVISIONS[REVISIONS.index(revisions[0]) - 1], revisions[-1]
    url = steps.owner_url
    await steps.do(f"downgrade to {below[:3]} again", present.run(f"alembic downgrade {below}", url))
    await steps.do(f"migrate to {last[:3]} again", present.run(migrate_to(last), url))


def migrate_to(revision: str) -> str:
    """The command that migrates to a revision."""
    return f"provider-registration migrate --revision {revision} --grant-to {SERVING_ROLE}"


async def check_log(steps: Steps) -> None:
    """Every candidate has its events once, and every event has its number or waits for it."""
    for what, query in LOG_PROBLEMS.items():
        found = await fetch_value(steps.owner_url, query)
        steps.report.promise(found == 0, f"{found} {what}")
    tell(f"{await fetch_value(steps.owner_url, 'SELECT count(*) FROM candidate_events'):,} events")


async def fetch_value(url: str, query: str) -> Any:
    """The value that a query returns."""
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close()


async def upgrade_and_roll_back(steps: Steps, fleet: Fleet, present: Release, next_one: Release) -> None:
    """Upgrade to a release with one more step, roll back, and upgrade again, in the order given in DEPLOYMENT.md."""
    url = steps.owner_url
    await steps.do("nothing, this release serves", nothing())
    up = f"provider-registration migrate --grant-to {SERVING_ROLE}"
    await steps.do("migrate to the next release, this one serves", next_one.run(up, url))
    await steps.do("replace the processes with the next release", fleet.replace(next_one))
    await steps.do("replace the processes with this release", fleet.replace(present))
    down = f"alembic downgrade {migrations.head()}"
    await steps.do("downgrade by its step, this release serves", next_one.run(down, url))
    await steps.do("migrate to the next release again", next_one.run(up, url))
    await next_one.run(down, url)  # later parts do not know this step


async def nothing() -> None:
    """Measure clients without a migration."""
    await asyncio.sleep(SETTLED_SECONDS)


@asynccontextmanager
async def loaded(folder: Path, rows: int, schema: str) -> AsyncIterator[World]:
    """A database with this many candidates, at a revision of the schema; removed after the block."""
    async with prepared(folder) as world:
        url = world.database_url
        engine_url = DatabaseSettings(_env_file=None, database_url=url).database_url
        await load_demo_data(engine_url, rows, seed=1, progress=lambda _: None)
        await asyncio.to_thread(migrations.downgrade, url, schema)
        tell(f"{rows:,} candidates are there")
        yield world


async def serving_role(owner_url: str, schema: str) -> str:
    """Create the serving role with privileges on the schema of this revision; return its URL."""
    password = secrets.token_hex(16)
    connection = await asyncpg.connect(owner_url)
    await connection.execute(f"CREATE ROLE {SERVING_ROLE} LOGIN PASSWORD '{password}'")
    await connection.close()
    await Release("present", ROOT).run(migrate_to(schema), owner_url)
    parts = urlsplit(owner_url)
    return parts._replace(netloc=f"{SERVING_ROLE}:{password}@{parts.netloc.rpartition('@')[2]}").geturl()


async def read_reports(url: str, seconds: float, random: Random) -> None:
    """Read the table in long transactions, again and again, as reports and dumps do."""
    connection = await asyncpg.connect(url, server_settings={"application_name": "report"})
    try:
        while True:
            async with connection.transaction():
                await connection.execute("SELECT FROM candidates LIMIT 1")
                await connection.execute("SELECT pg_sleep($1::float8)", seconds)
            await asyncio.sleep(random.uniform(0, LONGEST_PAUSE))
    finally:
        connection.terminate()


def release_before(folder: Path, step: str) -> Release:
    """The version before a migration step, from the repository's history."""
    older = folder / f"before-{step}"
    try:
        sources_before(f"alembic/versions/{step}.py", older)
    except NoHistory as error:
        sys.exit(str(error))
    log_package = older / "src/pythonjsonlogger"
    log_package.mkdir()
    (log_package / "json.py").write_text(OLDER_LOG_PACKAGE)
    return Release(older.name, older)


def make_next_release(folder: Path) -> Release:
    """This version with one more step."""
    following = folder / "next"
    for name in ("src", "alembic"):
        shutil.copytree(ROOT / name, following / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "alembic.ini", following)
    step = NEXT_STEP.replace("DOWN_REVISION", str(migrations.head()))
    (following / "alembic/versions/999_next_release.py").write_text(step)
    return Release("next", following)


def main() -> None:
    """Read the command line and run."""
    parser = ArgumentParser(description="Upgrade and roll back a release under traffic.")
    parser.add_argument("--rows", type=int, default=1_000_000, help="candidates in the table (default: 1,000,000)")
    parser.add_argument("--report-seconds", type=float, default=3, help="duration of a long read (3)")
    parser.add_argument("--only", choices=("009", "016", "020", "029", "next"), help="one part (all)")
    run_drill(drill, parser, "nginx")


if __name__ == "__main__":
    main()
