"""Where callers find things of candidates, the gateway's prefix included."""

from __future__ import annotations

from uuid import UUID

from fastapi import Request

from provider_registration.web.paths import public_url

CANDIDATES = "/candidates"
APPLICATIONS = "/applications"


def candidate_url(request: Request, candidate_id: UUID) -> str:
    """Path of a candidate's record."""
    return f"{request.scope.get('root_path', '')}{CANDIDATES}/{candidate_id}"


def absolute_url(request: Request, path: str) -> str:
    """The address that leads people to a path: at PUBLIC_URL, else as the request says."""
    return f"{public_url(request) or f'{request.url.scheme}://{request.url.netloc}'}{path}"


def status_links(request: Request, status_secret: str) -> dict[str, str]:
    """What the API says of the page of an application: its path and, where PUBLIC_URL is set, its address."""
    path = status_url(request, status_secret)
    return {"status_url": path} | ({"status_page_url": public_url(request) + path} if public_url(request) else {})


def status_url(request: Request, status_secret: str) -> str:
    """Path of the page that shows a company where its application stands."""
    return f"{request.scope.get('root_path', '')}{APPLICATIONS}/{status_secret}"
