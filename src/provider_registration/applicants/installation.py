"""Adds the pages for companies to the app."""

from __future__ import annotations

from pathlib import Path

from fastapi import FastAPI

from provider_registration.applicants.router import APPLY, router
from provider_registration.candidates.links import APPLICATIONS

APPLICANTS_FOLDER = Path(__file__).parent
# Where error pages link to, by the prefix of the requested path.
APPLICANTS_HOMES = {APPLY: APPLY, APPLICATIONS: APPLY}


def install_applicants(app: FastAPI) -> None:
    """Add the pages for companies."""
    app.include_router(router)
