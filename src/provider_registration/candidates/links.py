"""URLs of candidates and applications, with the gateway's prefix."""

from __future__ import annotations

from uuid import UUID

from fastapi import Request

from provider_registration.web.paths import public_url

CANDIDATES = "/candidates"
APPLICATIONS = "/applications"


def candidate_url(request: Request, candidate_id: UUID) -> str:
    """The path of a candidate's record."""
    return f"{request.scope.get('root_path', '')}{CANDIDATES}/{candidate_id}"


def absolute_url(request: Request, path: str) -> str:
    """The full URL of a path: at PUBLIC_URL if set, else at the request's host."""
    return f"{public_url(request) or f'{request.url.scheme}://{request.url.netloc}'}{path}"


def status_links(request: Request, status_secret: str) -> dict[str, str]:
    """The fields with the link to a status page: its path and, if PUBLIC_URL is set, its URL."""
    path = status_url(request, status_secret)
    return {"status_url": path} | ({"status_page_url": public_url(request) + path} if public_url(request) else {})


def status_url(request: Request, status_secret: str) -> str:
    """The path of an application's status page."""
    return f"{request.scope.get('root_path', '')}{APPLICATIONS}/{status_secret}"
