"""The commands that use the API of a running service."""
