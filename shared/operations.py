"""The export operation of a run: request it from Microsoft Graph, poll it, abandon it.

Every method is idempotent: it reads the run row first, and the first writer wins. Microsoft offers
no way to find out whether a POST request without a response took effect, so each request counts as
unconfirmed before it is sent, until Graph accepts or rejects it. A run sends no further request
after MAX_OPERATIONS requests that took effect or may have taken effect.
"""

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from shared.clock import iso, parse_iso
from shared.errors import (
    BillingExportError,
    InvalidDataError,
    MalformedManifestError,
    OperationGoneError,
    TransientError,
    UnavailableError,
)
from shared.exports import BillingMonth, MonthScope, period_word
from shared.graph.throttled_client import RequestNotSentError, ThrottledGraphClient
from shared.ledger.ledger import Ledger
from shared.ledger.runs import Run
from shared.messages import (
    CheckResult,
    OperationGoneResult,
    RefusedResult,
    StartedResult,
    StartResult,
    StoppedResult,
    TimedOutResult,
    WaitingResult,
)
from shared.optimistic_concurrency import CONFLICT, Conflict, update
from shared.planning.waits import (
    UNCONFIRMED_POST_WAITS_SECONDS,
    default_wait_seconds,
    get_next_check_columns,
    remaining_seconds,
    start_wait,
    wait_seconds,
)
from shared.settings import Settings
from shared.telemetry import emit_event

if TYPE_CHECKING:
    from shared.graph.client import ExportAccepted

MAX_OPERATIONS = 3
# A new resource is not visible everywhere at once, so a 404 response does not yet mean that it is
# gone. For the operation, this applies only while it is young.
MAX_NOT_FOUND_WAITS = 3
VISIBLE_WITHIN = timedelta(minutes=10)
# Once Graph has accepted a request of the run, a rejected token is a temporary fault at first.
DENIED_CODES = frozenset({"graph_unauthorized", "graph_forbidden"})
MAX_DENIED_TIME = timedelta(hours=1)
# 5xx statuses with which a service states that it has not handled the request.
REJECTING_STATUSES = frozenset({501, 503, 509})
# Why a run has no operation after MAX_OPERATIONS requests.
ABANDONED_CODES = frozenset(
    {"operation_gone", "operation_failed", "manifest_gone", "manifest_malformed"}
)
# Written after each response that Graph sends to an authorized request for a visible resource.
SUCCESS_COLUMNS: dict[str, str | int] = {"denied_since": "", "not_found": 0}


