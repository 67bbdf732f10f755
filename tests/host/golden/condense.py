"""Creates the condensed traces from the full recordings.

    python -m tests.host.golden.condense FOLDER              traces.jsonl
    python -m tests.host.golden.condense --3.19 FOLDER       traces-3.19.jsonl

Every recorded request contains the whole history. A condensed trace contains the history once for
each execution, and the number of events in the request for each episode. If a request cannot be
recreated from this data, the trace also contains the history of the request.
"""

import json
import sys
from pathlib import Path
from typing import Any

TRACES = Path(__file__).parent / "traces.jsonl"
TERMINATION_TRACES = Path(__file__).parent / "traces-3.19.jsonl"
# The scenarios in which the worker process ends during a call.
TERMINATION_PATTERN = "wd_*.json"
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
            else {"terminated": True}
            if episode.get("died")
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


def convert_to_2_13(value: Any) -> Any:
    """Convert a recording of version 3.19.0 to the members of version 2.13.7.

    The members that 3.19.0 adds have no effect on the recorded scenarios. The texts remain.
    """
    if isinstance(value, dict):
        converted = {key: convert_to_2_13(item) for key, item in value.items()}
        if "upperSchemaVersionNew" in value:
            converted.pop("sourceInstanceId")
            converted["upperSchemaVersionNew"] = 2
        if "runtimeStatus" in value:
            converted.pop("parentInstanceId", None)
        event_type = value.get("EventType")
        if event_type in (0, "ExecutionStarted"):
            converted.pop("GenerateNewTrace", None)
        if event_type in (4, 7, "TaskScheduled", "SubOrchestrationInstanceCreated"):
            converted.pop("Tags", None)
        if event_type in ("SubOrchestrationInstanceCompleted", "SubOrchestrationInstanceFailed"):
            converted.pop("InstanceId", None)
        if "Version" in value:
            converted["Version"] = value["Version"] or ""
        return converted
    if isinstance(value, list):
        return [convert_to_2_13(item) for item in value]
    if isinstance(value, str):
        return value.replace("connection=Storage", "connection=AzureWebJobsStorage").replace(
            "realhost", "LocalHost"
        )
    return value


def main(folder: Path, *, has_new_members: bool) -> None:
    target = TERMINATION_TRACES if has_new_members else TRACES
    recordings = [
        json.loads(path.read_text(encoding="utf-8"))
        for path in sorted(folder.glob(TERMINATION_PATTERN if has_new_members else "*.json"))
    ]
    traces = [
        condense(convert_to_2_13(recording) if has_new_members else recording)
        for recording in recordings
    ]
    lines = [json.dumps(trace, ensure_ascii=False, separators=(",", ":")) for trace in traces]
    target.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"{len(lines)} traces, {target.stat().st_size // 1024} KB")


if __name__ == "__main__":
    main(Path(sys.argv[-1]), has_new_members="--3.19" in sys.argv)
