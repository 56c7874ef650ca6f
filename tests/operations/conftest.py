"""Live processes, as the tests of production start them."""

from __future__ import annotations

from tests.production.conftest import admin_email, environment, registration, serving_fixture

__all__ = ["admin_email", "environment", "registration", "serving_fixture"]
