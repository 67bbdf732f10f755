"""Long-running operations, from the POST to the manifest or to a failure."""

import uuid
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal

from local.simulator.behaviour import Behaviour
from local.simulator.data_versions import DataVersion, ExportKey

State = Literal["notStarted", "running", "succeeded", "failed"]
NO_DATA = ("5000", "No data available")
OTHER_FAILURE = ("5003", "The export failed")


@dataclass
class Operation:
    """One export operation. `reads` is the number of GET requests for it."""

    operation_id: str
    dataset: str
    key: ExportKey | None  # None if there is nothing to export
    version: DataVersion | None
    created: datetime  # time of the simulator's clock
    failure: tuple[str, str] | None = None
    ready_at: datetime | None = None
    reads: int = 0
    sas: dict[str, str] = field(default_factory=dict, repr=False)  # the first SAS per container

    def state(self, now: datetime, behaviour: Behaviour) -> State:
        """Return the state at the given time."""
        is_pending = self.reads <= behaviour.ready_after_polls or (
            self.ready_at is not None and now < self.ready_at
        )
        if is_pending or behaviour.operation_end == "never":
            return "notStarted" if self.reads <= 1 else "running"
        return "failed" if self.current_failure(behaviour) else "succeeded"

    def current_failure(self, behaviour: Behaviour) -> tuple[str, str] | None:
        """Return the code and message of the failure, or None."""
        match behaviour.operation_end:
            case "failed_5000":
                return NO_DATA
            case "failed_other":
                return OTHER_FAILURE
        return self.failure

    def has_expired(self, now: datetime, behaviour: Behaviour) -> bool:
        """Return whether the service no longer returns the operation."""
        age, reads = behaviour.operation_lifetime_seconds, behaviour.operation_lifetime_reads
        return (age is not None and now - self.created > timedelta(seconds=age)) or (
            reads is not None and self.reads >= reads
        )


class Operations:
    """All operations by ID.

    IDs are random, so the IDs from an earlier simulator are unknown.
    """

    def __init__(self) -> None:
        self._operations: dict[str, Operation] = {}

    def all(self) -> tuple[Operation, ...]:
        """Return all operations, oldest first, including expired ones."""
        return tuple(self._operations.values())

    def get(self, operation_id: str, now: datetime, behaviour: Behaviour) -> Operation | None:
        """Return an operation that has not expired, or None."""
        operation = self._operations.get(operation_id)
        return None if operation is None or operation.has_expired(now, behaviour) else operation

    def find_by_key(self, key: ExportKey, now: datetime, behaviour: Behaviour) -> Operation | None:
        """Return the newest operation for a key that has not expired, or None."""
        operations = [
            operation
            for operation in self._operations.values()
            if operation.key == key and not operation.has_expired(now, behaviour)
        ]
        return operations[-1] if operations else None

    def count_running(self, now: datetime, behaviour: Behaviour) -> int:
        """Return the number of pending operations."""
        return sum(
            operation.state(now, behaviour) in ("notStarted", "running")
            and not operation.has_expired(now, behaviour)
            for operation in self._operations.values()
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
        """Add an operation with a random ID."""
        operation = Operation(str(uuid.uuid4()), dataset, key, version, now, failure, ready_at)
        self._operations[operation.operation_id] = operation
        return operation

    def remove(self, operation_id: str) -> None:
        """Remove an operation, as if it had expired."""
        self._operations.pop(operation_id, None)
