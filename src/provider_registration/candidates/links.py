"""Where callers find things of candidates, the gateway's prefix included."""

from __future__ import annotations

from uuid import UUID

from fastapi import Request

CANDIDATES = "/candidates"
APPLICATIONS = "/applications"


def candidate_url(request: Request, candidate_id: UUID) -> str:
    """Path of a candidate's record."""
    return f"{request.scope.get('root_path', '')}{CANDIDATES}/{candidate_id}"


def status_url(request: Request, status_secret: str) -> str:
    """Path of the page that shows a company where its application stands."""
    return f"{request.scope.get('root_path', '')}{APPLICATIONS}/{status_secret}"
