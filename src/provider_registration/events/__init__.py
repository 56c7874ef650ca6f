"""What happened to candidates: one log, written by the statements that change candidates."""
