"""What a caller is told."""

from __future__ import annotations

from litestar.exceptions import HTTPException


def refused(status_code: int, detail: str) -> HTTPException:
    """An error of this status."""
    return HTTPException(status_code=status_code, detail=detail)


def not_found() -> HTTPException:
    """There is no such candidate."""
    return refused(404, "No such candidate")


def decided(status: str) -> HTTPException:
    """The candidate was decided."""
    return refused(400, f"Candidate is {status} already")


def changed() -> HTTPException:
    """The candidate was decided by someone else meanwhile."""
    return refused(409, "Changed meanwhile")


def taken() -> HTTPException:
    """The e-mail address is registered."""
    return refused(409, "This address is registered already")
