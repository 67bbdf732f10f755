"""A replacement for the task hub in tests of the orphaned-run cleanup."""

from dataclasses import dataclass, field
from typing import Any

from shared.instances import InstanceState
from shared.ledger.cleanup import CleanupReport, Engine, clean_up_orphaned_runs
from shared.ledger.ledger import Ledger


@dataclass
class FakeEngine:
    """The states of instances, and the instances that the cleanup started.

    Attributes:
        default: The state of an instance that is not in `states`.
        states: The state by instance ID.
        started: The IDs of the started instances.
    """

    default: InstanceState = "live"
    states: dict[str, InstanceState] = field(default_factory=dict)
    started: list[str] = field(default_factory=list)

    async def get_state(self, instance_id: str) -> InstanceState:
        """Return the state of an instance."""
        return self.states.get(instance_id, self.default)

    async def start(self, target: Any, instance_id: str) -> None:
        """Record an instance."""
        self.started.append(instance_id)

    async def clean_up(self, ledger: Ledger) -> CleanupReport:
        """Run the cleanup once, and raise the first error of an item."""
        report = await clean_up_orphaned_runs(ledger, Engine(self.get_state, self.start))
        for error in report.errors.values():
            raise error
        return report


async def close_orphans(ledger: Ledger, state: InstanceState) -> list[str]:
    """Run the cleanup with the same state for all instances, and return the closed items."""
    return (await FakeEngine(state).clean_up(ledger)).closed
