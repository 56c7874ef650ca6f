"""What the service holds about one person: shown and erased on request."""
