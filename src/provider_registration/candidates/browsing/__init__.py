"""Looking through candidates as people do: in either direction, by words, in large numbers, and in sums."""
