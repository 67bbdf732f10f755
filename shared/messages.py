"""Everything that crosses between a trigger, an orchestrator and an activity.

These dicts stay in histories, in clear, for as long as the histories are kept: they are a wire format. Add
optional keys only; any other change needs a new `defaultVersion` in host.json and a recorded history in
tests/histories/. Ids and names only: nothing in here may ever be able to hold a SAS, a token, a URL or a key.

Every answer but the counts of a fan-out carries `status`, a literal to switch on, by which mypy narrows the union.
"""

from typing import Literal, NotRequired, TypedDict

Outcome = Literal[
    "landed", "unchanged", "no_data", "cancelled", "superseded", "incomplete", "failed", "timed_out"
]


FAILED_OUTCOMES: frozenset[Outcome] = frozenset({"incomplete", "failed", "timed_out"})


class Limits(TypedDict):
    """What orchestrators decide by; copied from the settings when a run starts, so that a replay sees the same."""

    deadline: str  # ISO 8601, UTC
    max_rounds: int  # how often a run goes round before it is called incomplete
    max_concurrent_pages: int
    poll_min_seconds: int


class RunRequest(TypedDict):
    run_id: str
    key: str  # "unbilled_usage/2026-11/USD/full"
    force: bool
    limits: Limits
    requested_by: NotRequired[str]
    reason: NotRequired[str]
    cycle_id: NotRequired[str]
    retry_of: NotRequired[str]


class ClaimRequest(RunRequest):
    """The input of claim_run: the run, and the instance id under which the engine really runs it."""

    instance_id: str


class OperationRequest(RunRequest):
    """The input of export_operation, start_export and check_operation; what continue_as_new carries on."""

    operation_id: str | None
    attempt: int


class RunResult(TypedDict):
    """The output of export_run."""

    outcome: Outcome
    code: NotRequired[str]
    version: NotRequired[str]
    live_run_id: NotRequired[str]


class WaitingResult(TypedDict):
    """Not yet. Ask the same thing again later; None when no Retry-After was sent."""

    status: Literal["waiting"]
    retry_after_seconds: int | None


class RefusedResult(TypedDict):
    """Never. The code is an entry of shared/errors.py."""

    status: Literal["refused"]
    code: str


class OperationGoneResult(TypedDict):
    """The operation is not known any more; the next start_export asks anew."""

    status: Literal["gone"]


class CancelledResult(TypedDict):
    """Somebody asked for the end; the mark in the run row is read by every activity before it begins new work."""

    status: Literal["cancelled"]


class ClaimedResult(TypedDict):
    """The key is this run's."""

    status: Literal["claimed"]


class SupersededResult(TypedDict):
    """Another run holds the key: it was there first, or it took over a run that seemed dead."""

    status: Literal["superseded"]
    live_run_id: str


class EndedResult(TypedDict):
    """The run row has an outcome already: a restart or a rewind of a run that is over."""

    status: Literal["ended"]
    result: RunResult


class StartedResult(TypedDict):
    status: Literal["started"]
    operation_id: str


class SucceededResult(TypedDict):
    status: Literal["succeeded"]
    operation_id: str


class NoDataResult(TypedDict):
    status: Literal["no_data"]
    code: NotRequired[str]  # "month_not_open": Microsoft answered with another month


class TimedOutResult(TypedDict):
    """Still waiting at the first look after the deadline."""

    status: Literal["timed_out"]


class PlannedResult(TypedDict):
    status: Literal["planned"]
    plan: int  # the round's number, from 1: where the pages lie
    version: str
    pages: int
    blobs: int


class UnchangedResult(TypedDict):
    status: Literal["unchanged"]
    version: str


class LandedResult(TypedDict):
    status: Literal["landed"]
    version: str


class BlobsMissingResult(TypedDict):
    status: Literal["missing"]
    blobs: int


ClaimResult = ClaimedResult | EndedResult | RefusedResult | CancelledResult | SupersededResult
StoppedResult = (
    CancelledResult | SupersededResult | EndedResult
)  # what any activity may find instead of work
StartResult = StartedResult | WaitingResult | RefusedResult | StoppedResult
CheckResult = (
    SucceededResult
    | WaitingResult
    | NoDataResult
    | OperationGoneResult
    | RefusedResult
    | StoppedResult
)
OperationResult = SucceededResult | NoDataResult | RefusedResult | TimedOutResult | StoppedResult
PlanResult = (
    PlannedResult
    | UnchangedResult
    | NoDataResult
    | OperationGoneResult
    | WaitingResult
    | RefusedResult
    | StoppedResult
)
CommitResult = LandedResult | BlobsMissingResult | RefusedResult | StoppedResult


