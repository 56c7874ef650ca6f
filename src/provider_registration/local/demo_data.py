"""Believable candidates in any number, for demonstrations and for measuring."""

from __future__ import annotations

import random
import re
import unicodedata
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any, TypeVar
from uuid import UUID

import asyncpg
from faker import Faker
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from provider_registration.candidates.company import Product
from provider_registration.candidates.models import Status
from provider_registration.candidates.search_text import search_text
from provider_registration.db.database import CONNECT_TIMEOUT
from provider_registration.local.demo_names import COUNTRIES, REJECTION_REASONS, Country
from provider_registration.local.errors import LocalError
from provider_registration.web.text import canonical_email

BATCH = 5_000  # rows a transaction
SURNAMES = 200  # drawn from Faker for each country; it takes some 40 µs a name, too long to ask it for every row
FIRST_PROVIDER_ID = 1_000_000_000  # far from the ids that the billing sandbox gives
LAST_PROVIDER_ID = 2**31 - 1  # PostgreSQL's integer
LAST_NUMBER = 999_999_999  # of an address
ADVISORY_LOCK = 7_205_004  # any number nobody else uses; two loads at once would number their rows alike

# To be picked from: what is there twice comes twice as often.
STATUSES = (*(Status.PENDING.value,) * 6, *(Status.APPROVED.value,) * 3, Status.REJECTED.value)
PRODUCT_COUNTS = (*(1,) * 8, *(2,) * 6, *(3,) * 3, *(4,) * 2, 5)
# RFC 2606 and RFC 6761: nobody ever gets mail there.
TOP_DOMAINS = (*("example",) * 17, "example.com", "example.org", "example.net")
SHARE_WITHOUT_PHONE, SHARE_WITHOUT_LOCATION = 0.10, 0.08

_T = TypeVar("_T")

COLUMNS = (
    *("id", "status", "company_name", "contact_email", "phone", "products", "truck_count", "capacity_tons_per_day"),
    *("location", "created_at", "updated_at", "provider_id", "version", "rejection_reason", "search_text"),
    "contact_email_canonical",
)

# Let one load at a time number its rows; the lock goes with the connection.
TRY_LOCK = "SELECT pg_try_advisory_lock($1)"

# The last number in an address that an earlier load made, as in info@huerta-valencia-17.example.
LAST_USED_NUMBER = """
    SELECT coalesce(max(substring(contact_email FROM '-([0-9]{1,9})[.]example(?:[.](?:com|net|org))?$')::integer), 0)
    FROM candidates
"""

# The last provider id that an earlier load gave.
LAST_USED_PROVIDER_ID = "SELECT coalesce(max(provider_id), 0) FROM candidates WHERE provider_id >= $1"

# Let the planner know what is there now.
ANALYZE_CANDIDATES = "ANALYZE candidates"

# What letters that have no accent to take off become in a domain; U+0131 is the dotless i.
LATIN = str.maketrans({"ł": "l", "ß": "ss", "\u0131": "i", "đ": "d", "ø": "o", "'": ""})


async def load_demo_data(database_url: str, count: int, *, seed: int | None, progress: Callable[[int], None]) -> None:
    """Add `count` candidates; `progress` gets the number of rows after each committed batch.

    With a seed, two databases with the same earlier loads get the same companies. Interrupted, it leaves whole batches.

    Raises:
        LocalError: the database cannot be reached, lacks its tables, or another load runs.
    """
    async with _connection(database_url) as connection:
        try:
            if not await connection.fetchval(TRY_LOCK, ADVISORY_LOCK):
                raise LocalError("Demo data is being loaded already; wait until that is done.")
            last_number = await connection.fetchval(LAST_USED_NUMBER)
            last_provider_id = await connection.fetchval(LAST_USED_PROVIDER_ID, FIRST_PROVIDER_ID)
            first_provider_id = max(last_provider_id + 1, FIRST_PROVIDER_ID)
            if last_number + count > LAST_NUMBER or first_provider_id + count > LAST_PROVIDER_ID:
                raise LocalError("There is no room for so many demo companies; use an empty database.")
            rows = demo_rows(
                count,
                # The second load must not repeat the first one's ids.
                random.Random(None if seed is None else f"{seed} after {last_number}"),  # noqa: S311 - no secret
                first_number=last_number + 1,
                first_provider_id=first_provider_id,
                now=datetime.now(UTC),
            )
            for done in range(0, count, BATCH):
                size = min(BATCH, count - done)
                async with connection.transaction():
                    # Rows are made while PostgreSQL stores those before them.
                    await connection.copy_records_to_table("candidates", records=islice(rows, size), columns=COLUMNS)
                progress(size)
            await connection.execute(ANALYZE_CANDIDATES)
        except (asyncpg.UndefinedTableError, asyncpg.UndefinedColumnError) as error:
            raise LocalError(f"The database is not up to date ({error}); run migrate first.") from error
        except asyncpg.UniqueViolationError as error:
            raise LocalError(f"Somebody took what the next rows need ({error}); run it again.") from error
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            raise LocalError(f"The database refused the rows: {error}") from error


