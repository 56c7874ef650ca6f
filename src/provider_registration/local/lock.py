"""A lock for one process per folder, released by the kernel when its holder dies."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import TextIO

from provider_registration.local.errors import LocalError


class FolderLock:
    """Held from `acquire` to `release`, or until the process dies."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "lock"
        self._file: TextIO | None = None

    def acquire(self) -> None:
        """Take the lock.

        Raises:
            LocalError: another process holds it; the message has its pid.
        """
        file = self._path.open("a+", encoding="ascii")  # not "w", which would erase the holder's pid
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            pid = file.read().strip()
            file.close()
            raise LocalError(
                f"{self._path.parent} is in use by process {pid}; stop it or choose another LOCAL_DATA_DIR."
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        self._file = file

    def release(self) -> None:
        """Release the lock. The file stays: otherwise two processes could lock two files with the same name."""
        if self._file is not None:
            self._file.close()
            self._file = None
