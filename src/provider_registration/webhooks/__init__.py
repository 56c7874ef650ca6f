"""Webhooks: other systems hear of events over HTTPS, by Standard Webhooks 1.0.0."""
