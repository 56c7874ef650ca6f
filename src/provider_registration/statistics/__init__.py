"""Statistics of candidates and decisions for the overview page."""
