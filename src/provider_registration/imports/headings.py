"""Which column of a file has which fact, guessed from its heading in English or Spanish."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

MAX_HEADING_LENGTH = 100

# In lower case, without accents, and with one space for everything that is no letter or digit.
HEADINGS = {
    "company_name": (
        *("company", "company name", "name", "business", "business name", "supplier", "supplier name", "provider"),
        *("legal name", "empresa", "nombre", "nombre de la empresa", "nombre empresa", "razon social", "proveedor"),
        *("compania", "nombre del proveedor", "sociedad"),
    ),
    "contact_email": (
        *("contact email", "contact e mail", "email", "e mail", "mail", "email address", "e mail address"),
        *("correo", "correo electronico", "correo de contacto", "direccion de correo", "email de contacto"),
    ),
    "phone": (
        *("phone", "phone number", "telephone", "telephone number", "tel", "mobile", "contact phone"),
        *("telefono", "numero de telefono", "telefono de contacto", "movil", "tfno", "celular"),
    ),
    "products": (
        *("products", "product", "goods", "fruit", "fruits"),
        *("productos", "producto", "fruta", "frutas"),
    ),
    "truck_count": (
        *("truck count", "trucks", "number of trucks", "truck", "lorries", "vehicles", "fleet"),
        *("camiones", "numero de camiones", "n camiones", "no de camiones", "vehiculos", "flota"),
    ),
    "capacity_tons_per_day": (
        *("capacity tons per day", "capacity", "tonnes per day", "tons per day", "capacity t day", "t day"),
        *("daily capacity", "capacity tonnes per day", "capacidad", "toneladas por dia", "toneladas dia"),
        *("capacidad diaria", "capacidad toneladas por dia", "capacidad t dia", "toneladas diarias"),
    ),
    "location": (
        *("location", "city", "town", "address", "place", "region"),
        *("ubicacion", "localizacion", "ciudad", "direccion", "localidad", "poblacion", "lugar", "municipio"),
    ),
    "language": ("language", "lang", "idioma", "lengua"),
}
_FIELDS = {heading: field for field, headings in HEADINGS.items() for heading in headings}
_SEPARATED = re.compile(r"[^a-z0-9]+")


def field_of(heading: str) -> str | None:
    """The fact that a heading names, if it is known."""
    plain = unicodedata.normalize("NFKD", heading[:MAX_HEADING_LENGTH]).casefold()
    letters = "".join(character for character in plain if not unicodedata.combining(character))
    return _FIELDS.get(_SEPARATED.sub(" ", letters).strip())


def is_heading(text: str) -> bool:
    """Whether a text names a fact."""
    return field_of(text) is not None


def guess_mapping(columns: Sequence[str]) -> dict[str, str]:
    """The column of each fact that a heading names; of two columns with the same fact, the first."""
    found: dict[str, str] = {}
    for column in columns:
        field = field_of(column)
        if field is not None:
            found.setdefault(field, column)
    return {field: found[field] for field in HEADINGS if field in found}


def unique_headings(cells: Sequence[str]) -> list[str]:
    """The names of columns: headings without line breaks; empty and repeated ones get a number."""
    names: list[str] = []
    for number, cell in enumerate(cells, 1):
        heading = " ".join(cell.split())[:MAX_HEADING_LENGTH] or f"Column {number}"
        name, repeats = heading, 1
        while name in names:
            repeats += 1
            name = f"{heading} ({repeats})"
        names.append(name)
    return names
