"""Kill a migration at every step, under traffic, and run it again: `-m tests.programs.drills.killed_migrations`."""

from __future__ import annotations

import asyncio
from argparse import ArgumentParser, Namespace
from collections import Counter
from collections.abc import AsyncIterator, Coroutine, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, Protocol

from provider_registration.db import migrations
from provider_registration.local.demo_data import load_demo_data
from provider_registration.settings import DatabaseSettings
from tests.documents.markdown import ROOT
from tests.programs.faults.postgres_cluster import PostgresCluster
from tests.programs.faults.world import EMAIL, PASSWORD, RECONNECTING, World
from tests.schema_dump import dump

from .acknowledged import compare
from .fleet import Fleet, Release
from .lock_watch import LockWatch
from .migration_kills import (
    CLIENT,
    COUNT,
    INDEX,
    SERVER,
    SESSION,
    SOME_MOMENT,
    Kill,
    Migrator,
    Round,
    connect,
    predecessors,
)
from .migrations import (
    FINGERPRINT,
    LAST_OF_INDEXES,
    LISTS_A_SECOND,
    OLDER_SCHEMA,
    PACE,
    SERVING_ROLE,
    loaded,
    make_next_release,
    read_reports,
    release_before,
    serving_role,
)
from .plain_callers import PlainCallers
from .programs import beside, run_drill, tell, temporary_folder
from .report import Report
from .stage import METRICS_TOKEN
from .traffic import Failure, Traffic

LOCK_SECONDS = 1.0
GONE_SECONDS = 10.0  # until the session of a process that was killed has ended
SETTLED_SECONDS = 1.0
OLDEST = "000_initial_schema"
COLUMNS = (
    *("serving", "killed", "kills", "its session gone after, s", "run again, s", "requests", "failed"),
    *("slowest, s", "longest lock, s", "longest wait for it, s"),
)
INVALID_INDEXES = "SELECT indexrelid::regclass::text FROM pg_index WHERE NOT (indisvalid AND indisready AND indislive)"
WRONG_COUNTS = "SELECT count(*) FROM recount_candidates()"


class Callers(Protocol):
    """Clients during the killed migrations."""

    failures: list[Failure]
    requests: Counter[str]

    @property
    def slowest_request(self) -> tuple[float, str]:
        """Seconds, and which request."""

    def forget_times(self) -> None:
        """Reset all three."""


@dataclass
class Part:
    """One migration of one database, killed repeatedly during traffic."""

    serving: str
    url: str
    callers: Callers
    migrator: Migrator
    back: Release
    before: str  # the revision before it
    schema: str = ""
    stored: str = ""

    async def begin(self) -> None:
        """Run it without kills, and record the result."""
        connection = await connect(self.url)
        self.stored = await connection.fetchval(FINGERPRINT)
        await connection.close()
        await self.migrator.measure()
        self.schema = await dump(self.url)

    async def go_through(self, how: str, rounds: Iterable[Sequence[Kill]], report: Report) -> None:
        """Every round starts at `before`; add one row for all rounds."""
        done: list[Round] = []
        watches: list[LockWatch] = []
        requests, failures, slowest = 0, [], 0.0
        for kills in rounds:
            await self.back.run(f"alembic downgrade {self.before}", self.url)
            self.callers.forget_times()
            async with AsyncExitStack() as watching:
                if how != SERVER:  # which also disconnects the watch
                    watches.append(await watching.enter_async_context(LockWatch.watching(self.url)))
                done.append(await self.migrator.go_through(kills))
            requests += self.callers.requests.total()
            failures += self.callers.failures
            slowest = max(slowest, self.callers.slowest_request[0])
            tell(f"{self.serving}; {how}:", *(f"    {one}" for one in done[-1].hit))
            for problem in await self._problems():
                report.promise(kept=False, otherwise=f"{self.serving}; {how}: {problem} after {done[-1].hit}")
        gone, again = max(one.gone for one in done), max(one.again for one in done)
        kills = sum(not hit.startswith("nothing") for one in done for hit in one.hit)
        lock = max((watch.longest_lock for watch in watches), default="–")
        wait = max((watch.longest_wait for watch in watches), default="–")
        report.add(self.serving, how, kills, gone, again, requests, len(failures), slowest, lock, wait)
        if how != SERVER:  # which recovers first
            report.at_most(gone, GONE_SECONDS, f"{self.serving}; {how}: seconds until the killed session had ended")
        for watch in watches:
            report.at_most(watch.longest_lock, LOCK_SECONDS, f"{self.serving}; {how}: seconds of {watch.locked}")
            report.at_most(watch.longest_wait, LOCK_SECONDS, f"{self.serving}; {how}: seconds for {watch.blocker}")
        if how != SERVER:
            for failure in failures[:3]:
                report.promise(kept=False, otherwise=f"{self.serving}; {how}: {failure}")

    async def _problems(self) -> list[str]:
        """Differences from the result without kills."""
        connection = await connect(self.url)
        try:
            invalid = [row[0] for row in await connection.fetch(INVALID_INDEXES)]
            problems = [f"the index {name} is invalid" for name in invalid]
            if await connection.fetchval(WRONG_COUNTS):
                problems.append("counts are wrong")
            if await connection.fetchval(FINGERPRINT) != self.stored:
                problems.append("candidates are not what they were")
        finally:
            await connection.close()
        if await dump(self.url) != self.schema:
            problems.append("the schema is another")
        return problems


