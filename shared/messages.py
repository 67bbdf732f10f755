"""The messages between triggers, orchestrators and activities.

These dictionaries remain in the orchestration history in plain text for as long as the history is
kept, so they are a wire format: add optional keys only. Any other change requires a new
`defaultVersion` in host.json and a recorded history in tests/histories/. They contain only IDs and
names, and must never be able to contain a SAS, a token, a URL or a key.

Except for the counts of a fan-out, every result has a literal `status`, by which mypy narrows the
union.
"""

from typing import Literal, NotRequired, TypedDict

Outcome = Literal[
    "landed",
    "unchanged",
    "no_data",
    "cancelled",
    "superseded",
    "incomplete",
    "failed",
    "timed_out",
]
OperationStep = Literal["start", "poll", "plan"]
FAILED_OUTCOMES: frozenset[Outcome] = frozenset({"incomplete", "failed", "timed_out"})


def attempt_id(item_id: str, attempt: str) -> str:
    """Return the ID of another orchestration instance of a run, a cycle or a backfill.

    >>> attempt_id("cycle-20261108t093700z", "restart-1")
    'cycle-20261108t093700z~restart-1'
    """
    return f"{item_id}~{attempt}"


class Limits(TypedDict):
    """The limits of a run, copied from the settings when it starts: a replay sees the same."""

    deadline: str  # ISO 8601, UTC
    max_rounds: int  # after that, the run is incomplete
    max_concurrent_pages: int


class RunRequest(TypedDict):
    """The input of export_run."""

    run_id: str
    key: str  # "unbilled_usage/2026-11/USD/full"
    force: bool
    limits: Limits
    requested_by: NotRequired[str]
    reason: NotRequired[str]
    cycle_id: NotRequired[str]
    retry_of: NotRequired[str]


class ClaimRequest(RunRequest):
    """The input of claim_run: the run, and the ID of the orchestration instance that runs it."""

    instance_id: str


class RunStatusRequest(TypedDict):
    """The input of check_run."""

    run_id: str


class RunStatusResult(TypedDict):
    """Whether the outcome of a run is recorded; a run without a row is open."""

    status: Literal["open", "ended"]


class OperationRequest(RunRequest):
    """The input of export_operation, start_export, check_operation and plan_copy.

    `step` is the next activity, and `attempt` is the number of its waits so far.
    """

    plan: int  # the number of the round, from 1; the folder of the pages
    step: OperationStep
    operation_id: str | None
    attempt: int


class RunResult(TypedDict):
    """The output of export_run."""

    outcome: Outcome
    code: NotRequired[str]
    version: NotRequired[str]
    live_run_id: NotRequired[str]


class WaitingResult(TypedDict):
    """Repeat the same request after `wait_seconds`. The activity has recorded this wait."""

    status: Literal["waiting"]
    wait_seconds: int


class RefusedResult(TypedDict):
    """The request cannot succeed. The code is an entry of shared/errors.py."""

    status: Literal["refused"]
    code: str


class OperationGoneResult(TypedDict):
    """The operation is unknown or unusable: request a new one, after `wait_seconds`."""

    status: Literal["gone"]
    wait_seconds: int


class CancelledResult(TypedDict):
    """A user has cancelled the run. Every activity reads this from the run row before it starts."""

    status: Literal["cancelled"]


class ClaimedResult(TypedDict):
    """The run holds its key."""

    status: Literal["claimed"]


class SupersededResult(TypedDict):
    """Another run holds the key: it was first, or it took over from a run that seemed orphaned."""

    status: Literal["superseded"]
    live_run_id: str


class EndedResult(TypedDict):
    """The run already has an outcome: its orchestration was restarted or rewound."""

    status: Literal["ended"]
    result: RunResult


class StartedResult(TypedDict):
    """Microsoft has accepted the export request. The first poll follows after `wait_seconds`."""

    status: Literal["started"]
    operation_id: str
    wait_seconds: int


class SucceededResult(TypedDict):
    """The export is ready, and its manifest can be read."""

    status: Literal["succeeded"]
    operation_id: str


class NoDataResult(TypedDict):
    """Microsoft has no data.

    With `month_not_open`, it returned data that is not confirmed to be of the requested month.
    """

    status: Literal["no_data"]
    code: NotRequired[str]


class TimedOutResult(TypedDict):
    """The deadline of the run has passed, and the run would have to wait again."""

    status: Literal["timed_out"]


class PlannedResult(TypedDict):
    """The blobs that are missing, as pages in the landing."""

    status: Literal["planned"]
    plan: int  # the number of the round, from 1; the folder of the pages
    version: str
    pages: int
    blobs: int


class UnchangedResult(TypedDict):
    """The version has already landed."""

    status: Literal["unchanged"]
    version: str


class LandedResult(TypedDict):
    """The version is complete and proven."""

    status: Literal["landed"]
    version: str


class BlobsMissingResult(TypedDict):
    """Some blobs have not landed. The next round starts after `wait_seconds`."""

    status: Literal["missing"]
    blobs: int
    wait_seconds: int


