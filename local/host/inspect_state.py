"""The command `python -m local.host inspect --state-dir DIR [INSTANCE]`.

It reads the state database and can run while a host uses the folder. Without an instance ID it
lists all instances. With an instance ID it shows the history of the instance as a tree: activities,
sub-orchestrations, timers, retries and events, each with its start time and duration.
"""

import argparse
import json
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from .history import Event, EventType
from .timestamps import from_micros, parse_utc

MAX_TEXT_LENGTH = 100
MAX_DEPTH = 20


@dataclass
class Entry:
    """A line in the tree."""

    started_at: datetime
    description: str
    outcome: str = "running"
    ended_at: datetime | None = None
    child_id: str | None = None  # instance ID of the sub-orchestration


@dataclass
class HistoryReader:
    """Converts the events of one execution to entries."""

    entries: list[Entry] = field(default_factory=list)
    open: dict[int, Entry] = field(default_factory=dict)
    names: dict[int, str] = field(default_factory=dict)
    # Failures received in this episode: name -> number of attempts up to now.
    failed: dict[str, int] = field(default_factory=dict)
    # Task ID -> attempt number.
    attempts: dict[int, int] = field(default_factory=dict)
    # ID of a retry timer -> name and attempt number of the next attempt.
    retries: dict[int, tuple[str, int]] = field(default_factory=dict)
    # Name -> attempt number of the attempt that starts in this episode.
    due: dict[str, int] = field(default_factory=dict)
    now: datetime | None = None

    def read(self, event: Event) -> None:
        """Add an event. Events must be read in the order of the history."""
        at = parse_utc(event["Timestamp"])
        match EventType(event["EventType"]):
            case EventType.ORCHESTRATOR_STARTED:
                self.now, self.failed, self.due = at, {}, {}
            case EventType.TASK_SCHEDULED:
                self._start(event["EventId"], event["Name"], at, f"activity {event['Name']}")
            case EventType.SUB_ORCHESTRATION_CREATED:
                self._start(
                    event["EventId"],
                    event["Name"],
                    at,
                    f"sub-orchestration {event['Name']}",
                    event["InstanceId"],
                )
            case EventType.TIMER_CREATED:
                self._timer(event["EventId"], at, parse_utc(event["FireAt"]))
            case EventType.TIMER_FIRED:
                self._end(event["TimerId"], self.now or at, "fired")
                if (retry := self.retries.get(event["TimerId"])) is not None:
                    self.due[retry[0]] = retry[1]
            case EventType.TASK_COMPLETED | EventType.SUB_ORCHESTRATION_COMPLETED:
                self._end(event["TaskScheduledId"], at, shortened(event.get("Result")))
            case EventType.TASK_FAILED | EventType.SUB_ORCHESTRATION_FAILED:
                task_id = event["TaskScheduledId"]
                self._end(task_id, at, "failed: " + shortened(event.get("Reason")))
                self.failed[self.names.get(task_id, "")] = self.attempts.get(task_id, 1)
            case EventType.EVENT_RAISED:
                self.entries.append(
                    Entry(at, f"event {event['Name']}", shortened(event.get("Input")), at)
                )
            case (
                EventType.EXECUTION_SUSPENDED
                | EventType.EXECUTION_RESUMED
                | EventType.EXECUTION_TERMINATED as kind
            ):
                reason = event.get("Reason", event.get("Input"))
                self.entries.append(
                    Entry(at, kind.name.removeprefix("EXECUTION_").lower(), shortened(reason), at)
                )
            case _:
                pass  # the line of the instance contains its start and its end

    def _start(
        self, task_id: int, name: str, at: datetime, description: str, child_id: str | None = None
    ) -> None:
        attempt = self.attempts[task_id] = self.due.pop(name, 1)
        self.names[task_id] = name
        suffix = f", attempt {attempt}" if attempt > 1 else ""
        entry = Entry(at, description + suffix, child_id=child_id)
        self.entries.append(entry)
        self.open[task_id] = entry

    def _timer(self, timer_id: int, at: datetime, fire_at: datetime) -> None:
        description = f"timer {format_duration(fire_at - (self.now or at))}"
        if self.failed and not self.due:
            name, attempt = next(iter(self.failed.items()))
            del self.failed[name]
            self.retries[timer_id] = (name, attempt + 1)
            description += f" after a failure of {name}"
        entry = Entry(at, description)
        self.entries.append(entry)
        self.open[timer_id] = entry

    def _end(self, task_id: int, at: datetime, outcome: str) -> None:
        if (entry := self.open.pop(task_id, None)) is not None:
            entry.ended_at, entry.outcome = at, outcome


