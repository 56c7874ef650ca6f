"""Prove that approval makes exactly one provider: `python tests/faults/run.py --help`."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.faults.suite import main

if __name__ == "__main__":
    main()
