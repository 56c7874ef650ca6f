"""Messages to others about events: who is due, what came of each try, and the list of them."""
