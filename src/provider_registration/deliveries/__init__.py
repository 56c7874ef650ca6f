"""Messages to others about events: which are due, the outcome of each attempt, and the list of them."""
