"""Installs the console in the application."""

from __future__ import annotations

from pathlib import Path

from fastapi import FastAPI

from provider_registration.console import (
    activity,
    api_keys,
    approvals,
    bulk,
    candidate,
    candidates,
    imports,
    job,
    jobs,
    overview,
    sign_in,
    webhooks,
)
from provider_registration.console.errors import SignInNeeded
from provider_registration.console.layout import HOME

ADMIN_FOLDER = Path(__file__).parent
ADMIN_HOME = HOME


def install_admin(app: FastAPI, *, public_pages: bool) -> None:
    """Add the console's pages; without a session, browsers are redirected to sign in and other clients get 401."""
    for page in (
        sign_in,
        overview,
        candidates,
        bulk,
        candidate,
        approvals,
        imports,
        jobs,
        job,
        activity,
        webhooks,
        api_keys,
    ):
        app.router.routes += page.router.routes
    if public_pages:
        app.router.routes += candidate.status_link_router.routes
    app.add_exception_handler(SignInNeeded, sign_in.sign_in_first)
