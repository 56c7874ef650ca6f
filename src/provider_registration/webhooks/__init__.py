"""Webhooks: sends events to other systems over HTTPS, as Standard Webhooks 1.0.0 specifies."""