class ExportOperations:
    """The operations of all runs. `attempt` is the number of waits of the current step so far."""

    def __init__(self, settings: Settings, ledger: Ledger, graph: ThrottledGraphClient) -> None:
        self._settings, self._ledger, self._graph = settings, ledger, graph

    async def start(self, run_id: str, attempt: int) -> StartResult:
        """Request the export of a run, unless the run already has an operation."""
        run = await self._ledger.holding(run_id)
        if not isinstance(run, Run):
            return run
        if run.operation_id:
            return await self._get_started(run)
        if run.operations + run.unconfirmed_posts >= MAX_OPERATIONS:
            return self._get_exhausted(run)
        now, scope = self._ledger.clock.now(), run.export_key.scope
        if isinstance(scope, MonthScope):
            if period_word(scope.month, now) is None:
                return {"status": "refused", "code": "not_served"}
            if seconds := seconds_to_leave_boundary(now, self._settings.month_boundary_minutes):
                return await self._delay_start(run, attempt, seconds)
        try:
            await self._graph.raise_if_throttled()
        except RequestNotSentError as error:
            return await self._delay_start(run, attempt, error.retry_after_seconds)
        return await self._post(run, attempt)

    async def poll(self, run_id: str, operation_id: str | None, attempt: int) -> CheckResult:
        """Poll the operation once and record what it returned."""
        # The Graph client is imported on first use, because it makes a cold start slower.
        from shared.graph.client import OperationFailed, OperationSucceeded

        run = await self.get_run(run_id, operation_id)
        if not isinstance(run, Run):
            return run
        try:
            state = await self._graph.get_operation(run.operation_id)
        except BillingExportError as error:
            is_sent = not isinstance(error, RequestNotSentError)
            return await self.handle_error(run, error, attempt, polls=run.polls + is_sent)
        columns: dict[str, Any] = {
            "polls": run.polls + 1,
            "request_ids": run.with_request_id(state.request_id),
            **SUCCESS_COLUMNS,
        }
        if isinstance(state, OperationSucceeded):
            await self._ledger.runs.merge(
                run_id,
                stage="planning",
                next_check_at="",
                **run.get_wait_columns(self._ledger.clock.now()),
                **columns,
            )
            return {"status": "succeeded", "operation_id": run.operation_id}
        if isinstance(state, OperationFailed):
            await self._ledger.runs.merge(
                run_id, **run.get_wait_columns(self._ledger.clock.now()), **columns
            )
            if state.has_no_data:
                return {"status": "no_data"}
            return await self.abandon(run_id, run.operation_id, "operation_failed")
        return await self._delay(
            run, wait_seconds(state.retry_after_seconds, attempt + 1, self._minimum), **columns
        )

    async def get_run(
        self, run_id: str, operation_id: str | None
    ) -> Run | OperationGoneResult | StoppedResult:
        """Return the run if it can continue with this operation."""
        run = await self._ledger.holding(run_id)
        if isinstance(run, Run) and (operation_id is None or run.operation_id != operation_id):
            # An earlier attempt of the activity has abandoned it.
            return self._get_gone(run)
        return run

    async def handle_error(
        self,
        run: Run,
        error: BillingExportError,
        attempt: int,
        *,
        stage: str = "waiting",
        **columns: str | int,
    ) -> WaitingResult | TimedOutResult | OperationGoneResult | RefusedResult | StoppedResult:
        """Return what the run does after an error of a step that needs its operation.

        It waits and repeats the step, abandons the operation, or ends.
        """
        columns["request_ids"] = run.with_request_id(error.request_id)
        if isinstance(error, OperationGoneError | MalformedManifestError):
            if not self._is_possibly_visible_later(run, error):
                columns["detail"] = get_detail(error)
                return await self.abandon(run.run_id, run.operation_id, error.code, **columns)
            seconds = wait_seconds(None, run.not_found + 1, self._minimum)
            columns["not_found"] = run.not_found + 1
        elif isinstance(error, TransientError):
            seconds = wait_seconds(error.retry_after_seconds, attempt + 1, self._minimum)
        elif (denied_since := self._get_denied_since(run, error)) is not None:
            seconds = wait_seconds(None, attempt + 1, self._minimum)
            columns["denied_since"] = denied_since
        else:
            return await self._refuse(run, error, **columns)
        if not isinstance(error, RequestNotSentError):
            columns["last_code"] = error.code
        return await self._delay(run, seconds, stage=stage, attempt=attempt, **columns)

    async def abandon(
        self, run_id: str, operation_id: str, code: str, **columns: str | int
    ) -> OperationGoneResult | RefusedResult | TimedOutResult | StoppedResult:
        """Remove the operation from the run row, so that `start` requests a new one after a wait.

        The wait depends on the number of operations so far. After the last operation, the run ends.
        """
        ledger = self._ledger

        async def remove(
            current: Run | StoppedResult,
        ) -> OperationGoneResult | RefusedResult | TimedOutResult | StoppedResult | Conflict:
            if not isinstance(current, Run):
                return current
            if current.operation_id != operation_id:
                return self._get_gone(current)
            columns["last_code"] = code
            if not await ledger.runs.merge_if_unchanged(current, operation_id="", **columns):
                return CONFLICT
            if current.operations + current.unconfirmed_posts >= MAX_OPERATIONS:
                return {"status": "refused", "code": code}
            seconds = wait_seconds(None, current.operations, self._minimum)
            wait = await start_wait(ledger, current, seconds, stage="pausing")
            if wait["status"] == "timed_out":
                return wait
            return {"status": "gone", "wait_seconds": wait["wait_seconds"]}

        return await update(
            lambda: ledger.holding(run_id),
            remove,
            contended_code="run_contended",
            component="Run",
        )

    async def store(self, run_id: str, accepted: "ExportAccepted") -> StartResult:
        """Store the operation ID, unless another attempt has stored one, which then applies."""

        async def store(run: Run | StoppedResult) -> StartResult | Conflict:
            if not isinstance(run, Run):
                return run
            if run.operation_id:
                return await self._get_started(run)
            seconds = max(self._minimum, accepted.retry_after_seconds or 0)
            columns: dict[str, Any] = {
                "operation_id": accepted.operation_id,
                "operations": run.operations + 1,
                "unconfirmed_posts": max(0, run.unconfirmed_posts - 1),
                "not_found": 0,
                "detail": "",  # of the previous operation
                "request_ids": run.with_request_id(accepted.request_id),
                **SUCCESS_COLUMNS,
                **get_next_check_columns(run, self._ledger.clock.now(), seconds),
            }
            if not await self._ledger.runs.merge_if_unchanged(run, stage="waiting", **columns):
                return CONFLICT
            await self._ledger.extend_lease(run, seconds)
            emit_event(
                "operation_started",
                f"{run_id}/operation/{run.operations + 1}",
                run_id=run_id,
                key=run.key,
                posts=run.posts,
                operations=run.operations + 1,
                request_id=accepted.request_id,
            )
            return {
                "status": "started",
                "operation_id": accepted.operation_id,
                "wait_seconds": seconds,
            }

        return await update(
            lambda: self._ledger.holding(run_id),
            store,
            contended_code="run_contended",
            component="Run",
        )

    async def _post(self, run: Run, attempt: int) -> StartResult:
        """Send the POST request, after it is counted in the run row."""
        key, now = run.export_key, self._ledger.clock.now()
        period = period_word(key.scope.month, now) if isinstance(key.scope, MonthScope) else None
        await self._ledger.runs.merge(
            run.run_id,
            stage="posting",
            posts=run.posts + 1,
            unconfirmed_posts=run.unconfirmed_posts + 1,
            asked_period=period or "",
            asked_at=iso(now),
            **run.get_wait_columns(now),
        )
        try:
            accepted = await self._graph.start_export(key, period)
        except BillingExportError as error:
            return await self._handle_post_error(run, error, attempt)
        return await self.store(run.run_id, accepted)

    async def _handle_post_error(
        self, run: Run, error: BillingExportError, attempt: int
    ) -> StartResult:
        """Return what the run does after a POST request that returned no operation ID."""
        unconfirmed = run.unconfirmed_posts + may_have_taken_effect(error)
        columns: dict[str, str | int] = {
            "unconfirmed_posts": unconfirmed,
            "request_ids": run.with_request_id(error.request_id),
            "last_code": error.code,
        }
        if unconfirmed > run.unconfirmed_posts:
            if run.operations + unconfirmed >= MAX_OPERATIONS:
                await self._ledger.runs.merge(run.run_id, **columns)
                return {"status": "refused", "code": "export_unconfirmed"}
            seconds = default_wait_seconds(unconfirmed, UNCONFIRMED_POST_WAITS_SECONDS)
            if isinstance(error, TransientError):
                seconds = max(seconds, error.retry_after_seconds or 0)
            return await self._delay_start(run, attempt, seconds, **columns)
        if isinstance(error, TransientError):
            return await self._delay_start(run, attempt, error.retry_after_seconds, **columns)
        if (denied_since := self._get_denied_since(run, error)) is not None:
            columns["denied_since"] = denied_since
            return await self._delay_start(run, attempt, None, **columns)
        return await self._refuse(run, error, **columns)

    async def _refuse(
        self, run: Run, error: BillingExportError, **columns: str | int
    ) -> RefusedResult:
        columns["last_code"] = error.code
        columns["detail"] = get_detail(error)
        await self._ledger.runs.merge(run.run_id, **columns)
        return {"status": "refused", "code": error.code}

    def _is_possibly_visible_later(self, run: Run, error: BillingExportError) -> bool:
        """Return whether a 404 response can mean that the resource is not visible yet.

        The manifest of an operation that responds has no known age: only the waits are limited.
        """
        if error.http_status != 404 or run.not_found >= MAX_NOT_FOUND_WAITS:
            return False
        if error.code == "manifest_gone" or run.not_found > 0:
            return True
        age = self._ledger.clock.now() - parse_iso(run.asked_at)
        return age < VISIBLE_WITHIN

    def _get_denied_since(self, run: Run, error: BillingExportError) -> str | None:
        """Return since when Graph has denied access to the run, or None if the run ends.

        The time begins after the last request of the run that Graph accepted.
        """
        if error.code not in DENIED_CODES or run.operations == 0:
            return None
        now = self._ledger.clock.now()
        since = run.denied_since or iso(now)
        return since if now - parse_iso(since) < MAX_DENIED_TIME else None

    async def _get_started(self, run: Run) -> StartedResult:
        """Return the result of a request that an earlier attempt has sent."""
        seconds = remaining_seconds(run, self._ledger.clock.now())
        await self._ledger.extend_lease(run, seconds)
        return {"status": "started", "operation_id": run.operation_id, "wait_seconds": seconds}

    def _get_gone(self, run: Run) -> OperationGoneResult:
        """Return the result of an operation that an earlier attempt has abandoned."""
        return {
            "status": "gone",
            "wait_seconds": remaining_seconds(run, self._ledger.clock.now()),
        }

    def _get_exhausted(self, run: Run) -> RefusedResult:
        """Return the result of a run that has sent all of its export requests."""
        is_abandoned = run.last_code in ABANDONED_CODES
        return {
            "status": "refused",
            "code": run.last_code if is_abandoned else "export_unconfirmed",
        }

    async def _delay_start(
        self, run: Run, attempt: int, retry_after_seconds: int | None, **columns: str | int
    ) -> WaitingResult | TimedOutResult:
        """Start the wait before the next attempt to request the export."""
        seconds = wait_seconds(retry_after_seconds, attempt + 1, self._minimum)
        result = await start_wait(self._ledger, run, seconds, stage="waiting", **columns)
        emit_event(
            "start_delayed",
            f"{run.run_id}/posting/{run.posts}",
            run_id=run.run_id,
            key=run.key,
            posts=run.posts,
            seconds=seconds,
            code=columns.get("last_code"),
            deadline=run.deadline,
        )
        return result

    async def _delay(
        self,
        run: Run,
        seconds: int,
        *,
        stage: str = "waiting",
        attempt: int = 0,
        **columns: str | int,
    ) -> WaitingResult | TimedOutResult:
        """Start the wait before the next poll or the next attempt to plan."""
        result = await start_wait(self._ledger, run, seconds, stage=stage, **columns)
        polls = columns.get("polls")
        emit_event(
            "operation_waiting",
            f"{run.run_id}/{stage}/{attempt + 1 if polls is None else polls}",
            run_id=run.run_id,
            key=run.key,
            polls=run.polls if polls is None else polls,
            seconds=seconds,
            code=columns.get("last_code"),
            deadline=run.deadline,
        )
        return result

    @property
    def _minimum(self) -> int:
        return self._settings.poll_min_seconds


