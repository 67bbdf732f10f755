"""Cycles and dry runs of cycles."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, Self

from pydantic import Field

from shared.clock import iso
from shared.exports import ExportKey
from shared.invoices import LeftOut, read_left_out
from shared.ledger.cycles import Cycle
from shared.planning.due import PlanOutcome, get_plan_outcome
from triggers.models.base import (
    CodeFields,
    Count,
    OptionalRunId,
    OptionalText,
    OptionalTimestamp,
    RequestModel,
    ResponseModel,
    Restarts,
    Timestamp,
    explain,
)
from triggers.models.runs import RunResponse


class StartCycleRequest(RequestModel):
    """The options of a cycle."""

    dry_run: bool = Field(
        default=False, description="Return the requests of a cycle without starting it."
    )


class LeftOutResponse(CodeFields):
    """An invoice, or the whole invoice list, that is not exported."""

    invoice_id: OptionalText

    @classmethod
    def from_plan(cls, left_out: LeftOut) -> Self:
        """Return the response for an item of a plan."""
        return cls(**explain(left_out.code), invoice_id=left_out.invoice_id)


Outcome = Annotated[
    PlanOutcome | None,
    Field(
        description="complete: every run ended without a failure, and nothing that can have data "
        "was left out. null until the end."
    ),
]


class StalledKey(ResponseModel):
    """An unbilled export key of the current month whose data Microsoft no longer updates."""

    key: str
    stalled_since: Timestamp

    @classmethod
    def of(cls, key: ExportKey, since: datetime) -> Self:
        """Return the response for a key."""
        return cls(key=str(key), stalled_since=iso(since))


class CycleFields(CodeFields):
    """The fields of a cycle without its runs."""

    cycle_id: str
    state: str = Field(description="starting, running, ended or failed.")
    tick: str
    requested_by: OptionalText
    started_at: OptionalTimestamp
    ended_at: OptionalTimestamp
    next_check_at: OptionalTimestamp = Field(
        description="When the cycle requests the invoice list again, while it waits for it."
    )
    restarts: Restarts
    outcomes: dict[str, Count] = Field(description="Number of runs by outcome.")
    outcome: Outcome
    left_out: list[LeftOutResponse]


def _fields_of(cycle: Cycle) -> dict[str, Any]:
    left_out = read_left_out(cycle.left_out)
    names = CycleFields.model_fields.keys() - {*CodeFields.model_fields, "outcome", "left_out"}
    return {
        **{name: getattr(cycle, name) for name in names},
        **explain(cycle.code),
        "outcome": get_outcome(cycle.state, cycle.outcomes, left_out),
        "left_out": [LeftOutResponse.from_plan(item) for item in left_out],
    }


def get_outcome(
    state: str, outcomes: Mapping[str, int], left_out: Sequence[LeftOut]
) -> PlanOutcome | None:
    """Return the outcome of a cycle or a backfill, or None until it ends."""
    match state:
        case "ended":
            return get_plan_outcome(outcomes, left_out)
        case "failed":
            return "incomplete"
    return None


class CycleSummaryResponse(CycleFields):
    """A cycle with the number of its runs."""

    runs: Count

    @classmethod
    def from_row(cls, cycle: Cycle) -> Self:
        """Return the response for a cycle row."""
        return cls(**_fields_of(cycle), runs=len(cycle.runs))


class CycleResponse(CycleFields):
    """A cycle with its runs."""

    runs: list[RunResponse]
    stalled: list[StalledKey]

    @classmethod
    def from_row(
        cls, cycle: Cycle, runs: Iterable[RunResponse] = (), stalled: Iterable[StalledKey] = ()
    ) -> Self:
        """Return the response for a cycle row."""
        return cls(
            **_fields_of(cycle),
            runs=list(runs),
            stalled=list(stalled),
        )


class PlannedRequest(ResponseModel):
    """The first request that a run would send to Microsoft Graph."""

    key: str
    method: str
    path: str
    body: dict[str, Any]
    live_run_id: OptionalRunId = Field(description="The run that holds the export key now.")


class NotDueKey(ResponseModel):
    """An export key that the cycle would not request."""

    key: str
    next_due_at: Timestamp


class CycleDryRunResponse(ResponseModel):
    """What a cycle would request if it started now."""

    dry_run: bool
    tick: Timestamp
    base_url: str
    requests: list[PlannedRequest]
    not_due: list[NotDueKey]
    left_out: list[LeftOutResponse]
