"""`make sbom` lists what requirements/runtime.txt pins. Unlike the command, the tests use no package index."""

from __future__ import annotations

import json
from importlib.metadata import version

import pytest

from tests.sbom import check, pins

from .deployed import ROOT


def bill(packages):
    return json.dumps({"components": [{"name": name, "version": number} for name, number, _ in packages]})


def test_every_pinned_package_is_read():
    lines = [line for line in (ROOT / "requirements/runtime.txt").read_text().splitlines() if "==" in line]

    assert len(pins()) == len(lines)
    assert ("fastapi", version("fastapi"), "") in pins()
    assert any(marker.startswith(" ; ") for _, _, marker in pins())
    check(bill(pins()))


@pytest.mark.parametrize("wrong", [pins()[1:], [*pins(), ("left-pad", "1.0", "")], [("fastapi", "0", ""), *pins()]])
def test_a_bill_with_other_packages_is_refused(wrong):
    with pytest.raises(RuntimeError, match="not in one of"):
        check(bill(wrong))
