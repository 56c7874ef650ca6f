"""Decisions about many candidates, as a job."""
