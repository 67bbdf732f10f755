"""Events: one line of JSON in the log for each fact that operators query.

A repeated activity emits the same `event_id`, so that queries can remove duplicates. Events contain
no signature, token or URL. `instance_id` and `trace_id` identify the records of Durable Functions
for the same work.
"""

import json
import logging

from shared.redaction import EVENT_LOGGER, TRACE_ID, redact

APP_VERSION = "0.1.0"

# Each ID is the instance ID of its orchestration; the first one that an event contains is used.
INSTANCE_ID_FIELDS = ("run_id", "cycle_id", "backfill_id")

logger = logging.getLogger(EVENT_LOGGER)


def emit_event(name: str, event_id: str, **facts: str | int | float | bool | None) -> None:
    """Write the event `name`, for example `run_ended`, without the facts that are None or "".

    `event_id` has the form `{run_id}/{stage}/{attempt}`.
    """
    facts = {
        fact: redact(value) if isinstance(value, str) else value
        for fact, value in facts.items()
        if value not in (None, "")
    }
    line: dict[str, str | int | float | bool | None] = {
        "event": name,
        "event_id": redact(event_id),
        "app_version": APP_VERSION,
    }
    if instance_ids := [facts[field] for field in INSTANCE_ID_FIELDS if field in facts]:
        line["instance_id"] = instance_ids[0]
    if trace_id := TRACE_ID.get():
        line["trace_id"] = trace_id
    line |= facts
    logger.info("%s", json.dumps(line, separators=(",", ":")))
