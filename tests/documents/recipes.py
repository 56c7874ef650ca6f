"""Three recipes of README.md as changes that a program can make: a filter, a field, and a second billing system."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from provider_registration.db.revisions import REVISIONS

PACKAGE = "src/provider_registration"


@dataclass(frozen=True)
class Change:
    """Text added to a file: before or after the only line that starts with a text, or instead of a pattern's match.

    Without any of these, the file is new.
    """

    file: str
    text: str
    before: str = ""
    after: str = ""
    instead: str = ""

    def make(self, root: Path) -> None:
        """Apply it to a copy of the project."""
        path = root / self.file
        if not (self.before or self.after or self.instead):
            with path.open("x") as file:
                file.write(self.text)
            return
        content = path.read_text()
        if self.instead:
            changed, times = re.subn(self.instead, self.text, content)
            assert times == 1, f"{self.file} has {self.instead!r} {times} times"
            path.write_text(changed)
            return
        lines = content.splitlines(keepends=True)
        found = [number for number, line in enumerate(lines) if line.startswith(self.before or self.after)]
        assert len(found) == 1, f"{len(found)} lines of {self.file} begin with {self.before or self.after!r}"
        lines.insert(found[0] + bool(self.after), self.text)
        path.write_text("".join(lines))


# Candidates at a location, as it was registered.
FILTER = (
    Change(
        f"{PACKAGE}/candidates/selection.py",
        "    location: str | None = None\n",
        after="    order: Order = Order.OLDEST",
    ),
    Change(
        f"{PACKAGE}/candidates/selection.py",
        '    "location": "location = :location",\n',
        after="FILTERS = {",
    ),
    Change(
        f"{PACKAGE}/candidates/schemas.py",
        '    location: Words | None = Field(None, description="Only candidates at this location")\n',
        before="    product: Product | None = Field(",
    ),
    Change(
        f"{PACKAGE}/console/list_query.py",
        "    location: Annotated[Annotated[str, Text(MAX_WORDS_LENGTH)] | None, EmptyIsAbsent] = None\n",
        before="    order: Annotated[Order | None, SavedOrder, EmptyIsAbsent] = None",
    ),
    Change(
        f"{PACKAGE}/console/list_query.py",
        "            location=self.location,\n",
        after="            order=self.shown_order,",
    ),
    Change(
        f"{PACKAGE}/console/templates/console/candidates.html",
        '    <div>\n      <label for="location">Location</label>\n'
        '      <input id="location" name="location" value="{{ query.location or \'\' }}">\n'
        "    </div>\n",
        before='    <button type="submit" class="button-plain">',
    ),
    Change("API.md", "\nWith `location`, only those at this location.\n", after="### GET /candidates\n"),
)

# How many depots a company has. `make messages` writes the catalogue before it is translated: TRANSLATIONS.
FIELD = (
    Change(
        f"{PACKAGE}/candidates/company.py",
        "    depot_count: PositiveInteger | None = None\n",
        after="    location: Annotated[Location | None, BlankIsAbsent] = None",
    ),
    Change(f"{PACKAGE}/candidates/company.py", '    "depot_count": "Depots",\n', after='    "location": "Location",'),
    Change(f"{PACKAGE}/candidates/company.py", '    "depot_count": 3,\n', after='    "location": "Valencia, Spain",'),
    Change(f"{PACKAGE}/db/orm.py", "    depot_count: Mapped[int | None]\n", after="    language: Mapped[str | None]"),
    Change(
        "alembic/versions/999_depots.py",
        """\
from alembic import op

revision, down_revision = "999_depots", "{head}"


def upgrade() -> None:
    op.execute("ALTER TABLE candidates ADD COLUMN depot_count integer")
""".replace("{head}", REVISIONS[-1]),
    ),
    Change(f"{PACKAGE}/db/revisions.py", '    "999_depots",\n', after=f'    "{REVISIONS[-1]}",'),
    Change(
        f"{PACKAGE}/applicants/questions.py",
        """\
    "depot_count": Question(
        "company",
        mark("Number of depots"),
        {
            "int_type": mark("Enter the number of depots in digits, for example 3"),
            "greater_than_equal": mark("Number of depots must be %(ge)s or more"),
            "less_than_equal": mark("Number of depots must be %(le)s or less"),
        },
        attributes=NUMBER,
    ),
