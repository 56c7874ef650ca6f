"""What happened to candidates: one log, which the statements that change a candidate write."""
