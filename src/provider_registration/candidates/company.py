"""The facts about a company, each with its validation rule.

Registrations, candidates and applications have these fields; statements, exports and forms refer to FACTS.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

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
    capacity_tons_per_day: PositiveInteger
    location: Annotated[Location | None, BlankIsAbsent] = None


FACTS = tuple(Company.model_fields)