StoppedResult = CancelledResult | SupersededResult | EndedResult  # why an activity does not work
ClaimResult = ClaimedResult | RefusedResult | StoppedResult
StartResult = StartedResult | WaitingResult | TimedOutResult | RefusedResult | StoppedResult
CheckResult = (
    SucceededResult
    | WaitingResult
    | TimedOutResult
    | NoDataResult
    | OperationGoneResult
    | RefusedResult
    | StoppedResult
)
OperationResult = (
    PlannedResult | UnchangedResult | NoDataResult | RefusedResult | TimedOutResult | StoppedResult
)
PlanResult = OperationResult | OperationGoneResult | WaitingResult
CommittedResult = (
    LandedResult
    | BlobsMissingResult
    | NoDataResult
    | TimedOutResult
    | RefusedResult
    | StoppedResult
)
CommitResult = CommittedResult | WaitingResult


class CommitRequest(TypedDict):
    """The input of commit_version.

    `retry_after_seconds` is the longest wait that storage requested during the copy, or 0. After
    the last round, the run does not wait for missing blobs. `attempt` is the number of waits for
    the landing account so far.
    """

    run_id: str
    plan: int
    is_last_round: bool
    retry_after_seconds: int
    attempt: int


class PageRequest(TypedDict):
    """The input of page_copy and read_page."""

    run_id: str
    plan: int
    page: int


class PageContentResult(TypedDict):
    """The output of read_page: the names of blobs that have not landed, at most 100.

    A batch contains one name in small exports and up to ten in large ones.
    """

    version: str
    batches: list[list[str]]


class CopyRequest(TypedDict):
    """The input of copy_blobs."""

    run_id: str
    plan: int
    version: str
    names: list[str]


class CopyResult(TypedDict):
    """The output of copy_blobs: counts only. The result of each blob is in its ledger row."""

    landed: int
    failed: int
    retry_after_seconds: int  # 0: storage requested no wait


class PageCopyResult(TypedDict):
    """The output of page_copy."""

    landed: int
    failed: int
    retry_after_seconds: int


class OutcomeRequest(RunResult):
    """The input of record_outcome."""

    run_id: str


class CycleRequest(TypedDict):
    """The input of export_cycle, plan_exports and summarize_cycle.

    `tick` is the scheduled time, in ISO 8601 and UTC. In its last attempt, plan_exports uses the
    invoices that are already known if the list is not available.
    """

    cycle_id: str
    tick: str
    attempt: NotRequired[int]
    is_last_attempt: NotRequired[bool]


class PlannedRun(TypedDict):
    """A run of a lane. `start_after_seconds` is measured from the start of the lane.

    It spreads the requests to Microsoft over time.
    """

    run_id: str
    key: str
    start_after_seconds: NotRequired[int]


class LaneLimits(TypedDict):
    """The limits of the runs of a lane, which sets the deadline when it starts a run."""

    deadline_hours: float
    max_rounds: int
    max_concurrent_pages: int


class CyclePlannedResult(TypedDict):
    """The runs that are due, divided into lanes that run concurrently."""

    status: Literal["planned"]
    lanes: list[list[PlannedRun]]
    limits: LaneLimits
    requested_by: str


CyclePlanResult = CyclePlannedResult | WaitingResult  # of plan_exports and plan_backfill


class LaneRequest(TypedDict):
    """The input of cycle_lane and backfill_lane.

    For a backfill, `cycle_id` is the ID of the backfill.
    """

    cycle_id: str
    requested_by: str
    runs: list[PlannedRun]
    limits: LaneLimits


class LaneResult(TypedDict):
    """The output of cycle_lane and backfill_lane: numbers of runs."""

    ended: int
    failed: int


class CycleResult(TypedDict):
    """The output of a cycle or a backfill: the number of runs, in total and by outcome."""

    outcomes: dict[str, int]
    runs: int


class BackfillRequest(TypedDict):
    """The input of backfill and plan_backfill.

    Months have the format `2026-11`; the range includes both.
    """

    backfill_id: str
    first_month: str
    last_month: str
    datasets: list[str]
    attempt: NotRequired[int]
    is_last_attempt: NotRequired[bool]


class BackfillStatusRequest(TypedDict):
    """The input of check_backfill and summarize_backfill."""

    backfill_id: str


class ContinueResult(TypedDict):
    """The backfill can start its next run."""

    status: Literal["continue"]


BackfillStatusResult = ContinueResult | CancelledResult


class TieOutRequest(TypedDict):
    """The input of tie_out."""

    run_id: str


class TieOutResult(TypedDict):
    """The sum of the lines of an invoice, compared with its listed total.

    `code` states why there is nothing to compare.
    """

    status: Literal["tied_out", "off_by", "no_total"]
    difference: NotRequired[str]
    code: NotRequired[str]


class RetentionRequest(TypedDict):
    """The input of retention. `done` and `cursor` are set by continue_as_new."""

    day: str  # yyyy-mm-dd
    done: NotRequired[dict[str, int]]
    cursor: NotRequired[list[str]]


class PruneRequest(TypedDict):
    """The input of prune_versions. The cursor is a position in the catalogue; [] is its start."""

    cursor: list[str]


class PurgeRequest(TypedDict):
    """The input of purge_history, prune_plans and compare_invoices."""

    day: str


class RetentionResult(TypedDict):
    """The result of one step.

    If `more` is true, the step is repeated; prune_versions continues at `cursor`. `removed` is the
    number of removed objects, or the number of reports that compare_invoices has published.
    """

    more: bool
    cursor: list[str]
    removed: int
