"""What is wrong with an application, in an applicant's words. The rules and their limits are the schema's."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic_core import ErrorDetails

OF_A_NEW_RULE = "Check what you typed here"
NAMELESS = "Enter a name with letters or numbers in it"
UNUSABLE = "Remove line breaks and other characters that cannot be printed"

# By field, then by pydantic's type of error; {…} is a limit that the rule has.
SENTENCES: Mapping[str, Mapping[str, str]] = {
    "company_name": {
        "missing": "Enter the name of your company",
        "too_long": "The name of the company can have {max_length} characters at most",
        "too_short": NAMELESS,
        "invisible": NAMELESS,
        "control_character": UNUSABLE,
    },
    "location": {
        "too_long": "The place can have {max_length} characters at most",
        "control_character": UNUSABLE,
    },
    "contact_email": {
        "missing": "Enter an e-mail address",
        "string_too_long": "The e-mail address can have {max_length} characters at most",
        "email_address": "Enter an e-mail address like name@company.com",
        "control_character": UNUSABLE,
    },
    "phone": {
        "too_long": "The telephone number can have {max_length} characters at most",
        "control_character": UNUSABLE,
        "no_digits": "Enter a telephone number like +34 963 555 017",
    },
    "products": {
        "missing": "Choose at least one product",
        "too_long": "Choose from the products in the list, each once",
        "repeated_items": "Choose from the products in the list, each once",
        "enum": "Choose from the products in the list, each once",
    },
    "truck_count": {
        "missing": "Enter how many trucks you have",
        "int_type": "Enter the number of trucks in digits, like 12",
        "greater_than_equal": "The number of trucks must be {ge} or more",
        "less_than_equal": "The number of trucks must be {le:,} or less",
    },
    "capacity_tons_per_day": {
        "missing": "Enter how many tons you can deliver a day",
        "int_type": "Enter the tons a day as a whole number in digits, like 80",
        "greater_than_equal": "The tons a day must be {ge} or more",
        "less_than_equal": "The tons a day must be {le:,} or less",
    },
}


def sentence(fault: ErrorDetails) -> str:
    """What to tell the applicant about a fault of one field."""
    words = SENTENCES[str(fault["loc"][0])].get(fault["type"], OF_A_NEW_RULE)
    return words.format_map(fault.get("ctx", {}))
