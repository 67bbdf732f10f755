"""Looks once at the run's operation and writes down what it saw.

Idempotent: it only reads at Microsoft; a repeat counts one poll more, and an operation that is given up stays so.
"""

from datetime import timedelta

import azure.durable_functions as df

from shared.clock import iso
from shared.errors import InvalidDataError, OperationGoneError, RequestRefusedError, TransientError
from shared.ledger.runs import Run
from shared.messages import CheckResult, OperationRequest
from shared.redaction import sanitize_exceptions
from shared.services import Services, services
from shared.telemetry import emit_event

bp = df.Blueprint()


@bp.activity_trigger(input_name="wait")
@sanitize_exceptions
async def check_operation(wait: OperationRequest) -> CheckResult:
    from shared.graph.client import (
        OperationFailed,
        OperationSucceeded,
    )  # as all of shared.graph: when Graph is talked to, not at start

    app, operation_id = services(), wait["operation_id"]
    run = await app.ledger.holding(wait["run_id"])
    if not isinstance(run, Run):
        return run
    if operation_id is None or run.operation_id != operation_id:
        return {"status": "gone"}  # another attempt gave it up
    if left := await app.ledger.throttle.seconds_left():
        return await waiting(app, run, left, polled=False)
    try:
        state = await app.graph.get_operation(operation_id)
    except OperationGoneError as error:
        return await give_up(app, run, operation_id, error.code)
    except TransientError as error:
        seconds = await app.ledger.throttle.after(error)
        return await waiting(
            app,
            run,
            seconds,
            last_code=error.code,
            request_ids=run.with_request_id(error.request_id),
        )
    except (RequestRefusedError, InvalidDataError) as error:
        await app.ledger.runs.merge(run.run_id, request_ids=run.with_request_id(error.request_id))
        return {"status": "refused", "code": error.code}
    if isinstance(state, OperationSucceeded):
        await app.ledger.runs.merge(
            run.run_id,
            stage="planning",
            polls=run.polls + 1,
            next_check_at="",
            **run.waits(app.clock.now()),
            request_ids=run.with_request_id(state.request_id),
        )
        return {"status": "succeeded", "operation_id": operation_id}
    if isinstance(state, OperationFailed):
        await app.ledger.runs.merge(
            run.run_id,
            polls=run.polls + 1,
            request_ids=run.with_request_id(state.request_id),
            **run.waits(app.clock.now()),
        )
        return (
            {"status": "no_data"}
            if state.has_no_data
            else await give_up(app, run, operation_id, "operation_failed")
        )
    return await waiting(app, run, state.retry_after_seconds)


async def waiting(
    app: Services,
    run: Run,
    seconds: int | None,
    *,
    polled: bool = True,
    **columns: str,
) -> CheckResult:
    """One write, with whatever else is to be said of this look."""
    await app.ledger.prolong(run, seconds or 0)
    now = app.clock.now()
    await app.ledger.runs.merge(
        run.run_id,
        stage="waiting",
        polls=run.polls + polled,
        **run.waits(now, goes_on=True),
        **columns,
        next_check_at=iso(
            now + timedelta(seconds=max(seconds or 0, app.settings.poll_min_seconds))
        ),
    )
    emit_event(
        "operation_waiting",
        f"{run.run_id}/waiting/{run.polls + polled}",
        run_id=run.run_id,
        key=run.key,
        polls=run.polls + polled,
        seconds=seconds,
        code=columns.get("last_code"),
        deadline=run.deadline,
    )
    return {"status": "waiting", "retry_after_seconds": seconds}


async def give_up(app: Services, run: Run, operation_id: str, code: str) -> CheckResult:
    """Forgets the operation, so that the next start_export asks for a new one."""
    while run.operation_id == operation_id:
        if await app.ledger.runs.merge_if(run, operation_id="", last_code=code):
            break
        held = await app.ledger.holding(run.run_id)
        if not isinstance(held, Run):
            return held
        run = held
    return {"status": "gone"}
