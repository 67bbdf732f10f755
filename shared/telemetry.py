"""One wide event per fact that operators ask about, as one line of JSON in the log. Written where the work is done.

`event_id` is the same however often an activity repeats itself, so every query can drop repeats. No event holds a
signature, a token or a URL. `instance_id` and `trace_id` lead to Durable's own records of the same work.
"""

import json
import logging

from shared.redaction import EVENT_LOGGER, TRACE_ID, redact

APP_VERSION = "0.1.0"

INSTANCES = (
    "run_id",
    "cycle_id",
    "backfill_id",
)  # each is the instance id of its orchestration; the first that is told counts

logger = logging.getLogger(EVENT_LOGGER)


def emit_event(name: str, event_id: str, **facts: str | int | float | bool | None) -> None:
    """`name` as `run_ended`; `event_id` as `{run_id}/{stage}/{attempt}`. Facts that are None or "" are left out."""
    shown = {
        fact: redact(value) if isinstance(value, str) else value
        for fact, value in facts.items()
        if value not in (None, "")
    }
    line: dict[str, str | int | float | bool | None] = {
        "event": name,
        "event_id": redact(event_id),
        "app_version": APP_VERSION,
    }
    if instances := [shown[fact] for fact in INSTANCES if fact in shown]:
        line["instance_id"] = instances[0]
    if trace_id := TRACE_ID.get():
        line["trace_id"] = trace_id
    line |= shown
    logger.info("%s", json.dumps(line, separators=(",", ":")))
