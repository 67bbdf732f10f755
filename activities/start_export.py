"""Requests the export of a run from Microsoft, unless the run already has an operation.

Idempotent: the first writer stores the operation ID, and every repetition finds it. A crash between
the POST request and that write costs one more request, which `posts` counts: Microsoft offers no
way to find out whether the first one arrived.
"""

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import azure.durable_functions as df

from shared.clock import iso
from shared.errors import RequestRefusedError, TransientError
from shared.exports import BillingMonth, MonthScope, period_word
from shared.graph.throttled_client import RequestNotSentError
from shared.ledger.runs import Run
from shared.messages import OperationRequest, StartResult, StoppedResult, WaitingResult
from shared.optimistic_concurrency import CONFLICT, Conflict, update
from shared.planning.waits import record_wait, wait_seconds
from shared.redaction import sanitize_exceptions
from shared.services import Services, services
from shared.telemetry import emit_event

if TYPE_CHECKING:
    from shared.graph.client import ExportAccepted

bp = df.Blueprint()

MAX_OPERATIONS = 3


@bp.activity_trigger(input_name="request")
@sanitize_exceptions
async def start_export(request: OperationRequest) -> StartResult:
    app = services()
    run = await app.ledger.holding(request["run_id"])
    if not isinstance(run, Run):
        return run
    if run.operation_id:
        return {"status": "started", "operation_id": run.operation_id}
    if run.operations >= MAX_OPERATIONS:
        return {"status": "refused", "code": run.last_code or "operation_gone"}
    now, scope = app.clock.now(), run.export_key.scope
    if isinstance(scope, MonthScope):
        if period_word(scope.month, now) is None:
            return {"status": "refused", "code": "not_served"}
        if seconds := seconds_to_leave_boundary(now, app.settings.month_boundary_minutes):
            return await wait(app, run, request, seconds)
    try:
        await app.graph.raise_if_throttled()
    except RequestNotSentError as error:
        return await wait(app, run, request, error.retry_after_seconds)
    return await post(app, run, request)


async def wait(
    app: Services,
    run: Run,
    request: OperationRequest,
    retry_after_seconds: int | None,
    **columns: str,
) -> WaitingResult:
    """Record the wait before the next attempt to request the export."""
    seconds = wait_seconds(
        retry_after_seconds, request["attempt"] + 1, app.settings.poll_min_seconds
    )
    result = await record_wait(app.ledger, run, seconds, stage="waiting", **columns)
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


async def post(app: Services, run: Run, request: OperationRequest) -> StartResult:
    """Send the POST request, after it is counted in the run row."""
    key, now = run.export_key, app.clock.now()
    period = period_word(key.scope.month, now) if isinstance(key.scope, MonthScope) else None
    await app.ledger.runs.merge(
        run.run_id,
        stage="posting",
        posts=run.posts + 1,
        asked_period=period or "",
        asked_at=iso(now),
        **run.get_wait_columns(now),
    )
    try:
        accepted = await app.graph.start_export(key, period)
    except TransientError as error:
        request_ids = run.with_request_id(error.request_id)
        return await wait(
            app,
            run,
            request,
            error.retry_after_seconds,
            last_code=error.code,
            request_ids=request_ids,
        )
    except RequestRefusedError as error:
        await app.ledger.runs.merge(run.run_id, request_ids=run.with_request_id(error.request_id))
        return {"status": "refused", "code": error.code}
    return await store_operation(app, run.run_id, accepted)


async def store_operation(app: Services, run_id: str, accepted: "ExportAccepted") -> StartResult:
    """Store the operation ID, unless another attempt has already stored one, which then applies."""

    async def store(run: Run | StoppedResult) -> StartResult | Conflict:
        if not isinstance(run, Run):
            return run
        if run.operation_id:
            return {"status": "started", "operation_id": run.operation_id}
        if not await app.ledger.runs.merge_if_unchanged(
            run,
            stage="waiting",
            operation_id=accepted.operation_id,
            operations=run.operations + 1,
            request_ids=run.with_request_id(accepted.request_id),
            **run.get_wait_columns(app.clock.now(), is_waiting=True),
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
        lambda: app.ledger.holding(run_id),
        store,
        contended_code="run_contended",
        component="Run",
    )