""",
        before='    "contact_email": Question(',
    ),
    Change(
        "API.md", "| `depot_count` | whole number from 1 to 2,147,483,647, or null |\n", after="| `location` | at most"
    ),
)
TRANSLATIONS = {
    "Number of depots": "Número de almacenes",
    "Enter the number of depots in digits, for example 3": "Escriba el número de almacenes en cifras, por ejemplo 3",
    "Number of depots must be %(ge)s or more": "El número de almacenes debe ser %(ge)s o más",
    "Number of depots must be %(le)s or less": "El número de almacenes debe ser %(le)s o menos",
}

# It takes `PUT /accounts/{key}` and returns the account's number.
SECOND_BILLING_SYSTEM = (
    Change(
        f"{PACKAGE}/billing/ledger_system.py",
        '''"""A billing system that keeps accounts: `PUT /accounts/{key}`."""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID

import httpx
from pydantic import BaseModel, ConfigDict, ValidationError

from provider_registration.billing.errors import BillingNotSent, BillingRefused, BillingUncertain, BillingUnusable

MAX_RESPONSE_BYTES = 64 * 1024
NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
RETRYABLE_STATUSES = frozenset({408, 425, 429})  # 4xx that say nothing about the request itself


class Account(BaseModel):
    """The account in the ledger's response."""

    model_config = ConfigDict(strict=True)

    number: int


class LedgerBillingSystem:
    """An account is a provider, and its number the provider's id. A BillingSystem."""

    def __init__(self, base_url: str, *, connect_timeout: float, timeout: float) -> None:
        """Times are seconds of one request."""
        times = httpx.Timeout(timeout, connect=connect_timeout)
        headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
        self._client = httpx.AsyncClient(base_url=base_url, timeout=times, headers=headers, trust_env=False)

    async def aclose(self) -> None:
        """Close every connection that is not in use."""
        await self._client.aclose()

    async def create_provider(self, name: str, idempotency_key: UUID, *, responding: Callable[[], None]) -> int:
        """As the port says: 200 has the account's number, a 4xx refuses."""
        request = self._client.build_request("PUT", f"/accounts/{idempotency_key}", json={"title": name})
        try:
            response = await self._client.send(request, stream=True)
            try:
                responding()
                body = await _read(response)
            finally:
                await response.aclose()
        except NOT_SENT as error:
            raise BillingNotSent(f"the ledger cannot be reached ({type(error).__name__})") from None
        except httpx.HTTPError as error:
            raise BillingUncertain(f"the ledger did not respond ({type(error).__name__})") from None
        status = response.status_code
        if response.is_client_error:
            is_retryable = status in RETRYABLE_STATUSES
            raise BillingRefused(f"the ledger refused the request with status {status}", is_retryable=is_retryable)
        if not response.is_success:
            raise BillingUncertain(f"the ledger returned status {status}")
        try:
            return Account.model_validate_json(body).number
        except ValidationError:
            raise BillingUnusable("the ledger returned no usable account") from None


async def _read(response: httpx.Response) -> bytes:
    """The body, empty if it is too long. It is never decoded: 5 KB can become 3 GB."""
    body = b""
    async for chunk in response.aiter_raw():
        body += chunk
        if len(body) > MAX_RESPONSE_BYTES:
            return b""
    return body
''',
    ),
    Change(
        f"{PACKAGE}/billing/systems.py",
        "from provider_registration.billing.ledger_system import LedgerBillingSystem\n",
        before="from provider_registration.billing.port import",
    ),
    Change(
        f"{PACKAGE}/billing/systems.py",
        '    if settings.billing_system == "ledger":\n'
        "        return LedgerBillingSystem(\n"
        "            settings.billing_service_url,\n"
        "            connect_timeout=settings.billing_connect_timeout_seconds,\n"
        "            timeout=settings.billing_timeout_seconds,\n"
        "        )\n",
        before="    return HttpBillingSystem(",
    ),
    Change(
        f"{PACKAGE}/settings.py",
        '    billing_system: Literal["http", "ledger"] = Field("http", description="which billing system it is")\n',
        before="    billing_connect_timeout_seconds: float",
    ),
    Change(
        ".env.example",
        "\n# Which billing system it is: http or ledger\n#BILLING_SYSTEM=http\n",
        after="#BILLING_CONNECT_TIMEOUT_SECONDS=",
    ),
    Change(
        "docker-compose.yml",
        "      BILLING_SYSTEM: ${BILLING_SYSTEM:-}\n",
        before="      BILLING_CONNECT_TIMEOUT_SECONDS:",
    ),
    Change(
        "DEPLOYMENT.md",
        "| `BILLING_SYSTEM` | `http` | Which billing system it is: `http` or `ledger`. |\n",
        before="| `BILLING_CONNECT_TIMEOUT_SECONDS` |",
    ),
    Change("pyproject.toml", '"client | http_system | ledger_system"', instead=r'"client \| http_system"'),
    Change(
        "pyproject.toml",
        r'["provider_registration.billing.http_system", "provider_registration.billing.ledger_system"]',
        instead=r'\["provider_registration\.billing\.http_system"\]',
    ),
)
