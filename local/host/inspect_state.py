"""`python -m local.host inspect --state-dir DIR [INSTANCE]`: what the database holds, readable, also while a host runs.

Without an instance it lists all of them; with one it shows its history as a tree: activities, children with theirs, waits,
retries and events, each with its start time and duration.
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

LONGEST_TEXT = 100
DEEPEST = 20


@dataclass
class Entry:
    """One line of the tree."""

    started_at: datetime
    what: str
    outcome: str = "under way"
    ended: datetime | None = None
    child: str | None = None  # instance id


@dataclass
class Reader:
    """Turns the events of one execution into entries."""

    entries: list[Entry] = field(default_factory=list)
    open: dict[int, Entry] = field(default_factory=dict)
    names: dict[int, str] = field(default_factory=dict)
    failed: dict[str, int] = field(
        default_factory=dict
    )  # heard in this episode: name -> attempts so far
    attempts: dict[int, int] = field(default_factory=dict)  # task id -> which attempt it is
    retries: dict[int, tuple[str, int]] = field(
        default_factory=dict
    )  # timer id -> what it will start again
    due: dict[str, int] = field(default_factory=dict)  # name -> attempt that starts in this episode
    now: datetime | None = None

    def read(self, event: Event) -> None:
        at = parse_utc(event["Timestamp"])
        match EventType(event["EventType"]):
            case EventType.ORCHESTRATOR_STARTED:
                self.now, self.failed, self.due = at, {}, {}
            case EventType.TASK_SCHEDULED:
                self._begin(event["EventId"], event["Name"], at, f"activity {event['Name']}")
            case EventType.SUB_ORCHESTRATION_CREATED:
                self._begin(
                    event["EventId"],
                    event["Name"],
                    at,
                    f"child {event['Name']}",
                    event["InstanceId"],
                )
            case EventType.TIMER_CREATED:
                self._timer(event["EventId"], at, parse_utc(event["FireAt"]))
            case EventType.TIMER_FIRED:
                self._end(event["TimerId"], self.now or at, "over")
                if (again := self.retries.get(event["TimerId"])) is not None:
                    self.due[again[0]] = again[1]
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
                pass  # the beginning and the end stand in the line of the instance

    def _begin(
        self, task_id: int, name: str, at: datetime, what: str, child: str | None = None
    ) -> None:
        attempt = self.attempts[task_id] = self.due.pop(name, 1)
        self.names[task_id] = name
        entry = Entry(at, what + (f", attempt {attempt}" if attempt > 1 else ""), child=child)
        self.entries.append(entry)
        self.open[task_id] = entry

    def _timer(self, timer_id: int, at: datetime, fire_at: datetime) -> None:
        what = f"wait {format_duration(fire_at - (self.now or at))}"
        if self.failed and not self.due:
            name, attempt = next(iter(self.failed.items()))
            del self.failed[name]
            self.retries[timer_id] = (name, attempt + 1)
            what += f" after a failure of {name}"
        entry = Entry(at, what)
        self.entries.append(entry)
        self.open[timer_id] = entry

    def _end(self, task_id: int, at: datetime, outcome: str) -> None:
        if (entry := self.open.pop(task_id, None)) is not None:
            entry.ended, entry.outcome = at, outcome


class State:
    """The databases of a state folder, opened for reading only."""

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
        row, indent = self.instance(instance_id), "    " * depth
        if row is None:
            yield f"{indent}{instance_id} is no longer there"
            return
        started_at = from_micros(row["created"])
        yield f"{indent}{summary(row)}"
        reader = Reader()
        for event in self.events(row):
            reader.read(event)
        for entry in reader.entries:
            length = (
                format_duration(entry.ended - entry.started_at)
                if entry.ended and entry.ended != entry.started_at
                else ""
            )
            yield f"{indent}    {offset(entry.started_at - started_at):>12}  {entry.what:<44} {length:>9}  {entry.outcome}".rstrip()
            if entry.child is not None and depth < DEEPEST:
                yield from self.tree(entry.child, depth + 2)
        if row["output"] is not None:
            yield f"{indent}    output: {shortened(row['output'])}"


def summary(row: sqlite3.Row) -> str:
    length = format_duration(from_micros(row["updated"]) - from_micros(row["created"]))
    started_at = from_micros(row["created"]).strftime("%Y-%m-%d %H:%M:%S")
    return f"{row['iid']}  {row['name']}  {row['status']}  started {started_at}, {length}"


def format_duration(span: timedelta) -> str:
    """As short as it is clear.

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


def offset(span: timedelta) -> str:
    """Since the beginning of the instance: `+12.345 s`, `+1:02:03`."""
    seconds = max(span.total_seconds(), 0)
    return f"+{seconds:.3f} s" if seconds < 60 else f"+{timedelta(seconds=round(seconds))}"


def shortened(text: object) -> str:
    line = " ".join(str("" if text is None else text).split())
    return line if len(line) <= LONGEST_TEXT else line[: LONGEST_TEXT - 3] + "..."


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m local.host inspect", description="Shows what a state folder holds."
    )
    parser.add_argument("--state-dir", type=Path, required=True)
    parser.add_argument("instance", nargs="?", help="its id; without one all instances are listed")
    options = parser.parse_args(arguments)
    databases = sorted(options.state_dir.glob("*.sqlite3"))
    if not databases:
        print(f"local host: there is no state in {options.state_dir}", file=sys.stderr)
        return 1
    found = False
    for path in databases:
        try:
            with closing(State(path)) as state:
                found = _show(state, path.stem, options.instance) or found
        except sqlite3.Error as error:
            print(f"local host: {path} cannot be read: {error}", file=sys.stderr)
            return 1
    if options.instance and not found:
        print(f"local host: there is no instance {options.instance}", file=sys.stderr)
        return 1
    return 0


def _show(state: State, hub: str, instance_id: str | None) -> bool:
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
