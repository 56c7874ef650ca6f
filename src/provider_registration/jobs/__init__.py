"""Work on many items in the background, which survives the process: what is left, who works on it, the results."""
