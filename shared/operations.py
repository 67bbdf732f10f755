"""The export operation of a run: request it from Microsoft Graph, poll it, abandon it.

Every method is idempotent: it reads the run row first, and the first writer wins. A crash between a
POST request and the write of its result costs one more request, which `posts` counts: Microsoft
offers no way to find out whether the first request arrived.
"""

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from shared.clock import iso
from shared.errors import InvalidDataError, OperationGoneError, RequestRefusedError, TransientError
from shared.exports import BillingMonth, MonthScope, period_word
from shared.graph.throttled_client import RequestNotSentError, ThrottledGraphClient
from shared.ledger.ledger import Ledger
from shared.ledger.runs import Run
from shared.messages import (
    CheckResult,
    OperationGoneResult,
    StartResult,
    StoppedResult,
    WaitingResult,
)
from shared.optimistic_concurrency import CONFLICT, Conflict, update
from shared.planning.waits import record_wait, wait_seconds
from shared.settings import Settings
from shared.telemetry import emit_event

if TYPE_CHECKING:
    from shared.graph.client import ExportAccepted

MAX_OPERATIONS = 3


class ExportOperations:
    """The operations of all runs. `attempt` is the number of waits so far."""

    def __init__(self, settings: Settings, ledger: Ledger, graph: ThrottledGraphClient) -> None:
        self._settings, self._ledger, self._graph = settings, ledger, graph

    async def start(self, run_id: str, attempt: int) -> StartResult:
        """Request the export of a run, unless the run already has an operation."""
        run = await self._ledger.holding(run_id)
        if not isinstance(run, Run):
            return run
        if run.operation_id:
            return {"status": "started", "operation_id": run.operation_id}
        if run.operations >= MAX_OPERATIONS:
            return {"status": "refused", "code": run.last_code or "operation_gone"}
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
        # The Graph client is imported at its first use, because it makes a cold start slower.
        from shared.graph.client import OperationFailed, OperationSucceeded

        run = await self._ledger.holding(run_id)
        if not isinstance(run, Run):
            return run
        if operation_id is None or run.operation_id != operation_id:
            return {"status": "gone", "wait_seconds": 0}  # another attempt has abandoned it
        try:
            state = await self._graph.get_operation(operation_id)
        except OperationGoneError as error:
            return await self.abandon(run_id, operation_id, error.code)
        except RequestNotSentError as error:
            return await self._delay_poll(run, attempt, error.retry_after_seconds, polls=run.polls)
        except TransientError as error:
            return await self._delay_poll(
                run,
                attempt,
                error.retry_after_seconds,
                polls=run.polls + 1,
                last_code=error.code,
                request_ids=run.with_request_id(error.request_id),
            )
        except (RequestRefusedError, InvalidDataError) as error:
            request_ids = run.with_request_id(error.request_id)
            await self._ledger.runs.merge(run_id, request_ids=request_ids)
            return {"status": "refused", "code": error.code}
        if isinstance(state, OperationSucceeded):
            await self._ledger.runs.merge(
                run_id,
                stage="planning",
                polls=run.polls + 1,
                next_check_at="",
                request_ids=run.with_request_id(state.request_id),
                **run.get_wait_columns(self._ledger.clock.now()),
            )
            return {"status": "succeeded", "operation_id": operation_id}
        if isinstance(state, OperationFailed):
            await self._ledger.runs.merge(
                run_id,
                polls=run.polls + 1,
                request_ids=run.with_request_id(state.request_id),
                **run.get_wait_columns(self._ledger.clock.now()),
            )
            if state.has_no_data:
                return {"status": "no_data"}
            return await self.abandon(run_id, operation_id, "operation_failed")
        return await self._delay_poll(run, attempt, state.retry_after_seconds, polls=run.polls + 1)

    async def abandon(
        self, run_id: str, operation_id: str, code: str
    ) -> OperationGoneResult | StoppedResult:
        """Remove an operation from the run row, so that `start` requests a new one."""

        async def remove(
            run: Run | StoppedResult,
        ) -> OperationGoneResult | StoppedResult | Conflict:
            if not isinstance(run, Run):
                return run
            if run.operation_id == operation_id and not await self._ledger.runs.merge_if_unchanged(
                run, operation_id="", last_code=code
            ):
                return CONFLICT
            return {"status": "gone", "wait_seconds": 0}

        return await update(
            lambda: self._ledger.holding(run_id),
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
                return {"status": "started", "operation_id": run.operation_id}
            if not await self._ledger.runs.merge_if_unchanged(
                run,
                stage="waiting",
                operation_id=accepted.operation_id,
                operations=run.operations + 1,
                request_ids=run.with_request_id(accepted.request_id),
                **run.get_wait_columns(self._ledger.clock.now(), is_waiting=True),
            ):
                return CONFLICT
            emit_event(
                "operation_started",
                f"{run_id}/operation/{run.operations + 1}",
                run_id=run_id,
                key=run.key,
                posts=run.posts,
                operations=run.operations + 1,
                request_id=accepted.request_id,
            )
            return {"status": "started", "operation_id": accepted.operation_id}

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
            asked_period=period or "",
            asked_at=iso(now),
            **run.get_wait_columns(now),
        )
        try:
            accepted = await self._graph.start_export(key, period)
        except TransientError as error:
            return await self._delay_start(
                run,
                attempt,
                error.retry_after_seconds,
                last_code=error.code,
                request_ids=run.with_request_id(error.request_id),
            )
        except RequestRefusedError as error:
            request_ids = run.with_request_id(error.request_id)
            await self._ledger.runs.merge(run.run_id, request_ids=request_ids)
            return {"status": "refused", "code": error.code}
        return await self.store(run.run_id, accepted)

    async def _delay_start(
        self, run: Run, attempt: int, retry_after_seconds: int | None, **columns: str
    ) -> WaitingResult:
        """Record the wait before the next attempt to request the export."""
        seconds = self._wait_seconds(retry_after_seconds, attempt)
        result = await record_wait(self._ledger, run, seconds, stage="waiting", **columns)
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

    async def _delay_poll(
        self,
        run: Run,
        attempt: int,
        retry_after_seconds: int | None,
        *,
        polls: int,
        **columns: str,
    ) -> WaitingResult:
        """Record the wait before the next poll."""
        seconds = self._wait_seconds(retry_after_seconds, attempt)
        result = await record_wait(
            self._ledger, run, seconds, stage="waiting", polls=polls, **columns
        )
        emit_event(
            "operation_waiting",
            f"{run.run_id}/waiting/{polls}",
            run_id=run.run_id,
            key=run.key,
            polls=polls,
            seconds=seconds,
            code=columns.get("last_code"),
            deadline=run.deadline,
        )
        return result

    def _wait_seconds(self, retry_after_seconds: int | None, attempt: int) -> int:
        return wait_seconds(retry_after_seconds, attempt + 1, self._settings.poll_min_seconds)


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