def may_have_taken_effect(error: BillingExportError) -> bool:
    """Return whether Graph may have accepted the export request that caused this error.

    It has not if the request was not sent, or if Graph rejected it. After a timeout, an interrupted
    connection, a 500, 502 or 504 response, or an accepted request without an operation ID, it may
    have.
    """
    if not isinstance(error, UnavailableError) or not error.was_sent:
        return False
    status = error.http_status
    if status is None:
        return True
    return 200 <= status < 300 or (status >= 500 and status not in REJECTING_STATUSES)


def get_detail(error: BillingExportError) -> str:
    """Return the rule that the data breaks, for the run row, or "" if there is none."""
    return error.detail if isinstance(error, InvalidDataError) else ""


def seconds_to_leave_boundary(now: datetime, minutes: int) -> int:
    """Return the seconds until `now` is at least `minutes` past a month boundary.

    The result is 0 outside the window of `minutes` before and after a boundary. Within it, the app
    and Microsoft can disagree about the current month, and the wrong month would be exported.
    """
    window, month = timedelta(minutes=minutes), BillingMonth.of(now)
    if now - month.start() < window:
        return int((month.start() + window - now).total_seconds()) + 1
    if month.next().start() - now <= window:
        return int((month.next().start() + window - now).total_seconds()) + 1
    return 0
