"""Measures this service beside others that do the same, and beside what its server and database can do at most."""
