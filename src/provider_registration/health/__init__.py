"""Health, probes and metrics."""
