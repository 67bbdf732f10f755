"""Rows of the database as values, and the parcels that travel between engine and store."""

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
    instance_id: str
    execution_id: str
    task_id: int


@dataclass(frozen=True)
class Instance:
    """One orchestration instance. Times are microseconds since 1970; `output` is plain text where it is no JSON."""

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
    task_failure: Event | None = (
        None  # what the parent receives if the id belongs to a live instance
    )


@dataclass(frozen=True)
class Message:
    """A row of the inbox. `execution_id` None: a client command, valid for any execution. `due` 0: at once."""

    instance_id: str
    execution_id: str | None
    event: Event
    due: int = 0
    id: int = 0


@dataclass(frozen=True)
class Work:
    """An activity that is to run."""

    instance_id: str
    execution_id: str
    task_id: int
    name: str
    input: str
    id: int = 0


@dataclass(frozen=True)
class Step:
    """Everything one episode writes, in one transaction."""

    instance: Instance
    consumed: list[int]
    status: str
    output: str | None
    custom_status: str | None
    appended: list[Event] = field(default_factory=list)
    messages: list[Message] = field(default_factory=list)
    work: list[Work] = field(default_factory=list)
    children: list[NewInstance] = field(default_factory=list)
    continued: NewInstance | None = None  # the next generation, under the same instance id

    @cached_property
    def texts(self) -> list[str]:
        """The appended events as JSON, as the database and the next episode want them."""
        return [json.dumps(event) for event in self.appended]


@dataclass(frozen=True)
class CommitResult:
    """What the engine has to do after a transaction: activities to run, instances that have mail, the next timer to mind."""

    work: list[Work] = field(default_factory=list)
    ready: list[str] = field(default_factory=list)
    next_timer: int | None = None


@dataclass(frozen=True)
class Filter:
    """Which instances a list or a purge means. Times are inclusive microseconds."""

    created_from: int | None = None
    created_to: int | None = None
    statuses: frozenset[str] = frozenset()
    prefix: str = ""
