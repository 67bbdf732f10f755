"""The status of the app."""

from typing import Self

from pydantic import Field

from shared.ledger.locks import Lock
from shared.ledger.runs import Run
from triggers.models.base import OptionalText, OptionalTimestamp, ResponseModel, Timestamp
from triggers.models.catalogue import CatalogueEntryResponse
from triggers.models.cycles import CycleSummaryResponse


class LiveRun(ResponseModel):
    """A run that holds an export key."""

    run_id: str
    key: str
    stage: str
    task_hub: str = Field(description="The task hub of the run.")
    started_at: OptionalText
    next_check_at: OptionalTimestamp
    cancel_requested_at: OptionalTimestamp
    lease_until: Timestamp = Field(
        description="When a run of another task hub counts as lost, unless it extends its lease."
    )

    @classmethod
    def from_row(cls, lock: Lock, run: Run | None) -> Self:
        """Return the response for a lock; `run` is None until the run has a row."""
        return cls(
            run_id=lock.run_id,
            key=lock.key,
            stage=run.stage if run else "starting",
            task_hub=lock.hub,
            started_at=run.started_at if run else None,
            next_check_at=run.next_check_at if run else None,
            cancel_requested_at=run.cancel_requested_at if run else None,
            lease_until=lock.lease_until,
        )


class LastLanded(ResponseModel):
    """For each dataset, the export key whose data landed last, or null."""

    billed_usage: CatalogueEntryResponse | None
    unbilled_usage: CatalogueEntryResponse | None
    billed_reconciliation: CatalogueEntryResponse | None
    unbilled_reconciliation: CatalogueEntryResponse | None


class StatusResponse(ResponseModel):
    """The schedule, the live runs, what landed last, what is damaged and the installed versions."""

    now: Timestamp
    schedule: str = Field(description="EXPORT_SCHEDULE, in UTC.")
    next_tick_at: OptionalTimestamp
    last_cycle: CycleSummaryResponse | None
    live_runs: list[LiveRun]
    last_landed: LastLanded
    damaged: list[CatalogueEntryResponse] = Field(
        description="The export keys whose newest landed version is damaged."
    )
    task_hub: str
    versions: dict[str, str | None]
