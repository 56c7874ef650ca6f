"""The console: pages at which staff look at candidates and decide. It calls the services that the API calls."""
