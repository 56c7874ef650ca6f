"""SQL statements composed of parts."""

from __future__ import annotations

from sqlalchemy import TextClause, text


def statement(template: str, **parts: str) -> TextClause:
    """A statement whose names in braces are replaced by shared parts.

    Parts are module constants, inserted at import time; a test checks that request data cannot become one.
    """
    return text(template.format(**parts))