class VersionRequest(TypedDict):
    """The input of plan_copy and commit_version."""

    run_id: str
    operation_id: str
    plan: int


class PageRequest(TypedDict):
    run_id: str
    plan: int
    page: int


class PageContentResult(TypedDict):
    version: str
    batches: list[
        list[str]
    ]  # names not landed yet, at most 100 in all; one a batch in small exports, up to 10 in big ones


class CopyRequest(TypedDict):
    run_id: str
    plan: int
    version: str
    names: list[str]


class CopyResult(TypedDict):
    """Counts only: each blob's fate is in its ledger row."""

    landed: int
    failed: int
    retry_after_seconds: int  # 0 = storage did not ask for a pause


class PageCopyResult(TypedDict):
    landed: int
    failed: int
    retry_after_seconds: int


class OutcomeRequest(RunResult):
    """The input of record_outcome."""

    run_id: str


class CycleRequest(TypedDict):
    """The input of export_cycle and plan_exports. `tick` is the moment the cycle serves, ISO 8601, UTC.

    `last_try`: plan with the invoices that are known already if the list cannot be had now.
    """

    cycle_id: str
    tick: str
    last_try: NotRequired[bool]


class PlannedRun(TypedDict):
    """`start_after_seconds`: not before so long after its lane began, so that not everything asks Microsoft at once."""

    run_id: str
    key: str
    start_after_seconds: NotRequired[int]


class LaneLimits(TypedDict):
    """Limits without a deadline: a lane sets that when it starts a run."""

    deadline_hours: float
    max_rounds: int
    max_concurrent_pages: int
    poll_min_seconds: int


class CyclePlannedResult(TypedDict):
    """The output of plan_exports and plan_backfill: what is due, dealt into lanes that run side by side."""

    status: Literal["planned"]
    lanes: list[list[PlannedRun]]
    limits: LaneLimits
    requested_by: str


CyclePlanResult = CyclePlannedResult | WaitingResult


class LaneRequest(TypedDict):
    """The input of cycle_lane and, with the backfill's id as cycle_id, of backfill_lane."""

    cycle_id: str
    requested_by: str
    runs: list[PlannedRun]
    limits: LaneLimits


class LaneResult(TypedDict):
    ended: int
    failed: int


class CycleResult(TypedDict):
    """The output of summarize_cycle and export_cycle: how many runs ended how."""

    outcomes: dict[str, int]
    runs: int


class BackfillRequest(TypedDict):
    """The input of backfill and plan_backfill: months as `2026-11`, both included."""

    backfill_id: str
    first_month: str
    last_month: str
    datasets: list[str]
    last_try: NotRequired[bool]


class BackfillStatusRequest(TypedDict):
    """The input of check_backfill and summarize_backfill."""

    backfill_id: str


class ContinueResult(TypedDict):
    status: Literal["go_on"]


BackfillStatusResult = ContinueResult | CancelledResult


class TieOutRequest(TypedDict):
    """The input of tie_out."""

    run_id: str


class TieOutResult(TypedDict):
    """A landed invoice's sum against its listed total. `code`: why there is nothing to compare."""

    status: Literal["tied_out", "off_by", "no_total"]
    difference: NotRequired[str]
    code: NotRequired[str]


class RetentionRequest(TypedDict):
    """The input of retention. `day` is what it serves; the others what continue_as_new carries on, {} at first."""

    day: str  # yyyy-mm-dd
    done: NotRequired[dict[str, int]]
    cursor: NotRequired[list[str]]


class PruneRequest(TypedDict):
    """The input of prune_versions: where in the catalogue to go on; [] = at its beginning."""

    cursor: list[str]


class PurgeRequest(TypedDict):
    """The input of purge_history and prune_plans."""

    day: str


class RetentionResult(TypedDict):
    """One bounded step. `cursor`: of prune_versions, where to go on; `more`: the same step again."""

    more: bool
    cursor: list[str]
    removed: int
