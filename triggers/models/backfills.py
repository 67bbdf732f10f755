"""Backfills and gaps."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Self, get_args

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
)

from shared.clock import iso, parse_iso
from shared.exports import BillingMonth, Dataset, parse_dataset
from shared.invoices import read_left_out
from shared.ledger.backfills import Backfill
from shared.ledger.runs import Run
from shared.messages import FAILED_OUTCOMES
from shared.planning.gaps import FIRST_SERVED, MAX_MONTHS, Gap, State, months_between
from triggers.models.base import (
    CodeFields,
    Count,
    DatasetName,
    Month,
    MonthParameter,
    OptionalOutcome,
    OptionalText,
    OptionalTimestamp,
    RequestModel,
    ResponseModel,
    Restarts,
    RunId,
    explain,
    get_now,
)
from triggers.models.cycles import LeftOutResponse, Outcome, get_outcome

MAX_DATASETS = 20
GapState = Annotated[str, Field(json_schema_extra={"enum": list(get_args(State))})]


@dataclass(frozen=True)
class Span:
    """A range of months, both ends included, and datasets without duplicates."""

    first: BillingMonth
    last: BillingMonth
    datasets: tuple[Dataset, ...]


def _parse_datasets(values: list[str]) -> list[str]:
    return list(dict.fromkeys(parse_dataset(value) for value in values))


Datasets = Annotated[
    list[DatasetName],
    AfterValidator(_parse_datasets),
    Field(min_length=1, max_length=MAX_DATASETS),
]


def _check_month(value: str, info: ValidationInfo) -> str:
    current = BillingMonth.of(get_now(info))
    if not FIRST_SERVED <= BillingMonth.parse(value) <= current:
        raise ValueError(f"must be from {FIRST_SERVED} to {current}")
    return value


def _check_order(value: str, info: ValidationInfo) -> str:
    if (start := info.data.get("first")) is None:  # the first month itself is invalid
        return value
    first, last = BillingMonth.parse(start), BillingMonth.parse(value)
    if last < first:
        raise ValueError(f"must not be before `from`, {first}")
    if len(months_between(first, last)) > MAX_MONTHS:
        raise ValueError(f"must be within {MAX_MONTHS} months of `from`")
    return value


def _split(value: object) -> object:
    return [part.strip() for part in value.split(",")] if isinstance(value, str) else value


FirstMonth = Annotated[MonthParameter, AfterValidator(_check_month)]
LastMonth = Annotated[FirstMonth, AfterValidator(_check_order)]


class StartBackfillRequest(RequestModel):
    """The months and datasets to backfill."""

    first: FirstMonth = Field(alias="from", description="First month.")
    last: LastMonth = Field(alias="to", description="Last month.")
    datasets: Datasets = Field(
        default_factory=list, description="Default: the datasets in EXPORT_DATASETS."
    )


class GapsQuery(RequestModel):
    """The range of the gaps report."""

    first: FirstMonth = Field(
        default="",
        validate_default=True,
        alias="from",
        description="First month. Default: one year before the current month.",
    )
    last: LastMonth = Field(
        default="",
        validate_default=True,
        alias="to",
        description="Last month. Default: the current month.",
    )
    datasets: Annotated[Datasets, BeforeValidator(_split), WithJsonSchema({"type": "string"})] = (
        Field(
            default_factory=list,
            description="Comma-separated list. Default: the datasets in EXPORT_DATASETS.",
        )
    )

    @field_validator("first", "last", mode="before")
    @classmethod
    def _set_default(cls, value: object, info: ValidationInfo) -> object:
        if value != "":
            return value
        month = BillingMonth.of(get_now(info))
        if info.field_name == "first":
            month = BillingMonth(month.year - 1, month.month)
        return str(month)


class BackfillRun(ResponseModel):
    """A run of a backfill."""

    run_id: RunId
    key: str
    stage: str
    outcome: OptionalOutcome
    code: OptionalText

    @classmethod
    def from_row(cls, run: Run) -> Self:
        """Return the response for a run row."""
        return cls(
            run_id=run.run_id, key=run.key, stage=run.stage, outcome=run.outcome, code=run.code
        )


class BackfillResponse(CodeFields):
    """A backfill and its progress."""

    backfill_id: str
    state: str = Field(description="starting, running, ended or failed.")
    first: Month = Field(alias="from")
    last: Month = Field(alias="to")
    datasets: list[DatasetName]
    requested_by: OptionalText
    started_at: OptionalTimestamp
    ended_at: OptionalTimestamp
    cancel_requested_at: OptionalTimestamp
    next_check_at: OptionalTimestamp = Field(
        description="When the backfill requests the invoice list again, while it waits for it."
    )
    restarts: Restarts
    planned: Count = Field(description="Number of export keys in the range.")
    landed: Count
    landed_before: Count = Field(description="Landed keys that did not need a run.")
    no_data: Count
    not_served: Count
    failed: Count
    waiting: Count = Field(description="Runs that have not ended yet.")
    estimated_end: OptionalTimestamp
    outcome: Outcome
    left_out: list[LeftOutResponse]
    outcomes: dict[str, Count] = Field(description="Number of runs by outcome.")
    runs: list[BackfillRun]

    @classmethod
    def from_row(cls, backfill: Backfill, runs: Sequence[Run], now: datetime) -> Self:
        """Return the response for a backfill row and the rows of its runs."""
        ended = [run for run in runs if run.outcome]
        left_out = read_left_out(backfill.left_out)
        waiting = 0 if backfill.is_over else len(backfill.runs) - len(ended)
        landed_before = backfill.settled.get("landed", 0)
        not_served = sum(run.code == "not_served" for run in ended)
        failed = sum(run.outcome in FAILED_OUTCOMES and run.code != "not_served" for run in ended)
        return cls(
            backfill_id=backfill.backfill_id,
            state=backfill.state,
            first=backfill.first_month,
            last=backfill.last_month,
            datasets=backfill.datasets,
            requested_by=backfill.requested_by,
            started_at=backfill.started_at,
            ended_at=backfill.ended_at,
            cancel_requested_at=backfill.cancel_requested_at,
            next_check_at=backfill.next_check_at,
            restarts=backfill.restarts,
            **explain(backfill.code),
            planned=len(backfill.runs) + sum(backfill.settled.values()),
            landed=landed_before + sum(run.outcome in ("landed", "unchanged") for run in ended),
            landed_before=landed_before,
            no_data=sum(run.outcome == "no_data" for run in ended),
            not_served=not_served + backfill.settled.get("not_served", 0),
            failed=failed,
            waiting=waiting,
            estimated_end=_estimate_end(backfill, ended, waiting, now),
            outcome=get_outcome(backfill.state, backfill.outcomes, left_out),
            left_out=[LeftOutResponse.from_plan(item) for item in left_out],
            outcomes=backfill.outcomes,
            runs=[BackfillRun.from_row(run) for run in runs],
        )


def _estimate_end(
    backfill: Backfill, ended: Sequence[Run], waiting: int, now: datetime
) -> str | None:
    """Extrapolate from the pace of the runs that have ended.

    The estimate, and with it the ETag, changes when a run ends, not with the time of the request,
    unless the estimated time has passed. None if no run has ended or all have.
    """
    if not ended or not waiting or not backfill.started_at:
        return None
    started = parse_iso(backfill.started_at)
    last_end = max(parse_iso(run.ended_at) for run in ended)
    estimate = last_end + (last_end - started) / len(ended) * waiting
    if estimate <= now:
        estimate = now + (now - started) / len(ended) * waiting
    return iso(estimate.replace(microsecond=0))


class GapKey(ResponseModel):
    """The state of an export key."""

    key: str
    state: GapState
    code: OptionalText


class GapResponse(ResponseModel):
    """The state of a dataset in a month."""

    dataset: DatasetName
    billing_month: Month
    state: GapState = Field(description="The worst state of its keys.")
    keys: list[GapKey]

    @classmethod
    def from_gap(cls, gap: Gap) -> Self:
        """Return the response for a gap."""
        keys = [GapKey(key=str(key), state=state, code=code) for key, state, code in gap.keys]
        return cls(dataset=gap.dataset, billing_month=str(gap.month), state=gap.state, keys=keys)


class GapsResponse(ResponseModel):
    """The state of each dataset in each month of a range."""

    first: Month = Field(alias="from")
    last: Month = Field(alias="to")
    gaps: list[GapResponse]

    @classmethod
    def from_gaps(cls, span: Span, gaps: Iterable[Gap]) -> Self:
        """Return the response for a range."""
        return cls(
            first=str(span.first),
            last=str(span.last),
            gaps=[GapResponse.from_gap(gap) for gap in gaps],
        )


def get_span(request: StartBackfillRequest | GapsQuery, datasets: Iterable[Dataset]) -> Span:
    """Return the range of a request; `datasets` is used if the request names none."""
    selected = [Dataset(name) for name in request.datasets] if request.datasets else datasets
    first, last = BillingMonth.parse(request.first), BillingMonth.parse(request.last)
    return Span(first, last, tuple(selected))
