"""Adds the pages for companies to the app."""

from __future__ import annotations

from pathlib import Path

from fastapi import FastAPI

from provider_registration.applicants.lost import APPLY
from provider_registration.applicants.lost import router as lost_links_router
from provider_registration.applicants.router import router
from provider_registration.candidates.links import APPLICATIONS

APPLICANTS_FOLDER = Path(__file__).parent
# Where error pages link to, by the prefix of the requested path.
APPLICANTS_HOMES = {APPLY: APPLY, APPLICATIONS: APPLY}


def install_applicants(app: FastAPI, *, offers_links: bool) -> None:
    """Add the pages for companies; `offers_links`: also the one where they ask for a lost link."""
    app.router.routes += router.routes
    if offers_links:
        app.router.routes += lost_links_router.routes
