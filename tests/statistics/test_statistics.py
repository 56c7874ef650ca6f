"""Statistics equal a count of every candidate and event, whatever was counted when and by whom."""

from __future__ import annotations

import asyncio
from datetime import UTC, date, datetime, timedelta
from functools import partial
from random import Random
from uuid import UUID, uuid4

import asyncpg
import pytest

from provider_registration import failpoints
from provider_registration.db import migrations
from provider_registration.db.database import Database
from provider_registration.events.dispatcher import Dispatcher
from provider_registration.observability.metrics import OLDEST_UNCOUNTED_SECONDS
from provider_registration.settings import DatabaseSettings
from provider_registration.statistics import queries, service
from provider_registration.statistics.counting import Counter
from provider_registration.statistics.models import Grouping, Interval, Period
from provider_registration.statistics.service import StatisticsService

from .histories import PERSONAL, History, expected, shown

USERS = [UUID(int=number) for number in (1, 2, 3)]
BEFORE = "028_candidate_keys"
TODAY = datetime.now(UTC).date()
PERIODS = [Period(TODAY - timedelta(days=40), TODAY, Interval.DAY, by) for by in (None, *Grouping)] + [
    Period(TODAY - timedelta(days=95), TODAY - timedelta(days=3), Interval.WEEK),
    Period(TODAY - timedelta(days=120), TODAY + timedelta(days=40), Interval.MONTH, Grouping.PRODUCT),
    Period(TODAY - timedelta(days=120), TODAY, Interval.MONTH),
]


@pytest.fixture
async def connection(own_database_url):
    connection = await asyncpg.connect(own_database_url)
    yield connection
    await connection.close()


@pytest.fixture
async def database(own_database_url):
    database = Database(DatabaseSettings(_env_file=None, database_url=own_database_url).database_url, pool_size=4)
    yield database
    await database.close()


async def add_users(connection: asyncpg.Connection) -> None:
    for user in USERS:
        await connection.execute(
            "INSERT INTO users (id, email, password_hash, role) VALUES ($1, $2, '!', 'admin')", user, f"{user}@x.org"
        )


async def nothing() -> None:
    """Neither number events nor count them."""


async def count_all(history: History, dispatcher: Dispatcher, counter: Counter) -> None:
    while await dispatcher.dispatch() or await counter.count():
        pass
    history.note_count()


async def check(history: History, database: Database) -> None:
    """Compare every period; ages to a second, because the clock goes on."""
    statistics = StatisticsService(database)
    for period in PERIODS:
        found = await statistics.read(period)
        assert found.is_complete
        wanted, got = expected(history, period, datetime.now(UTC)), shown(found)
        assert got.keys() == wanted.keys(), period
        for group, figures in wanted.items():
            assert len(got[group]) == len(figures)
            for one, other in zip(got[group], figures, strict=True):
                assert one == {
                    **other,
                    "times": pytest.approx(other["times"], rel=1e-9) if other["times"][0] else other["times"],
                    "oldest": other["oldest"] and pytest.approx(other["oldest"], abs=2),
                }, (period, group)


@pytest.mark.parametrize("seed", range(3))
async def test_random_histories_counted_at_random_moments_equal_a_count_of_everything(connection, database, seed):
    await add_users(connection)
    rng = Random(seed)  # noqa: S311 - no secret
    history, dispatcher, counter = (
        History(connection, seed=seed, users=USERS),
        Dispatcher(database, []),
        Counter(database),
    )
    for _ in range(12):
        await history.go_on(rng.randint(1, 40))
        await rng.choice((nothing, dispatcher.dispatch, partial(count_all, history, dispatcher, counter)))()
    await check(history, database)
    await count_all(history, dispatcher, counter)
    await check(history, database)
    assert await connection.fetchval("SELECT position FROM statistics_progress") > 0


async def test_two_processes_count_each_event_once(connection, database):
    await add_users(connection)
    history, dispatcher = History(connection, seed=7, users=USERS), Dispatcher(database, [])
    counters = [Counter(database) for _ in range(4)]
    for _ in range(5):
        await history.go_on(30)
        await dispatcher.dispatch()
        await asyncio.gather(*(counter.count() for counter in counters))
        history.note_count()
    await check(history, database)


@pytest.mark.parametrize("point", ["statistics.before-commit", "statistics.after-commit"])
async def test_a_process_that_dies_while_it_counts_counts_nothing_twice(connection, database, monkeypatch, point):
    await add_users(connection)
    history, dispatcher, counter = (
        History(connection, seed=10, users=USERS),
        Dispatcher(database, []),
        Counter(database),
    )
    await history.go_on(60)
    await dispatcher.dispatch()

    async def die(name: str) -> None:
        if name == point:
            raise KeyboardInterrupt

    monkeypatch.setattr(failpoints, "hook", die)
    with pytest.raises(KeyboardInterrupt):
        await counter.count()
    monkeypatch.setattr(failpoints, "hook", None)
    await check(history, database)
    await count_all(history, dispatcher, counter)
    await check(history, database)


async def test_the_metric_has_the_age_of_the_oldest_event_that_is_not_counted(connection, database):
    await connection.execute(
        """
        WITH added AS (
            INSERT INTO candidates (company_name, contact_email, products, truck_count, capacity_tons_per_day)
            VALUES ('A', 'a@x.org', '{apples}', 1, 1) RETURNING id
        )
        INSERT INTO candidate_events (candidate_id, type, at, actor_kind)
        SELECT id, 'candidate.status_link_replaced', now() - make_interval(hours => hours), 'service'
        FROM added, unnest(ARRAY[2, 1]) AS hours
        """
    )
    await Dispatcher(database, []).dispatch()
    counter = Counter(database)

    async with database.transaction() as session:
        await session.execute(queries.LOCK_PROGRESS)  # another process counts, or hangs
        await counter.count()
        behind = OLDEST_UNCOUNTED_SECONDS._value.get()
    while await counter.count():
        pass
    await counter.count()

    assert behind == pytest.approx(2 * 3600, abs=60)
    assert OLDEST_UNCOUNTED_SECONDS._value.get() == 0


