"""Sums over candidates and decisions, for people who want to see how things go."""
