"""What the service holds about one person: shown and erased when they ask for it."""