@asynccontextmanager
async def _connection(database_url: str) -> AsyncIterator[Any]:
    """asyncpg's own connection, for COPY; opened by SQLAlchemy, which knows what our URLs may say."""
    engine = create_async_engine(
        database_url,
        poolclass=NullPool,
        connect_args={"timeout": CONNECT_TIMEOUT, "server_settings": {"application_name": "demo-data"}},
    )
    try:
        connection = await engine.connect()
    except (OSError, TimeoutError, asyncpg.PostgresError, SQLAlchemyError) as error:
        reason = error.orig.__cause__ if isinstance(error, DBAPIError) and error.orig else error
        raise LocalError(f"The database cannot be reached: {reason}") from error
    try:
        yield (await connection.get_raw_connection()).driver_connection
    finally:
        await connection.close()


def demo_rows(
    count: int, rng: random.Random, *, first_number: int, first_provider_id: int, now: datetime
) -> Iterator[tuple[object, ...]]:
    """Rows of `candidates`, in the order of COLUMNS; addresses are numbered from `first_number`.

    There must be room for `count` numbers and provider ids.
    """
    sources = [_Source.of(country) for country in COUNTRIES]
    names: Counter[str] = Counter()
    provider_id = first_provider_id
    for number in range(first_number, first_number + count):
        source = _pick(sources, rng)
        place, latin_place = _pick(source.places, rng)
        form, surname = _pick(source.country.company_names, rng), _pick(source.surnames, rng)
        company_name = form.format(surname=surname, place=place)
        if names[company_name] and place not in company_name:
            company_name = f"{company_name} ({place})"
        names[company_name] += 1
        if names[company_name] > 1:  # billing wants names that differ
            company_name = f"{company_name} {names[company_name]}"
        status = _pick(STATUSES, rng)
        created_at = now - timedelta(minutes=1, seconds=rng.random() * 364 * 86_400)
        trucks = 1 + int(rng.lognormvariate(2.0, 1.0))
        address = _address(source.country, latin_place, number, rng)
        phone = None if rng.random() < SHARE_WITHOUT_PHONE else _phone(source, rng)
        location = None if rng.random() < SHARE_WITHOUT_LOCATION else f"{place}, {source.country.name}"
        yield (
            UUID(int=rng.getrandbits(128), version=4),
            status,
            unicodedata.normalize("NFC", company_name),
            address,
            phone,
            _products(source, rng),
            trucks,
            trucks * rng.randint(4, 24),
            location,
            created_at,
            created_at if status == Status.PENDING else _decided_at(created_at, now, rng),
            provider_id if status == Status.APPROVED else None,
            1 if status == Status.PENDING else 2,
            _pick(REJECTION_REASONS, rng) if status == Status.REJECTED else None,
            search_text(company_name, address, phone, location),
            canonical_email(address),
        )
        provider_id += status == Status.APPROVED


@dataclass(frozen=True, slots=True)
class _Source:
    """A country made ready for picking."""

    country: Country
    phone: str  # with {} for every digit
    products: tuple[str, ...]  # all of them, the country's own first
    surnames: tuple[str, ...]
    places: tuple[tuple[str, str], ...]  # with its spelling in a domain

    @classmethod
    def of(cls, country: Country) -> _Source:
        faker = Faker(country.locale)
        faker.seed_instance(0)  # the names to choose from are always the same ones
        surnames = dict.fromkeys(faker.last_name() for _ in range(SURNAMES))  # a set would not keep the order
        places = (place.partition("|") for place in country.places)
        return cls(
            country,
            country.phone.replace("#", "{}"),
            tuple(dict.fromkeys((*country.grows, *(product.value for product in Product)))),
            tuple(surnames),
            tuple((unicodedata.normalize("NFC", name), latin or _in_domain(name)) for name, _, latin in places),
        )


def _in_domain(name: str) -> str:
    """The letters, digits and hyphens of a host name: `São Joaquim` becomes `sao-joaquim`."""
    plain = unicodedata.normalize("NFKD", name.lower().translate(LATIN)).encode("ascii", "ignore").decode()
    return re.sub("[^a-z0-9]+", "-", plain).strip("-")


def _pick(things: Sequence[_T], rng: random.Random) -> _T:
    return things[int(rng.random() * len(things))]  # three times as fast as rng.choice


def _address(country: Country, latin_place: str, number: int, rng: random.Random) -> str:
    mailbox, word = _pick(country.mailboxes, rng), _pick(country.domain_words, rng)
    return f"{mailbox}@{word}-{latin_place}-{number}.{_pick(TOP_DOMAINS, rng)}"


def _phone(source: _Source, rng: random.Random) -> str:
    return source.phone.format(*f"{rng.getrandbits(40):012}")


def _products(source: _Source, rng: random.Random) -> list[str]:
    own = len(source.country.grows)
    first = int(rng.random() * own)
    return [*source.products[first:own], *source.products[:first], *source.products[own:]][: _pick(PRODUCT_COUNTS, rng)]


def _decided_at(created_at: datetime, now: datetime, rng: random.Random) -> datetime:
    """Some three days after the registration, in the past."""
    waited = min(timedelta(days=rng.expovariate(1 / 3)), (now - created_at) * rng.random())
    return created_at + max(waited, timedelta(seconds=1))
