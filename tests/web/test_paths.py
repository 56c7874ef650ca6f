"""Which paths are below a path prefix."""

from __future__ import annotations

import pytest

from provider_registration.web.paths import is_below


@pytest.mark.parametrize(
    ("path", "expected"),
    [("/admin", True), ("/admin/", True), ("/admin/login", True), ("/administration", False), ("/", False)],
)
def test_a_prefix_ends_at_a_slash(path, expected):
    assert is_below(path, "/admin") is expected