class StateDatabase:
    """The database of a task hub, opened read-only."""

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)
        self._db.row_factory = sqlite3.Row

    def close(self) -> None:
        self._db.close()

    def instances(self) -> list[sqlite3.Row]:
        return list(self._db.execute("SELECT * FROM instances ORDER BY created, iid"))

    def instance(self, instance_id: str) -> sqlite3.Row | None:
        row: sqlite3.Row | None = self._db.execute(
            "SELECT * FROM instances WHERE iid=?", (instance_id,)
        ).fetchone()
        return row

    def events(self, row: sqlite3.Row) -> Iterator[Event]:
        for (body,) in self._db.execute(
            "SELECT body FROM history WHERE iid=? AND eid=? ORDER BY seq", (row["iid"], row["eid"])
        ):
            yield json.loads(body)

    def tree(self, instance_id: str, depth: int = 0) -> Iterator[str]:
        """Yield the lines of the tree, including sub-orchestrations."""
        row, indent = self.instance(instance_id), "    " * depth
        if row is None:
            yield f"{indent}{instance_id} no longer exists"
            return
        started_at = from_micros(row["created"])
        yield f"{indent}{summary(row)}"
        reader = HistoryReader()
        for event in self.events(row):
            reader.read(event)
        for entry in reader.entries:
            duration = (
                format_duration(entry.ended_at - entry.started_at)
                if entry.ended_at and entry.ended_at != entry.started_at
                else ""
            )
            start = format_offset(entry.started_at - started_at)
            columns = f"{start:>12}  {entry.description:<44} {duration:>9}  {entry.outcome}"
            yield f"{indent}    {columns}".rstrip()
            if entry.child_id is not None and depth < MAX_DEPTH:
                yield from self.tree(entry.child_id, depth + 2)
        if row["output"] is not None:
            yield f"{indent}    output: {shortened(row['output'])}"


def summary(row: sqlite3.Row) -> str:
    """Return the line that describes an instance."""
    duration = format_duration(from_micros(row["updated"]) - from_micros(row["created"]))
    started_at = from_micros(row["created"]).strftime("%Y-%m-%d %H:%M:%S")
    return f"{row['iid']}  {row['name']}  {row['status']}  started {started_at}, {duration}"


def format_duration(span: timedelta) -> str:
    """Format a duration with at most two units.

    >>> [format_duration(timedelta(seconds=s)) for s in (0.0042, 3.25, 90, 7_205, 180_000)]
    ['4 ms', '3.2 s', '1 min 30 s', '2 h 0 min', '2 d 2 h']
    """
    seconds = span.total_seconds()
    if seconds < 1:
        return f"{max(seconds, 0) * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    whole = int(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return (
        f"{whole // 3600} h {whole // 60 % 60} min"
        if whole < 86_400
        else f"{whole // 86_400} d {whole // 3600 % 24} h"
    )


def format_offset(span: timedelta) -> str:
    """Format the time since the start of the instance: `+12.345 s` or `+1:02:03`."""
    seconds = max(span.total_seconds(), 0)
    return f"+{seconds:.3f} s" if seconds < 60 else f"+{timedelta(seconds=round(seconds))}"


def shortened(text: object) -> str:
    """Return the text on one line, truncated to `MAX_TEXT_LENGTH` characters."""
    line = " ".join(str("" if text is None else text).split())
    return line if len(line) <= MAX_TEXT_LENGTH else line[: MAX_TEXT_LENGTH - 3] + "..."


def main(arguments: list[str]) -> int:
    """Run the command and return its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m local.host inspect",
        description="Show the orchestration instances in a state folder.",
    )
    parser.add_argument("--state-dir", type=Path, required=True)
    parser.add_argument("instance", nargs="?", help="instance ID; omit it to list all instances")
    options = parser.parse_args(arguments)
    databases = sorted(options.state_dir.glob("*.sqlite3"))
    if not databases:
        print(f"local host: no state database in {options.state_dir}", file=sys.stderr)
        return 1
    has_match = False
    for path in databases:
        try:
            with closing(StateDatabase(path)) as state:
                has_match = _show(state, path.stem, options.instance) or has_match
        except sqlite3.Error as error:
            print(f"local host: cannot read {path}: {error}", file=sys.stderr)
            return 1
    if options.instance and not has_match:
        print(f"local host: no instance with the ID {options.instance}", file=sys.stderr)
        return 1
    return 0


def _show(state: StateDatabase, hub: str, instance_id: str | None) -> bool:
    if instance_id is None:
        rows = state.instances()
        print(f"{hub}: {len(rows)} instances")
        for row in rows:
            print(f"  {'' if row['parent_iid'] is None else '  '}{summary(row)}")
        return True
    if state.instance(instance_id) is None:
        return False
    print("\n".join(state.tree(instance_id)))
    return True
