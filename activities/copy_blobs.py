"""Copies some blobs of a planned version into the landing and proves each of them.

Idempotent: blobs that are already proven are counted, not copied. If two workers copy the same
blob, one of them writes it. Results are recorded while other blobs are still being copied, so a
repeated call does not copy them again. The activity runs in a fan-out, so it returns the results of
the blobs and never raises an exception because of them.
"""

from collections.abc import Mapping, Sequence
from contextlib import aclosing

import azure.durable_functions as df

from shared.landing.layout import version_path
from shared.ledger.blobs import BlobRow
from shared.ledger.keys import blob_row as row_key
from shared.ledger.runs import Run
from shared.messages import CopyRequest, CopyResult
from shared.redaction import sanitize_exceptions
from shared.services import services
from shared.telemetry import emit_event
from shared.transfer.models import BlobResult, TransferRequest
from shared.versions.months import get_date_member

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
        date_member=get_date_member(run.export_key, run.root_directory),
    )
    known = await app.ledger.blobs.get_many(run.export_key, run.version, names)
    proven = {name: row for name, row in known.items() if row.ok}
    results: list[BlobResult] = []
    async with aclosing(app.copier.copy_in_groups(transfer, names, proven)) as groups:
        async for group in groups:
            await _record(run, group, known, request["plan"])
            results += group
    return {
        "landed": sum(result.proven for result in results),
        "failed": sum(not result.proven for result in results),
        "retry_after_seconds": max((result.retry_after_seconds for result in results), default=0),
    }


async def _record(
    run: Run, results: Sequence[BlobResult], known: Mapping[str, BlobRow], plan: int
) -> None:
    blobs = services().ledger.blobs
    await blobs.record(
        run.export_key,
        run.version,
        [result.to_row(run.run_id) for result in results if result.proven and not result.unchanged],
    )
    for result in results:
        event_id = f"{run.run_id}/blob-{row_key(result.name)[:8]}/{plan}"
        if result.rejected_change:
            emit_event(
                "blob_change_rejected",
                event_id,
                run_id=run.run_id,
                key=run.key,
                version=run.version,
                blob=result.name,
                code=result.rejected_change,
            )
        if not result.proven:
            await blobs.record_failure(
                run.export_key, run.version, result.to_row(run.run_id), known.get(result.name)
            )
            emit_event(
                "blob_failed",
                event_id,
                run_id=run.run_id,
                key=run.key,
                version=run.version,
                blob=result.name,
                code=result.code,
                copy_method=result.copy_method,
                tries=result.tries,
            )
