"""Putting the console into the application."""

from __future__ import annotations

from pathlib import Path

from fastapi import FastAPI

from provider_registration.console import approvals, bulk, candidate, candidates, overview, sign_in
from provider_registration.console.errors import SignInNeeded
from provider_registration.console.layout import HOME

ADMIN_ROOM = Path(__file__).parent
ADMIN_HOME = HOME


def install_admin(app: FastAPI, *, public_pages: bool) -> None:
    """Add the console's pages; who is not signed in is led to the page for that, programs are told so."""
    for page in (sign_in, overview, candidates, bulk, candidate, approvals):
        app.include_router(page.router)
    if public_pages:
        app.include_router(candidate.status_link_router)
    app.add_exception_handler(SignInNeeded, sign_in.sign_in_first)
