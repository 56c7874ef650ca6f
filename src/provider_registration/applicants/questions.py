"""The questions of the application form, and its error messages. The rules and their limits are in the schema."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pydantic_core import ErrorDetails

from provider_registration.candidates.company import Product
from provider_registration.pages.translations import Language, Plural, mark

DEFAULT = mark("Check this answer")
INVISIBLE_NAME = mark("Enter a company name with letters or numbers in it")
CONTROL_CHARACTERS = mark("Remove line breaks and other control characters")
WRONG_PRODUCTS = mark("Select products from the list, each only once")

NUMBER = {"inputmode": "numeric", "class": "short"}
SECTIONS = {"company": mark("Your company"), "contact": mark("Contact"), "deliver": mark("What you deliver")}


@dataclass(frozen=True, slots=True)
class Question:
    """A question of a section of the form, with the HTML attributes of its field.

    `sentences`: the error messages by pydantic's error type; %(…)s is a limit of the rule.
    """

    section: str
    label: str
    sentences: Mapping[str, str | Plural]
    hint: str | None = None
    attributes: Mapping[str, str] = field(default_factory=dict)


# By fact, from top to bottom. The status page shows the answers with the same labels.
QUESTIONS = {
    "company_name": Question(
        "company",
        mark("Company name"),
        {
            "missing": mark("Enter your company name"),
            "too_long": Plural(
                "Company name must be %(max_length)s character or fewer",
                "Company name must be %(max_length)s characters or fewer",
            ),
            "too_short": INVISIBLE_NAME,
            "invisible": INVISIBLE_NAME,
            "control_character": CONTROL_CHARACTERS,
        },
        attributes={"autocomplete": "organization"},
    ),
    "location": Question(
        "company",
        mark("Town and country"),
        {
            "too_long": Plural(
                "Town and country must be %(max_length)s character or fewer",
                "Town and country must be %(max_length)s characters or fewer",
            ),
            "control_character": CONTROL_CHARACTERS,
        },
        mark("For example, Valencia, Spain"),
    ),
    "contact_email": Question(
        "contact",
        mark("E-mail address"),
        {
            "missing": mark("Enter an e-mail address"),
            "string_too_long": Plural(
                "E-mail address must be %(max_length)s character or fewer",
                "E-mail address must be %(max_length)s characters or fewer",
            ),
            "email_address": mark("Enter an e-mail address like name@company.com"),
            "control_character": CONTROL_CHARACTERS,
        },
        attributes={"type": "email", "autocomplete": "email", "spellcheck": "false"},
    ),
    "phone": Question(
        "contact",
        mark("Phone number"),
        {
            "too_long": Plural(
                "Phone number must be %(max_length)s character or fewer",
                "Phone number must be %(max_length)s characters or fewer",
            ),
            "control_character": CONTROL_CHARACTERS,
            "no_digits": mark("Enter a phone number like +34 963 555 017"),
        },
        mark("Include the country code, for example +34 963 555 017"),
        {"type": "tel", "autocomplete": "tel"},
    ),
    "products": Question(
        "deliver",
        mark("Products"),
        {
            "missing": mark("Select at least one product"),
            "too_long": WRONG_PRODUCTS,
            "repeated_items": WRONG_PRODUCTS,
            "enum": WRONG_PRODUCTS,
        },
        mark("Select all that you can deliver"),
    ),
    "truck_count": Question(
        "deliver",
        mark("Number of trucks"),
        {
            "missing": mark("Enter the number of trucks"),
            "int_type": mark("Enter the number of trucks in digits, for example 12"),
            "greater_than_equal": mark("Number of trucks must be %(ge)s or more"),
            "less_than_equal": mark("Number of trucks must be %(le)s or less"),
        },
        attributes=NUMBER,
    ),
    "capacity_tons_per_day": Question(
        "deliver",
        mark("Capacity (tonnes per day)"),
        {
            "missing": mark("Enter your capacity in tonnes per day"),
            "int_type": mark("Enter your capacity as a whole number in digits, for example 80"),
            "greater_than_equal": mark("Capacity in tonnes per day must be %(ge)s or more"),
            "less_than_equal": mark("Capacity in tonnes per day must be %(le)s or less"),
        },
        mark("A tonne is 1,000 kg"),
        NUMBER,
    ),
}

PRODUCTS = {
    Product.APPLES: mark("Apples"),
    Product.ORANGES: mark("Oranges"),
    Product.GRAPES: mark("Grapes"),
    Product.BANANAS: mark("Bananas"),
    Product.MANGOES: mark("Mangoes"),
}


def products_in(language: Language) -> dict[Product, str]:
    """The names of the products in a language."""
    return {product: language.say(name) for product, name in PRODUCTS.items()}


def sentence(fault: ErrorDetails, language: Language) -> str:
    """The message for a validation error of one field."""
    question = QUESTIONS.get(str(fault["loc"][0]))
    text = question.sentences.get(fault["type"], DEFAULT) if question else DEFAULT
    limits = fault.get("ctx", {})
    if isinstance(text, Plural):
        return language.count(text, limits["max_length"], **limits)
    return language.say(text, **limits)
