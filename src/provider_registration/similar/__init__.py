"""Companies that may be the same one, registered twice."""
