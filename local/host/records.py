"""Types for database rows and for the data that the engine and the store exchange."""

import json
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, TypeAlias

from .history import Event

Status: TypeAlias = Literal["Pending", "Running", "Suspended", "Completed", "Failed", "Terminated"]
LIVE: frozenset[str] = frozenset({"Pending", "Running", "Suspended"})
STATUSES: frozenset[str] = LIVE | {
    "Completed",
    "Failed",
    "Terminated",
    "ContinuedAsNew",
    "Canceled",
}


@dataclass(frozen=True)
class Parent:
    """The task of a parent orchestration that waits for an instance."""

    instance_id: str
    execution_id: str
    task_id: int


@dataclass(frozen=True)
class Instance:
    """An orchestration instance.

    Times are microseconds since 1970. `output` is plain text if it is not valid JSON.
    """

    instance_id: str
    execution_id: str
    name: str
    version: str
    status: str
    input: str | None
    output: str | None
    custom_status: str | None
    created: int
    updated: int
    parent: Parent | None = None

    @property
    def is_live(self) -> bool:
        return self.status in LIVE


@dataclass(frozen=True)
class NewInstance:
    """An instance to be created, with its ExecutionStarted event."""

    instance_id: str
    execution_id: str
    name: str
    version: str
    input: str | None
    started: Event
    parent: Parent | None = None
    task_failure: Event | None = None
    """The event that the parent receives if a live instance has the same ID."""


@dataclass(frozen=True)
class Message:
    """A row in the inbox.

    `execution_id` is None for a client command, which is valid for any execution. `due` is 0 for a
    message without a delay.
    """

    instance_id: str
    execution_id: str | None
    event: Event
    due: int = 0
    id: int = 0


@dataclass(frozen=True)
class Work:
    """A scheduled activity."""

    instance_id: str
    execution_id: str
    task_id: int
    name: str
    input: str
    id: int = 0


@dataclass(frozen=True)
class Step:
    """Everything that an episode writes in one transaction."""

    instance: Instance
    consumed: list[int]
    status: str
    output: str | None
    custom_status: str | None
    appended: list[Event] = field(default_factory=list)
    messages: list[Message] = field(default_factory=list)
    work: list[Work] = field(default_factory=list)
    children: list[NewInstance] = field(default_factory=list)
    continued: NewInstance | None = None  # the next generation, with the same instance ID

    @cached_property
    def texts(self) -> list[str]:
        """The appended events as JSON, for the database and for the next episode."""
        return [json.dumps(event) for event in self.appended]


@dataclass(frozen=True)
class CommitResult:
    """What the engine must do after a transaction.

    `work` contains the activities to run, `ready` contains the instances that have messages, and
    `next_timer` is the time of the earliest new timer.
    """

    work: list[Work] = field(default_factory=list)
    ready: list[str] = field(default_factory=list)
    next_timer: int | None = None


@dataclass(frozen=True)
class Filter:
    """Criteria for a list or purge request. Times are in microseconds and inclusive."""

    created_from: int | None = None
    created_to: int | None = None
    statuses: frozenset[str] = frozenset()
    prefix: str = ""
