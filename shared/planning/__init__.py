"""Determines which exports a cycle or a backfill requests, and how long a run waits."""
