"""SQL statements composed of parts."""

from __future__ import annotations

from sqlalchemy import TextClause, text

ERASED_DOMAIN = "@erased.invalid"  # of the placeholders for e-mail addresses that were erased
# The placeholder for the row with this ID; OF_CANDIDATE in a join.
ERASED_EMAIL = f"'erased-' || id || '{ERASED_DOMAIN}'"
ERASED_EMAIL_OF_CANDIDATE = f"'erased-' || candidates.id || '{ERASED_DOMAIN}'"


def statement(template: str, **parts: str) -> TextClause:
    """A statement whose names in braces are replaced by shared parts.

    Parts are module constants, inserted at import time; a test checks that request data cannot become one.
    """
    return text(template.format(**parts))
