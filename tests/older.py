"""The sources of an older release from the repository's history."""

from __future__ import annotations

import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[1]
GIT = ("git", "-C", str(ROOT))


class NoHistory(Exception):
    """Only a part of the repository's history is available."""

    def __init__(self) -> None:
        super().__init__("The history with the older release is not here: this needs a full clone.")


def sources_before(step: str, folder: Path) -> None:
    """Copy `src`, as it was before a migration was added, to a new folder; `step` is the migration's path.

    Raises:
        NoHistory: git has no such commit.
    """
    added = _git("log", "--diff-filter=A", "--format=%H", "--", step).decode().split()
    if not added:
        raise NoHistory
    archive = _git("archive", f"{added[-1]}^", "src")
    folder.mkdir()
    subprocess.run(["tar", "-x", "-C", folder], input=archive, check=True)  # noqa: S607 - any tar will do


def _git(*words: str) -> bytes:
    try:
        return subprocess.run([*GIT, *words], capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        raise NoHistory from error
