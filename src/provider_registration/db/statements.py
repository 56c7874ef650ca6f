"""SQL that is made of parts."""

from __future__ import annotations

from sqlalchemy import TextClause, text


def statement(template: str, **parts: str) -> TextClause:
    """A statement with parts that others have as well, in place of their names in braces.

    Only constants of a module become parts, as it is imported: a test sees that nothing that was sent could.
    """
    return text(template.format(**parts))
