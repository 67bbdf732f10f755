"""Polls the operation of a run once and records what it returned.

Idempotent: it only reads from Microsoft. A repetition counts one more poll, and an abandoned
operation stays abandoned.
"""

import azure.durable_functions as df

from shared.errors import InvalidDataError, OperationGoneError, RequestRefusedError, TransientError
from shared.graph.throttled_client import RequestNotSentError
from shared.ledger.runs import Run
from shared.messages import CheckResult, OperationRequest, StoppedResult
from shared.optimistic_concurrency import CONFLICT, Conflict, update
from shared.planning.waits import record_wait, wait_seconds
from shared.redaction import sanitize_exceptions
from shared.services import Services, services
from shared.telemetry import emit_event

bp = df.Blueprint()


@bp.activity_trigger(input_name="request")
@sanitize_exceptions
async def check_operation(request: OperationRequest) -> CheckResult:
    # The Graph client is imported at its first use, because it makes a cold start slower.
    from shared.graph.client import OperationFailed, OperationSucceeded

    app, operation_id = services(), request["operation_id"]
    run = await app.ledger.holding(request["run_id"])
    if not isinstance(run, Run):
        return run
    if operation_id is None or run.operation_id != operation_id:
        return {"status": "gone", "wait_seconds": 0}  # another attempt has abandoned it
    try:
        state = await app.graph.get_operation(operation_id)
    except OperationGoneError as error:
        return await abandon_operation(app, run, operation_id, error.code)
    except RequestNotSentError as error:
        return await wait(app, run, request, error.retry_after_seconds, polls=run.polls)
    except TransientError as error:
        request_ids = run.with_request_id(error.request_id)
        return await wait(
            app,
            run,
            request,
            error.retry_after_seconds,
            polls=run.polls + 1,
            last_code=error.code,
            request_ids=request_ids,
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
            request_ids=run.with_request_id(state.request_id),
            **run.get_wait_columns(app.clock.now()),
        )
        return {"status": "succeeded", "operation_id": operation_id}
    if isinstance(state, OperationFailed):
        await app.ledger.runs.merge(
            run.run_id,
            polls=run.polls + 1,
            request_ids=run.with_request_id(state.request_id),
            **run.get_wait_columns(app.clock.now()),
        )
        if state.has_no_data:
            return {"status": "no_data"}
        return await abandon_operation(app, run, operation_id, "operation_failed")
    return await wait(app, run, request, state.retry_after_seconds, polls=run.polls + 1)


async def wait(
    app: Services,
    run: Run,
    request: OperationRequest,
    retry_after_seconds: int | None,
    *,
    polls: int,
    **columns: str,
) -> CheckResult:
    """Record the wait before the next poll."""
    seconds = wait_seconds(
        retry_after_seconds, request["attempt"] + 1, app.settings.poll_min_seconds
    )
    result = await record_wait(app.ledger, run, seconds, stage="waiting", polls=polls, **columns)
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


async def abandon_operation(app: Services, run: Run, operation_id: str, code: str) -> CheckResult:
    """Remove the operation from the run row, so that start_export requests a new one."""

    async def remove(current: Run | StoppedResult) -> CheckResult | Conflict:
        if not isinstance(current, Run):
            return current
        if current.operation_id == operation_id and not await app.ledger.runs.merge_if_unchanged(
            current, operation_id="", last_code=code
        ):
            return CONFLICT
        return {"status": "gone", "wait_seconds": 0}

    return await update(
        lambda: app.ledger.holding(run.run_id),
        remove,
        contended_code="run_contended",
        component="Run",
    )
