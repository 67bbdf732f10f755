"""The request and response documents of the HTTP API, one module for each resource.

The modules are imported on first use (`models.runs.RunResponse`), because creating the pydantic
classes takes time that a cold start for a timer or an activity does not need to spend.
"""

import importlib
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
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


def __getattr__(name: str) -> ModuleType:
    if name in __all__:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
