"""One wide event per fact that operators ask about, as one line of JSON in the log. Written where the work is done.

`event_id` is the same however often an activity repeats itself, so every query can drop repeats. No event holds a
signature, a token or a URL.
"""

import json
import logging

from shared.redaction import EVENTS, redacted

APP_VERSION = "0.1.0"

logger = logging.getLogger(EVENTS)


def event(name: str, event_id: str, **facts: str | int | float | bool | None) -> None:
    """`name` as `run_ended`; `event_id` as `{run_id}/{stage}/{attempt}`. Facts that are None or "" are left out."""
    shown = {
        fact: redacted(value) if isinstance(value, str) else value for fact, value in facts.items() if value not in (None, "")}
    line = {"event": name, "event_id": redacted(event_id), "app_version": APP_VERSION, **shown}
    logger.info("%s", json.dumps(line, separators=(",", ":")))