async def test_an_event_that_is_committed_late_is_counted(own_database_url, connection, database):
    await add_users(connection)
    history, dispatcher, counter = History(connection, seed=8, users=USERS), Dispatcher(database, []), Counter(database)
    late = await asyncpg.connect(own_database_url)
    other = History(late, seed=9, users=USERS)
    transaction = late.transaction()
    await transaction.start()
    await other.go_on(10)
    await history.go_on(50)
    await count_all(history, dispatcher, counter)
    await transaction.commit()
    history.lived += other.lived
    await check(history, database)
    await dispatcher.dispatch()
    await counter.count()
    await check(history, database)
    await late.close()


async def test_the_migration_counts_what_was_before_it(database_at):
    url = await database_at(BEFORE)
    connection = await asyncpg.connect(url)
    database = Database(DatabaseSettings(_env_file=None, database_url=url).database_url, pool_size=4)
    try:
        await add_users(connection)
        history, dispatcher = History(connection, seed=3, users=USERS, days=60), Dispatcher(database, [])
        await history.go_on(150)
        await dispatcher.dispatch()
        await history.go_on(50)  # which have no position yet
        for one in history.lived:  # the reasons of erased candidates are gone
            if one.is_erased and one.status == "rejected":
                one.reason = "erased"
        await asyncio.to_thread(migrations.upgrade, url)
        await check(history, database)
        await history.go_on(50)
        await count_all(history, dispatcher, Counter(database))
        await check(history, database)
    finally:
        await database.close()
        await connection.close()


async def test_removed_events_stay_counted(connection, database):
    await add_users(connection)
    history, dispatcher, counter = History(connection, seed=4, users=USERS), Dispatcher(database, []), Counter(database)
    await history.go_on(150)
    await count_all(history, dispatcher, counter)
    await connection.execute("DELETE FROM candidate_events WHERE at < now() - interval '30 days'")
    history.now = datetime.now(UTC)
    for one in history.lived:
        if not one.is_erased and one.status == "rejected":
            async with connection.transaction():
                await history.erase(one)  # whose decision is in no event
    await dispatcher.dispatch()
    await counter.count()
    await check(history, database)


async def test_no_text_of_a_reason_is_kept(connection, database):
    await add_users(connection)
    history = History(connection, seed=5, users=USERS)
    await history.go_on(200)
    await Dispatcher(database, []).dispatch()
    await Counter(database).count()
    rows = await connection.fetch("SELECT DISTINCT dimension, value FROM daily_statistics")
    values = {row["value"] for row in rows}
    assert "other" in values
    assert not any(PERSONAL in value or " " in value for value in values)


async def test_all_but_the_busiest_people_are_added_up(connection, database, monkeypatch):
    await add_users(connection)
    history = History(connection, seed=6, users=USERS)
    await history.go_on(200)
    period = Period(TODAY - timedelta(days=200), TODAY, Interval.DAY, Grouping.DECIDED_BY)
    everybody = {s.group: s.totals for s in (await StatisticsService(database).read(period)).series}
    monkeypatch.setattr(service, "MAX_GROUPS", 2)
    few = (await StatisticsService(database).read(period)).series
    assert [series.group for series in few][2:] == ["others"]
    assert [series.totals for series in few[:2]] == [everybody[series.group] for series in few[:2]]
    others = everybody.keys() - {series.group for series in few}
    assert few[2].totals.decided == sum(everybody[group].decided for group in others)


async def test_more_events_than_are_counted_when_reading_are_said(connection, database, monkeypatch):
    await add_users(connection)
    history = History(connection, seed=6, users=USERS)
    await history.go_on(20)
    monkeypatch.setattr(service, "MAX_UNCOUNTED", 10)
    assert not (await StatisticsService(database).read(PERIODS[0])).is_complete
    monkeypatch.setattr(service, "MAX_UNCOUNTED", 100)
    assert (await StatisticsService(database).read(PERIODS[0])).is_complete


@pytest.mark.parametrize(
    ("interval", "first", "last", "starts"),
    [
        ("day", "2024-02-28", "2024-03-01", ["2024-02-28", "2024-02-29", "2024-03-01"]),
        ("week", "2024-12-31", "2025-01-06", ["2024-12-30", "2025-01-06"]),
        ("month", "2024-12-31", "2025-02-01", ["2024-12-01", "2025-01-01", "2025-02-01"]),
    ],
)
def test_buckets_begin_with_days_iso_weeks_and_months(interval, first, last, starts):
    found = Interval(interval).starts(date.fromisoformat(first), date.fromisoformat(last))
    assert [start.isoformat() for start in found] == starts


async def test_now_is_the_same_in_statistics_and_in_the_counts_of_lists(connection, database):
    await add_users(connection)
    history = History(connection, seed=uuid4().int, users=USERS)
    await history.go_on(100)
    statistics = StatisticsService(database)
    period = Period(TODAY, TODAY, Interval.DAY, Grouping.PRODUCT)
    offers = {offer.product: offer.candidates["pending"] for offer in (await statistics.overview()).offers}
    assert {s.group: s.totals.pending for s in (await statistics.read(period)).series} == offers
