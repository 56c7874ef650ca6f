"""Makes a registration of a row: which cell is which field, and how people write it in a spreadsheet."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from provider_registration.candidates.company import NUMBERS, Product
from provider_registration.candidates.schemas import CandidateRegistration
from provider_registration.web.csv_files import without_apostrophes
from provider_registration.web.problems import field_errors
from provider_registration.web.text import whole_number

FIELDS = tuple(CandidateRegistration.model_fields)
# In Spanish, and what stands for several products. English names may also be singular.
PRODUCTS = {
    **{name: product for product in Product for name in (str(product), str(product).removesuffix("s"))},
    **dict.fromkeys(("mango", "mangos"), Product.MANGOES),
    **dict.fromkeys(("manzana", "manzanas"), Product.APPLES),
    **dict.fromkeys(("naranja", "naranjas"), Product.ORANGES),
    **dict.fromkeys(("uva", "uvas"), Product.GRAPES),
    **dict.fromkeys(("platano", "platanos", "banano", "bananos"), Product.BANANAS),
}
AND = frozenset(("and", "y", "e", "&"))
BETWEEN_PRODUCTS = re.compile(r"[\s,;/|+·•]+")
MAX_PRODUCTS_LENGTH = 500  # characters

Error = dict[str, Any]
TAKEN = "This e-mail address is already registered"


class RowMapper:
    """Makes registrations of the rows of a file."""

    def __init__(self, columns: Sequence[str], mapping: Mapping[str, str]) -> None:
        self._columns = columns
        self._cells = [(field, columns.index(mapping[field])) for field in FIELDS if field in mapping]
        self._mapping = mapping

    def registration_of(self, cells: Sequence[str]) -> CandidateRegistration | list[Error]:
        """The registration of a row, or what is wrong with it."""
        if len(cells) > len(self._columns):
            detail = "The row has more cells than there are headings"
            return [{"field": None, "column": None, "code": "too-many-cells", "detail": detail}]
        values = {
            field: value_of(field, without_apostrophes(cells[index]))
            for field, index in self._cells
            if index < len(cells) and cells[index]
        }
        try:
            return CandidateRegistration.model_validate(values)
        except ValidationError as error:
            return self._errors_of(error)

    def taken(self) -> list[Error]:
        """What is wrong with a row whose e-mail address is already registered."""
        return [self._error("contact_email", "email-taken", TAKEN)]

    def _errors_of(self, error: ValidationError) -> list[Error]:
        found: dict[str | None, Error] = {}  # the first of each field
        details = error.errors(include_url=False, include_input=False)
        for detail, shown in zip(details, field_errors(details, location="body"), strict=False):
            field = shown.field.partition(".")[0] if shown.field else None
            code = "missing" if detail["type"] == "missing" else "invalid"
            found.setdefault(field, self._error(field, code, shown.detail))
        return list(found.values())

    def _error(self, field: str | None, code: str, detail: str) -> Error:
        return {"field": field, "column": self._mapping.get(field or ""), "code": code, "detail": detail}


def value_of(field: str, cell: str) -> object:
    """The value of a cell, as the API would get it; what it cannot be is left for validation to refuse."""
    if field == "products":
        return products_of(cell)
    return whole_number(cell) if field in NUMBERS else cell


def products_of(cell: str) -> list[str]:
    """The products in a cell, separated in any usual way, in English or Spanish; repetitions are left out."""
    if len(cell) > MAX_PRODUCTS_LENGTH:
        return [cell]
    found = []
    for word in BETWEEN_PRODUCTS.split(cell):
        plain = _plain(word)
        if plain and plain not in AND:
            found.append(str(PRODUCTS.get(plain, word)))
    return list(dict.fromkeys(found))


def _plain(word: str) -> str:
    if word.isascii():
        return word.lower()
    decomposed = unicodedata.normalize("NFKD", word).casefold()
    return "".join(character for character in decomposed if not unicodedata.combining(character))
