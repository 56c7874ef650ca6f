"""An adjustable clock for one program, using libfaketime (Debian's package `faketime`)."""

from __future__ import annotations

from pathlib import Path

LIBRARY = "/usr/$LIB/faketime/libfaketime.so.1"  # $LIB: the loader's library folder
TEN_MINUTES = 600  # seconds
# libfaketime may give a signal handler the real time: if that were ahead of PostgreSQL's, statements would time out at
# once. So "right" is ten minutes ahead of the real time, and PostgreSQL is never behind the real time.
RIGHT = TEN_MINUTES
NOTICED_SECONDS = 2.5  # until the program reads the new clock


class Clock:
    """The wall clock of a program; monotonic clocks are not affected."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.set(0)

    @property
    def ahead(self) -> int:
        """The offset in seconds."""
        return self._ahead

    @property
    def environment(self) -> dict[str, str]:
        """The environment of the program."""
        return {
            "LD_PRELOAD": LIBRARY,
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_CACHE_DURATION": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_FORCE_MONOTONIC_FIX": "0",  # it makes Python's threads wait for each other
        }

    def set(self, seconds: int) -> None:
        """Set the offset."""
        self._ahead = seconds
        new = self._file.with_suffix(".new")
        new.write_text(f"{RIGHT + seconds:+d}s\n")
        new.chmod(0o644)
        new.replace(self._file)  # never half-written
