"""Rotate the key and the service role, and change users' roles, under traffic: `-m tests.programs.drills.rotation`."""

from __future__ import annotations

import asyncio
import re
import secrets
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Awaitable
from random import Random
from urllib.parse import urlsplit

import asyncpg

from tests.documents.markdown import ROOT, section
from tests.programs.faults.world import EMAIL, PASSWORD

from .acknowledged import compare
from .fleet import Fleet, Release
from .programs import beside, run_drill, tell, temporary_folder
from .report import Report
from .staff import ENDED_SECONDS, Staff
from .stage import METRICS_TOKEN, prepared
from .traffic import Traffic

FIRST_ROLE, SECOND_ROLE = "provider_registration_api", "provider_registration_api_2"  # as the document calls them
SETTLED_SECONDS = 5.0  # of traffic after each step
COLUMNS = ("step", "seconds", "requests", "failed", "slowest, s", "an old token works for, s")
NOT_AUTHENTICATED = 401
POLL = 0.02


class Steps:
    """What operators do, each step under traffic."""

    def __init__(self, report: Report, traffic: Traffic) -> None:
        self._report = report
        self._traffic = traffic

    async def do(
        self, name: str, work: Awaitable[object], losing: Awaitable[float] | None = None, *, allowed: int = 0
    ) -> None:
        """Do one step, and add a row; `losing` ends a user's sessions during it; `allowed` are no failures."""
        tell(name)
        self._traffic.forget_times()
        begun = time.monotonic()
        works: list[Awaitable[object]] = [work] if losing is None else [work, losing]
        results = await asyncio.gather(*works)
        seconds = time.monotonic() - begun
        await asyncio.sleep(SETTLED_SECONDS)
        failures = [one for one in self._traffic.failures if one.status != allowed]
        old: object = results[-1] if losing is not None else "–"
        slowest, _ = self._traffic.slowest_request
        self._report.add(name, seconds, self._traffic.requests.total(), len(failures), slowest, old)
        for failure in failures[:5]:
            tell(f"failed: {failure}")
        self._report.promise(not failures, f"{name}: {len(failures)} requests failed")
        if isinstance(old, float):
            self._report.at_most(old, ENDED_SECONDS, f"{name}: seconds for which an old token worked")


async def drill(options: Namespace) -> bool:
    """Run all changes; return whether no valid request failed."""
    report = Report(COLUMNS)
    release = Release("service", ROOT)
    random = Random(options.seed)  # noqa: S311 - to be repeated, not to be secret
    with temporary_folder("rotation") as folder:
        async with prepared(folder) as world:
            first_url = await make_role(world.database_url, release, FIRST_ROLE)
            async with Fleet.started(folder, world, first_url, release) as fleet:
                traffic = Traffic([fleet.url], EMAIL, PASSWORD, metrics_token=METRICS_TOKEN, random=random)
                staff = Staff(fleet, release, world.database_url)
                with report.failures(fleet.logs):
                    async with beside(traffic.run()):
                        await asyncio.sleep(SETTLED_SECONDS)
                        steps = Steps(report, traffic)
                        await change_key(steps, fleet, release, traffic, staff)
                        await change_role(steps, fleet, release, world.database_url)
                        refused = log_in_when_refused(traffic)
                        name = "everybody's sessions end"
                        await steps.do(name, refused, staff.end_all(), allowed=NOT_AUTHENTICATED)
                    for problem in [*staff.problems, *await compare(world, traffic)]:
                        report.promise(kept=False, otherwise=problem)
    return report.show(f"two processes, {len(traffic.registered)} registrations acknowledged, seed {options.seed}")


async def log_in_when_refused(traffic: Traffic) -> None:
    """Log in again if the clients' session has ended, as clients do after a 401."""
    while not any(one.status == NOT_AUTHENTICATED for one in traffic.failures):
        await asyncio.sleep(POLL)
    traffic.log_in_again()


async def change_key(steps: Steps, fleet: Fleet, release: Release, traffic: Traffic, staff: Staff) -> None:
    """Run the document's table of steps; during each, a user's sessions end."""
    losing = iter(
        (
            ("a user is disabled", staff.disable),
            ("a user gets another role", staff.change_role),
            ("a user gets another password", staff.change_password),
        )
    )
    [table] = section("OPERATIONS.md", "Changing the key").tables
    keys = {"the old key": fleet.settings["JWT_SECRET_KEY"], "the new key": secrets.token_hex(32), "": ""}
    for row in table[1:]:
        if row is table[-1]:
            traffic.log_in_again()  # instead of waiting until the old tokens expire
            await asyncio.sleep(SETTLED_SECONDS)
        settings = {name.strip("`"): keys[cell] for name, cell in row.items() if name.startswith("`")}
        what, lose = next(losing)
        await steps.do(f"the key: {row['step']}; {what}", fleet.replace(release, **settings), lose())


async def change_role(steps: Steps, fleet: Fleet, release: Release, owner_url: str) -> None:
    """Create a second serving role, use it, and remove the first, with the document's statements."""
    create, drop = (
        block.text
        for block in section("OPERATIONS.md", "Changing database passwords").blocks
        if block.language == "sql"
    )
    assert SECOND_ROLE in create, "the document makes another role"
    assert FIRST_ROLE in drop, "the document removes another role"
    second_url = await make_role(owner_url, release, SECOND_ROLE, create)
    await steps.do("the role: replace the processes", fleet.replace(release, DATABASE_URL=second_url))
    await steps.do("the role: drop the first", execute(owner_url, drop))


async def make_role(
    owner_url: str, release: Release, role: str, create: str = f"CREATE ROLE {FIRST_ROLE} LOGIN PASSWORD 'choose-one';"
) -> str:
    """Create a serving role; return its URL."""
    password = secrets.token_hex(16)
    await execute(owner_url, re.sub(r"PASSWORD '[^']*'", f"PASSWORD '{password}'", create))
    await release.run(f"provider-registration migrate --grant-to {role}", owner_url)
    parts = urlsplit(owner_url)
    return parts._replace(netloc=f"{role}:{password}@{parts.netloc.rpartition('@')[2]}").geturl()


async def execute(url: str, statements: str) -> None:
    """Execute statements."""
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statements)
    finally:
        await connection.close()


def main() -> None:
    """Read the command line and run."""
    parser = ArgumentParser(description="Change the key, the serving database role and users, under traffic.")
    run_drill(drill, parser, "nginx")


if __name__ == "__main__":
    main()