@dataclass
class Stage:
    """Shared by all parts."""

    folder: Path
    present: Release
    random: Random
    options: Namespace
    report: Report

    async def without_service(self, cluster: PostgresCluster) -> None:
        """Every step from the oldest revision; where no release can serve, clients use SQL."""
        url = await cluster.create_database()
        engine_url = DatabaseSettings(_env_file=None, database_url=url).database_url
        await load_demo_data(engine_url, self.options.rows, seed=1, progress=lambda _: None)
        await self.present.run(f"alembic downgrade {OLDEST}", url)
        callers = PlainCallers(url, self.random)
        migrator = Migrator(self.folder / "migrate.log", self.present, (), url, self.random)
        part = Part("SQL, 000 to the newest", url, callers, migrator, self.present, OLDEST)
        steps = list(predecessors())
        async with self._beside(callers.run(), url):
            await part.begin()
            chosen = sorted(self.random.sample(steps, min(self.options.kills, len(steps))))
            for how in (CLIENT, SESSION):
                await part.go_through(how, [[Kill(how, step) for step in chosen]], self.report)
            moments = [INDEX, COUNT, SOME_MOMENT, SOME_MOMENT][: self.options.kills]
            await part.go_through(SERVER, [[Kill(SERVER, moment)] for moment in moments], self.report)
        lost = await callers.lost()
        self.report.promise(not lost, f"{part.serving}: {len(lost)} of {len(callers.stored)} candidates are lost")
        self.report.promise(
            part.schema == (ROOT / "schema.sql").read_text(), f"{part.serving}: the schema is not schema.sql"
        )

    async def with_service(
        self,
        serving: str,
        releases: tuple[Release, Release],
        service_url: str,
        world: World,
        arguments: Sequence[str],
        before: str,
        moments: Sequence[str],
    ) -> None:
        """A migration of the second release, while the first one serves."""
        url = world.database_url
        served, migrated = releases
        place = self.folder / f"serving-{served.name}"
        place.mkdir()
        migrator = Migrator(place / "migrate.log", migrated, arguments, url, self.random)
        async with Fleet.started(place, world, service_url, served) as fleet:
            traffic = Traffic(
                *([fleet.url], EMAIL, PASSWORD),
                metrics_token=METRICS_TOKEN,
                random=self.random,
                pace=PACE,
                lists_a_second=LISTS_A_SECOND,
            )
            with self.report.failures(fleet.logs):
                part = Part(serving, url, traffic, migrator, migrated, before)
                async with self._beside(traffic.run(), url):
                    await part.begin()
                    for how in (CLIENT, SESSION):
                        await part.go_through(
                            how, [[Kill(how, moment)] for moment in moments[: self.options.kills]], self.report
                        )
                for problem in await compare(world, traffic):
                    self.report.promise(kept=False, otherwise=f"{serving}: {problem}")

    @asynccontextmanager
    async def _beside(self, callers: Coroutine[Any, Any, None], url: str) -> AsyncIterator[None]:
        async with beside(callers, self._read_reports(url)):
            await asyncio.sleep(SETTLED_SECONDS)
            yield

    async def _read_reports(self, url: str) -> None:
        while True:  # PostgreSQL may be killed
            with suppress(*RECONNECTING):
                await read_reports(url, self.options.report_seconds, self.random)
            await asyncio.sleep(SETTLED_SECONDS)


async def drill(options: Namespace) -> bool:
    """Run every part; return whether all promises were kept."""
    report = Report(COLUMNS)
    random = Random(options.seed)  # noqa: S311 - to be repeated, not to be secret
    with temporary_folder("killed") as folder:
        older = release_before(folder, "009_list_indexes_and_counts")
        present, next_one = Release("present", ROOT), make_next_release(folder)
        stage = Stage(folder, present, random, options, report)
        async with loaded(folder, options.rows, OLDER_SCHEMA) as world:
            with report.failures(list):
                await stage.without_service(world.cluster)
            service_url = await serving_role(world.database_url, OLDER_SCHEMA)
            grant = ("--grant-to", SERVING_ROLE)
            up = ("--revision", LAST_OF_INDEXES, *grant)
            await stage.with_service(
                "the release before 009, 008 to 010",
                (older, present),
                service_url,
                world,
                up,
                OLDER_SCHEMA,
                [INDEX, COUNT, INDEX, SOME_MOMENT],
            )
            await present.run(f"provider-registration migrate --grant-to {SERVING_ROLE}", world.database_url)
            head = str(migrations.head())
            await stage.with_service(
                "this release, to the next",
                (present, next_one),
                service_url,
                world,
                grant,
                head,
                [INDEX, SOME_MOMENT, INDEX, SOME_MOMENT],
            )
    return report.show(
        f"{options.rows:,} candidates, one that reads the table for {options.report_seconds:g} s again "
        f"and again, seed {options.seed}"
    )


def main() -> None:
    """Read the command line and run."""
    parser = ArgumentParser(description="Kill a migration at every step, under traffic, and run it again.")
    parser.add_argument("--rows", type=int, default=200_000, help="candidates in the table (default: 200,000)")
    parser.add_argument("--kills", type=int, default=100, help="maximum of each kind (all); 2 for a short run")
    parser.add_argument("--report-seconds", type=float, default=1, help="duration of a long read (1)")
    run_drill(drill, parser, "nginx")


if __name__ == "__main__":
    main()
