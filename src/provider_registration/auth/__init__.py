"""Authentication and permissions of staff."""
