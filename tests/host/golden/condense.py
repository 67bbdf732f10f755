"""Creates `traces.jsonl` from the full recordings: `python -m tests.host.golden.condense FOLDER`.

Every recorded request contains the whole history. A condensed trace contains the history once for
each execution, and the number of events in the request for each episode. If a request cannot be
recreated from this data, the trace also contains the history of the request.
"""

import json
import sys
from pathlib import Path
from typing import Any

TRACES = Path(__file__).parent / "traces.jsonl"
ROW_KEYS = (
    "EventType",
    "EventId",
    "Name",
    "OrchestrationStatus",
    "Result",
    "TaskScheduledId",
    "TimerId",
)


def create_request(execution: dict[str, Any], episode: dict[str, Any]) -> dict[str, Any]:
    """Recreate the request that started an episode."""
    history = [
        dict(event) for event in episode.get("history", execution["history"])[: episode["events"]]
    ]
    is_last_episode = episode["events"] == len(execution["history"])
    for index, event in enumerate(history):
        if index >= episode["past"] and not is_last_episode and "history" not in episode:
            event["IsPlayed"] = False
    return {**execution["request"], "history": history, "isReplaying": episode["past"] > 0}


def condense_executions(
    episodes: list[dict[str, Any]], table: dict[str, Any] | None
) -> list[dict[str, Any]]:
    episodes_by_execution: dict[str, list[dict[str, Any]]] = {}
    for episode in episodes:
        started = next(event for event in episode["request"]["history"] if event["EventType"] == 0)
        episodes_by_execution.setdefault(
            started["OrchestrationInstance"]["ExecutionId"], []
        ).append(episode)
    return [
        condense_execution(execution_id, recorded, table or {})
        for execution_id, recorded in episodes_by_execution.items()
    ]


def condense_execution(
    execution_id: str, episodes: list[dict[str, Any]], table: dict[str, Any]
) -> dict[str, Any]:
    last_request = episodes[-1]["request"]
    history = last_request["history"]
    execution: dict[str, Any] = {
        "execution": execution_id,
        "history": history,
        "episodes": [],
        "request": {
            key: value
            for key, value in last_request.items()
            if key not in ("history", "isReplaying")
        },
    }
    for episode in episodes:
        request = episode["request"]
        events = request["history"]
        past = max(index for index, event in enumerate(events) if event["EventType"] == 12)
        entry = {"events": len(events), "past": past}
        entry |= (
            {"raised": episode["raised"]}
            if "raised" in episode
            else {"returned": episode["response"]}
        )
        recreated_request = create_request(execution, entry)
        if recreated_request["history"] != events:
            # The history was rewritten later, for example by a rewind.
            entry["history"] = events
        execution["episodes"].append(entry)
    rows = [
        row
        for row in table.get("History") or []
        if row.get("ExecutionId") == execution_id and "EventType" in row
    ]
    # If there are fewer rows than events, the rows belong to a replaced history.
    if len(rows) >= len(history):
        execution["rest"] = [
            {key: row[key] for key in ROW_KEYS if key in row} for row in rows[len(history) :]
        ]
    return execution


def condense(trace: dict[str, Any]) -> dict[str, Any]:
    main = trace["instance"]
    instances = {
        main: {"status": trace["status"], "episodes": trace["episodes"], "table": trace["table"]}
    }
    instances |= trace["other_instances"] or {}
    created = {
        row["PartitionKey"]: row["CreatedTime"]
        for instance in instances.values()
        for row in (instance["table"] or {}).get("Instances") or []
    }
    return {
        "scenario": trace["scenario"],
        "actions": trace["actions"],
        "created": created,
        "main": main,
        "status_with_history": trace.get("status_with_history"),
        "instances": {
            instance_id: {
                "status": instance["status"],
                "executions": condense_executions(instance["episodes"], instance["table"]),
            }
            for instance_id, instance in instances.items()
        },
    }


def main(folder: Path) -> None:
    traces = [
        condense(json.loads(path.read_text(encoding="utf-8")))
        for path in sorted(folder.glob("*.json"))
    ]
    lines = [json.dumps(trace, ensure_ascii=False, separators=(",", ":")) for trace in traces]
    TRACES.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"{len(lines)} traces, {TRACES.stat().st_size // 1024} KB")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
