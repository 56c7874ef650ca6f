"""The check of the locks finds what would break an installation, today or after newer releases."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.installation.locks import (
    CONTENTS,
    ROOT,
    Lock,
    disagreements,
    failures_of_installing,
    missing,
    read,
    roots,
    unpinned,
)


@pytest.fixture
def lock() -> Lock:
    """What `make run` installs."""
    return read(ROOT / "requirements" / "local.txt")


def test_a_package_that_another_one_needs_may_not_be_missing(lock: Lock) -> None:
    wanted = roots(*CONTENTS["local.txt"])
    assert not list(missing(lock, wanted))
    del lock["mako"]  # alembic needs it; pyproject.toml does not name it
    assert {problem.split()[0] for problem in missing(lock, wanted)} == {"Mako"}


def test_an_extra_of_a_package_counts(lock: Lock) -> None:
    del lock["greenlet"]  # sqlalchemy needs it only as sqlalchemy[asyncio]
    assert list(missing(lock, roots(*CONTENTS["local.txt"])))


def test_two_locks_may_not_have_two_versions_of_a_package(lock: Lock) -> None:
    other = dict(lock)
    assert not list(disagreements({"one": lock, "other": other}))
    other["httpx"] = [replace(lock["httpx"][0], hashes=frozenset({"sha256:0"}))]
    assert list(disagreements({"one": lock, "other": other})) == ["httpx differs between one and other"]


@pytest.mark.asvs("V15.1.2")
def test_every_line_has_a_version_and_hashes(lock: Lock) -> None:
    for name in CONTENTS:
        assert not list(unpinned(read(ROOT / "requirements" / name)))
    lock["httpx"] = [replace(lock["httpx"][0], hashes=frozenset())]
    assert len(list(unpinned(lock))) == 1


def test_an_installation_that_lacks_a_package_is_seen(lock: Lock) -> None:
    few = {name: lock[name] for name in ("httpx", "certifi", "idna", "anyio", "sniffio", "typing-extensions")}
    problems = list(failures_of_installing(few))
    assert len(problems) == 1
    assert "httpcore" in problems[0]
