"""The intentional differences between the local host and the recorded engine.

`python -m tests.host.golden.differences` updates their table in `docs/local-host.md`.
"""

from pathlib import Path

from .condense import TERMINATION_TRACES
from .player import Player, TraceDifferenceError, read_traces

DOCUMENT = Path(__file__).resolve().parents[3] / "docs" / "local-host.md"
BEGIN, END = "<!-- golden traces: begin -->", "<!-- golden traces: end -->"

_IMMEDIATE_FAILURE = (
    "In Azure, the instance remains Running and no error is reported. "
    "The local host fails it immediately and reports the cause."
)
_CALL_HTTP = (
    "The local host does not support `call_http`, because the SDK returns the first response "
    "without polling. Call an activity instead."
)
_DUPLICATE_ID = (
    "The local host returns 409 for the ID of a running instance, like newer extensions. "
    "Version 2.13.7 returns 500."
)
REASONS = {
    "unknown_activity": _IMMEDIATE_FAILURE,
    "unknown_activity_caught": _IMMEDIATE_FAILURE,
    "unknown_activity_second": _IMMEDIATE_FAILURE,
    "unknown_in_all": _IMMEDIATE_FAILURE,
    "unknown_in_any": _IMMEDIATE_FAILURE,
    "unknown_sub": _IMMEDIATE_FAILURE,
    "sub_own_id": _IMMEDIATE_FAILURE,
    "entity_call": (
        "The local host does not support entities. The recording contains only one action."
    ),
    "http_call_200": _CALL_HTTP,
    "http_call_202_polling": _CALL_HTTP,
    "http_call_404": _CALL_HTTP,
    "duplicate_start": _DUPLICATE_ID,
    "restart": _DUPLICATE_ID,
    "purge": (
        "The local host returns 412 for the purge of a running instance, like newer extensions. "
        "Version 2.13.7 deletes the instance."
    ),
    "sub_live_id": (
        "In the local host, a child with the ID of a running instance fails, and the parent "
        "receives the failure. In Azure, the two instances conflict in storage."
    ),
}


def find_difference(trace: dict[str, object]) -> str:
    """Return a description of the first difference, or an empty string if there is none."""
    try:
        Player(trace).play()
    except TraceDifferenceError as difference:
        return str(difference)
    return ""


def render_table() -> str:
    """Return the table of all differences in Markdown."""
    names = [trace["scenario"] for trace in read_traces()]
    differing_scenarios = [trace["scenario"] for trace in read_traces() if find_difference(trace)]
    matching_count = len(names) - len(differing_scenarios)
    lines = [
        f"{matching_count} of {len(names)} recorded scenarios match. The others differ:",
        "",
        "| Scenario | Reason |",
        "|---|---|",
    ]
    reasons = dict.fromkeys(REASONS[name] for name in differing_scenarios)
    for reason in reasons:
        scenarios = [f"`{name}`" for name in differing_scenarios if REASONS[name] == reason]
        lines.append(f"| {', '.join(scenarios)} | {reason} |")
    terminations = [not find_difference(trace) for trace in read_traces(TERMINATION_TRACES)]
    lines += [
        "",
        f"{sum(terminations)} of {len(terminations)} recorded terminations of the worker process "
        "(version 3.19.0) match.",
    ]
    return "\n".join(lines)


def replace_table(document: str, content: str) -> str:
    before, _, rest = document.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{content}\n{END}{after}"


if __name__ == "__main__":
    DOCUMENT.write_text(
        replace_table(DOCUMENT.read_text(encoding="utf-8"), render_table()), encoding="utf-8"
    )
