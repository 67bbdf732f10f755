"""Where the host differs from the recorded engine on purpose, and the table of it in docs/local-host.md.

python -m tests.host.golden.differences        writes the table anew
"""

from pathlib import Path

from .player import Difference, Player, traces

DOCUMENT = Path(__file__).resolve().parents[3] / "docs" / "local-host.md"
BEGIN, END = "<!-- golden traces: begin -->", "<!-- golden traces: end -->"

_SILENT = "Azure leaves the instance Running for ever and says nothing; here it fails at once and says why"
_HTTP = "`call_http` is refused by name: the SDK hands over what Azure answers first, without polling; call an activity"
_LIVE = "409 for the id of a live instance, as newer extensions answer; 2.13.7 answers 500"
REASONS = {
    "unknown_activity": _SILENT,
    "unknown_activity_caught": _SILENT,
    "unknown_activity_second": _SILENT,
    "unknown_in_all": _SILENT,
    "unknown_in_any": _SILENT,
    "unknown_sub": _SILENT,
    "sub_own_id": _SILENT,
    "entity_call": "entities are refused by name; the recording shows one action only",
    "http_call_200": _HTTP,
    "http_call_202_polling": _HTTP,
    "http_call_404": _HTTP,
    "duplicate_start": _LIVE,
    "restart": _LIVE,
    "purge": "412 for the purge of a live instance, as newer extensions answer; 2.13.7 deletes it",
    "sub_live_id": "a child with the id of a live instance fails and its parent hears of it; in Azure the two collide in storage",
}


def outcome(trace: dict[str, object]) -> str:
    """Empty: the same as recorded. Else what differs first."""
    try:
        Player(trace).play()
    except Difference as difference:
        return str(difference)
    return ""


def table() -> str:
    names = [trace["scenario"] for trace in traces()]
    differing = [name for trace in traces() if outcome(trace) for name in [trace["scenario"]]]
    lines = [
        f"{len(names) - len(differing)} of {len(names)} recorded scenarios are the same. The others:",
        "",
        "| scenario | why it differs |",
        "|---|---|",
    ]
    reasons = dict.fromkeys(REASONS[name] for name in differing)
    for reason in reasons:
        lines.append(
            f"| {', '.join(f'`{name}`' for name in differing if REASONS[name] == reason)} | {reason} |"
        )
    return "\n".join(lines)


def with_table(document: str, content: str) -> str:
    before, _, rest = document.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{content}\n{END}{after}"


if __name__ == "__main__":
    DOCUMENT.write_text(with_table(DOCUMENT.read_text(encoding="utf-8"), table()), encoding="utf-8")
