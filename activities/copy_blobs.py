"""Copies some blobs of a planned version into the landing and proves each of them.

Idempotent: blobs that are already proven are counted, not copied. If two workers copy the same
blob, one of them writes it. The activity runs in a fan-out, so it returns the results of the blobs
and never raises an exception because of them.
"""

import azure.durable_functions as df

from shared.landing.layout import version_path
from shared.ledger.keys import blob_row as row_key
from shared.ledger.runs import Run
from shared.messages import CopyRequest, CopyResult
from shared.redaction import sanitize_exceptions
from shared.services import services
from shared.telemetry import emit_event
from shared.transfer.models import TransferRequest

bp = df.Blueprint()


@bp.activity_trigger(input_name="request")
@sanitize_exceptions
async def copy_blobs(request: CopyRequest) -> CopyResult:
    app, names = services(), request["names"]
    run = await app.ledger.holding(request["run_id"])
    if not isinstance(run, Run) or run.version != request["version"]:
        return {"landed": 0, "failed": len(names), "retry_after_seconds": 0}
    transfer = TransferRequest(
        run_id=run.run_id,
        operation_id=run.operation_id,
        folder=version_path(run.export_key, run.version),
        manifest_etag=run.manifest_etag,
        root_directory=run.root_directory,
        proof=app.settings.proof,
        mode=app.settings.copy_mode,
    )
    known = await app.ledger.blobs.get_many(run.export_key, run.version, names)
    proven = {name: row.destination_etag for name, row in known.items() if row.ok}
    results = await app.copier.copy_blobs(transfer, names, proven)
    await app.ledger.blobs.record(
        run.export_key,
        run.version,
        [result.to_row(run.run_id) for result in results if result.proven and not result.unchanged],
    )
    for result in results:
        if not result.proven:
            await app.ledger.blobs.record_failure(
                run.export_key, run.version, result.to_row(run.run_id), known.get(result.name)
            )
            emit_event(
                "blob_failed",
                f"{run.run_id}/blob-{row_key(result.name)[:8]}/{request['plan']}",
                run_id=run.run_id,
                key=run.key,
                version=run.version,
                blob=result.name,
                code=result.code,
                copy_method=result.copy_method,
                tries=result.tries,
            )
    return {
        "landed": sum(result.proven for result in results),
        "failed": sum(not result.proven for result in results),
        "retry_after_seconds": max((result.retry_after_seconds for result in results), default=0),
    }
