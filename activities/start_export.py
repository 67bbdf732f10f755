"""Asks Microsoft for the run's export, unless the run has an operation already.

Idempotent: the operation's id is stored by the first writer and found by every repeat. A crash between the POST and
that write costs one more POST, which `posts` counts: Microsoft offers no way to ask whether the first one arrived.
"""

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import azure.durable_functions as df

from shared.clock import iso
from shared.errors import RequestRefusedError, TransientError
from shared.exports import BillingMonth, MonthScope, period_word
from shared.ledger.runs import Run
from shared.messages import OperationRequest, RefusedResult, StartResult, WaitingResult
from shared.redaction import sanitize_exceptions
from shared.services import Services, services
from shared.telemetry import emit_event

if TYPE_CHECKING:
    from shared.graph.client import ExportAccepted

bp = df.Blueprint()

MOST_OPERATIONS = 3


@bp.activity_trigger(input_name="wait")
@sanitize_exceptions
async def start_export(wait: OperationRequest) -> StartResult:
    app = services()
    run = await app.ledger.holding(wait["run_id"])
    if not isinstance(run, Run):
        return run
    if run.operation_id:
        return {"status": "started", "operation_id": run.operation_id}
    if run.operations >= MOST_OPERATIONS:
        return {"status": "refused", "code": run.last_code or "operation_gone"}
    return await before_asking(app, run) or await ask(app, run)


async def waiting(app: Services, run: Run, seconds: int | None, **columns: str) -> WaitingResult:
    """One write, with whatever else is to be said of it."""
    await app.ledger.prolong(run, seconds or 0)
    now = app.clock.now()
    await app.ledger.runs.merge(
        run.run_id,
        stage="waiting",
        next_check_at=iso(now + timedelta(seconds=seconds or 0)),
        **run.waits(now, goes_on=True),
        **columns,
    )
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
    return {"status": "waiting", "retry_after_seconds": seconds}


async def before_asking(app: Services, run: Run) -> WaitingResult | RefusedResult | None:
    """Reasons not to ask now; None = ask."""
    now, scope = app.clock.now(), run.export_key.scope
    if isinstance(scope, MonthScope):
        if period_word(scope.month, now) is None:
            return {"status": "refused", "code": "not_served"}
        seconds = to_wait_at_boundary(now, app.settings.month_boundary_minutes)
        if seconds:
            return await waiting(app, run, seconds)
    seconds = await app.ledger.throttle.seconds_left()
    return await waiting(app, run, seconds) if seconds else None


def to_wait_at_boundary(now: datetime, minutes: int) -> int:
    """Seconds until `now` is `minutes` behind a month's boundary, 0 where it is not near one.

    Just there, Microsoft's and our idea of `current` may differ, and the wrong month would be asked for.
    """
    window, month = timedelta(minutes=minutes), BillingMonth.of(now)
    if now - month.start() < window:
        return int((month.start() + window - now).total_seconds()) + 1
    if month.next().start() - now <= window:
        return int((month.next().start() + window - now).total_seconds()) + 1
    return 0


async def ask(app: Services, run: Run) -> StartResult:
    key, now = run.export_key, app.clock.now()
    word = period_word(key.scope.month, now) if isinstance(key.scope, MonthScope) else None
    await app.ledger.runs.merge(
        run.run_id,
        stage="posting",
        posts=run.posts + 1,
        asked_period=word or "",
        asked_at=iso(now),
        **run.waits(now),
    )
    try:
        accepted = await app.graph.start_export(key, word)
    except TransientError as error:
        seconds = await app.ledger.throttle.after(error)
        return await waiting(
            app,
            run,
            seconds,
            last_code=error.code,
            request_ids=run.with_request_id(error.request_id),
        )
    except RequestRefusedError as error:
        await app.ledger.runs.merge(run.run_id, request_ids=run.with_request_id(error.request_id))
        return {"status": "refused", "code": error.code}
    return await store(app, run.run_id, accepted)


async def store(app: Services, run_id: str, accepted: "ExportAccepted") -> StartResult:
    """Keeps the operation's id, unless another attempt was first: then that one's counts."""
    while True:
        run = await app.ledger.holding(run_id)
        if not isinstance(run, Run):
            return run
        if run.operation_id:
            return {"status": "started", "operation_id": run.operation_id}
        if await app.ledger.runs.merge_if(
            run,
            stage="waiting",
            operation_id=accepted.operation_id,
            operations=run.operations + 1,
            request_ids=run.with_request_id(accepted.request_id),
            **run.waits(app.clock.now(), goes_on=True),
        ):
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
