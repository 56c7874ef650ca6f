"""The facts about a company, each with its validation rule.

Registrations, candidates and applications have these fields; statements, responses, exports and pages refer to FACTS.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, get_type_hints

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError

from provider_registration.web.text import EmailAddress, Text, blank_is_absent, has_digit, visible

MAX_INTEGER = 2**31 - 1  # PostgreSQL's integer


class Product(StrEnum):
    """The products that suppliers deliver."""

    APPLES = "apples"
    ORANGES = "oranges"
    GRAPES = "grapes"
    BANANAS = "bananas"
    MANGOES = "mangoes"


def _no_repeats(products: list[Product]) -> list[Product]:
    if len(set(products)) < len(products):
        raise PydanticCustomError("repeated_items", "Input should list each product once")
    return products


Products = Annotated[
    list[Product],
    Field(min_length=1, max_length=len(Product), json_schema_extra={"uniqueItems": True}),
    AfterValidator(_no_repeats),
]
PositiveInteger = Annotated[int, Field(ge=1, le=MAX_INTEGER, strict=True)]
CompanyName = Annotated[str, Text(255, min_length=1), AfterValidator(visible)]
Phone = Annotated[str, Text(50), AfterValidator(has_digit)]
Location = Annotated[str, Text(255)]
BlankIsAbsent = AfterValidator(blank_is_absent)


class Company(BaseModel):
    """The facts about a company."""

    model_config = ConfigDict(frozen=True)

    company_name: CompanyName
    contact_email: EmailAddress = Field(description="Unique, case-insensitive; Unicode domains match their A-labels")
    phone: Annotated[Phone | None, BlankIsAbsent] = None
    products: Products
    truck_count: PositiveInteger
    capacity_tons_per_day: PositiveInteger = Field(description="Tonnes (1,000 kg) per day")
    location: Annotated[Location | None, BlankIsAbsent] = None


# What the console calls them, in its order.
LABELS = {
    "company_name": "Company",
    "contact_email": "E-mail",
    "phone": "Phone",
    "location": "Location",
    "products": "Products",
    "truck_count": "Trucks",
    "capacity_tons_per_day": "Capacity",
}
EXAMPLE: dict[str, Any] = {
    "company_name": "Huerta del Sol S.L.",
    "contact_email": "ventas@huertadelsol.example",
    "phone": "+34 963 555 017",
    "products": ["oranges", "grapes"],
    "truck_count": 12,
    "capacity_tons_per_day": 80,
    "location": "Valencia, Spain",
}
FACTS = tuple(Company.model_fields)
REQUIRED = tuple(fact for fact, field in Company.model_fields.items() if field.is_required())
# Their types without the rules, which may have changed since a company was stored.
TYPES: dict[str, Any] = {fact: get_type_hints(Company)[fact] for fact in FACTS}
NUMBERS = tuple(fact for fact, kind in TYPES.items() if kind in (int, int | None))
