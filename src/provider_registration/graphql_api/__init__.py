"""GraphQL: read-only, over the services of the API."""
