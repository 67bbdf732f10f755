"""Updates of the operation in a run row stop after a limited number of conflicts."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from shared import optimistic_concurrency
from shared.errors import InfrastructureError
from shared.ledger.runs import Run
from shared.operations import ExportOperations
from shared.optimistic_concurrency import MAX_ATTEMPTS
from tests.support.clocks import FakeClock

START = datetime(2026, 11, 21, 6, 0, tzinfo=UTC)
RUN_ID = "unbilled-usage-2026-11-usd-full-20261121t060000z-aaaa"


class ContendedRuns:
    """Run rows that another writer changes before each conditional write."""

    def __init__(self) -> None:
        self.attempts = 0

    async def merge_if_unchanged(self, run: Run, **columns: Any) -> bool:
        self.attempts += 1
        return False


def create_operations(run: Run, runs: ContendedRuns) -> ExportOperations:
    """Return the operations of a ledger that contains `run`."""

    async def holding(run_id: str) -> Run:
        return run

    ledger: Any = SimpleNamespace(holding=holding, runs=runs, clock=FakeClock(START))
    settings: Any = SimpleNamespace(poll_min_seconds=10)
    unused: Any = None
    return ExportOperations(settings, ledger, unused)


async def store(operations: ExportOperations, run: Run) -> object:
    accepted: Any = SimpleNamespace(operation_id="o-2", request_id="r-2", retry_after_seconds=None)
    return await operations.store(run.run_id, accepted)


async def abandon(operations: ExportOperations, run: Run) -> object:
    return await operations.abandon(run.run_id, run.operation_id, "operation_gone")


@pytest.mark.parametrize(("change", "operation_id"), [(store, ""), (abandon, "o-1")])
async def test_operation_change_with_lasting_conflict_raises_run_contended(
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[ExportOperations, Run], Awaitable[object]],
    operation_id: str,
) -> None:
    monkeypatch.setattr(optimistic_concurrency, "backoff_seconds", lambda conflicts: 0.0)
    runs = ContendedRuns()
    run = Run(
        run_id=RUN_ID,
        key="unbilled_usage/2026-11/USD/full",
        operation_id=operation_id,
        started_at="2026-11-21T06:00:00Z",
    )
    with pytest.raises(InfrastructureError) as raised:
        await change(create_operations(run, runs), run)
    assert raised.value.code == "run_contended"
    assert runs.attempts == MAX_ATTEMPTS
