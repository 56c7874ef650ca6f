"""Who did what: both logs, of candidates and of staff, read as one; and the removal of old events."""
