"""Publishes the feed of events to a message broker."""
