"""The console: pages on which staff review candidates. It calls the same services as the API."""
