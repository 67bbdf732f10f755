"""Proves that a planned version has landed completely, and publishes it.

Idempotent: every step is a conditional write that leaves finished steps unchanged.
"""

import azure.durable_functions as df

from shared.errors import InvalidDataError, PermanentError, TransientError
from shared.ledger.runs import Run
from shared.ledger.trailing_averages import get_trailing_averages
from shared.manifest import DifferentMonthError, billing_month
from shared.messages import CommitRequest, CommitResult
from shared.planning.waits import (
    COMMIT_WAITS_SECONDS,
    default_wait_seconds,
    start_wait,
    wait_seconds,
)
from shared.redaction import sanitize_exceptions
from shared.services import services
from shared.telemetry import emit_event
from shared.versions.commit import commit_version as commit

bp = df.Blueprint()


@bp.activity_trigger(input_name="request")
@sanitize_exceptions
async def commit_version(request: CommitRequest) -> CommitResult:
    app = services()
    run = await app.ledger.holding(request["run_id"])
    if not isinstance(run, Run):
        return run
    await app.ledger.runs.merge(run.run_id, stage="proving")
    try:
        committed = await commit(
            app.ledger,
            app.landing,
            run,
            request["plan"],
            app.settings.proof,
            app.settings.invoice_settle_days,
        )
    except DifferentMonthError:
        return {"status": "no_data", "code": "month_not_open"}
    except TransientError as error:
        seconds = default_wait_seconds(request["attempt"] + 1, COMMIT_WAITS_SECONDS)
        seconds = max(seconds, error.retry_after_seconds or 0)
        return await start_wait(app.ledger, run, seconds, stage="proving", last_code=error.code)
    except PermanentError as error:
        if isinstance(error, InvalidDataError):
            await app.ledger.runs.merge(run.run_id, detail=error.detail)
        return {"status": "refused", "code": error.code}
    if committed.missing:
        if request["is_last_round"]:
            return {"status": "missing", "blobs": committed.missing, "wait_seconds": 0}
        seconds = wait_seconds(
            request["retry_after_seconds"] or None, request["plan"], app.settings.poll_min_seconds
        )
        pause = await start_wait(app.ledger, run, seconds, stage="pausing")
        if pause["status"] == "timed_out":
            return pause
        return {"status": "missing", "blobs": committed.missing, "wait_seconds": seconds}
    before, month = (
        await get_trailing_averages(app.ledger, committed.row),
        billing_month(run.root_directory),
    )
    emit_event(
        "version_landed",
        f"{run.run_id}/landed/{request['plan']}",
        run_id=run.run_id,
        key=run.key,
        version=committed.row.version,
        billing_month=str(month) if month else None,
        blobs_total=run.blobs_total,
        rows=committed.row.known_rows,
        bytes=committed.row.bytes,
        compared=before.compared,
        rows_mean=before.rows,
        bytes_mean=before.bytes,
        proof=committed.row.proof,
    )
    return {"status": "landed", "version": committed.row.version}
