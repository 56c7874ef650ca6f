"""Compares this service with equivalent ones, and with the limits of its server and database."""
