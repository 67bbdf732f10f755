"""Long-running operations: from the POST to the manifest, or to failure. What they are, not how HTTP shows them."""

import uuid
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal

from local.simulator.behaviour import Behaviour
from local.simulator.data_versions import DataVersion, ExportKey

State = Literal["notStarted", "running", "succeeded", "failed"]
NO_DATA = ("5000", "No data available")
OTHER_FAILURE = ("5003", "The export could not be made")


@dataclass
class Operation:
    """One export that was asked for. `reads` counts the looks at it."""

    operation_id: str
    dataset: str
    key: ExportKey | None  # None where there is nothing to export
    version: DataVersion | None
    created: datetime  # by the simulator's clock
    failure: tuple[str, str] | None = None
    ready_at: datetime | None = None
    reads: int = 0
    sas: dict[str, str] = field(
        default_factory=dict, repr=False
    )  # by container, where SAS are not renewed

    def state(self, now: datetime, behaviour: Behaviour) -> State:
        waits = self.reads <= behaviour.ready_after_polls or (
            self.ready_at is not None and now < self.ready_at
        )
        if waits or behaviour.operation_end == "never":
            return "notStarted" if self.reads <= 1 else "running"
        return "failed" if self.failure_now(behaviour) else "succeeded"

    def failure_now(self, behaviour: Behaviour) -> tuple[str, str] | None:
        match behaviour.operation_end:
            case "failed_5000":
                return NO_DATA
            case "failed_other":
                return OTHER_FAILURE
        return self.failure

    def forgotten(self, now: datetime, behaviour: Behaviour) -> bool:
        age, reads = behaviour.operation_lifetime_seconds, behaviour.operation_lifetime_reads
        return (age is not None and now - self.created > timedelta(seconds=age)) or (
            reads is not None and self.reads >= reads
        )


class Operations:
    """All operations, by id. Ids are random: one that a former simulator gave out is unknown to the next."""

    def __init__(self) -> None:
        self._known: dict[str, Operation] = {}

    def all(self) -> tuple[Operation, ...]:
        return tuple(self._known.values())

    def get(self, operation_id: str, now: datetime, behaviour: Behaviour) -> Operation | None:
        operation = self._known.get(operation_id)
        return None if operation is None or operation.forgotten(now, behaviour) else operation

    def alike(self, key: ExportKey, now: datetime, behaviour: Behaviour) -> Operation | None:
        """The newest operation for that key that is not forgotten."""
        alike = [
            known
            for known in self._known.values()
            if known.key == key and not known.forgotten(now, behaviour)
        ]
        return alike[-1] if alike else None

    def running(self, now: datetime, behaviour: Behaviour) -> int:
        return sum(
            known.state(now, behaviour) in ("notStarted", "running")
            and not known.forgotten(now, behaviour)
            for known in self._known.values()
        )

    def start(
        self,
        dataset: str,
        now: datetime,
        *,
        key: ExportKey | None = None,
        version: DataVersion | None = None,
        failure: tuple[str, str] | None = None,
        ready_at: datetime | None = None,
    ) -> Operation:
        operation = Operation(str(uuid.uuid4()), dataset, key, version, now, failure, ready_at)
        self._known[operation.operation_id] = operation
        return operation

    def forget(self, operation_id: str) -> None:
        self._known.pop(operation_id, None)
