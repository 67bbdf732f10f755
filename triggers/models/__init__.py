"""The request and response documents of the HTTP API, one module for each resource."""

from triggers.models import (
    backfills,
    base,
    catalogue,
    cycles,
    lists,
    preflight,
    problem,
    runs,
    status,
)

__all__ = [
    "backfills",
    "base",
    "catalogue",
    "cycles",
    "lists",
    "preflight",
    "problem",
    "runs",
    "status",
]
