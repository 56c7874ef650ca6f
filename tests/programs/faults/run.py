"""Prove that approval creates exactly one provider: `python -m tests.programs.faults.run --help`."""

from __future__ import annotations

from tests.programs.faults.suite import main

if __name__ == "__main__":
    main()
