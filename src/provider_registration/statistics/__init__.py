"""Statistics of candidates and decisions, by day, for the API and the overview page."""
