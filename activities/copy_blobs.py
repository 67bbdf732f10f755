"""Copies a few blobs of a planned version into the landing and proves each.

Idempotent: what is landed and proven is counted again, not copied again; of two workers that race, one writes and
the other finds it done. Returns the blobs' fate and never raises it, because it runs in a fan-out.
"""

import azure.durable_functions as df

from shared.copying.work import BlobFate, CopyWork
from shared.landing.layout import version_path
from shared.ledger.blobs import BlobRow
from shared.ledger.keys import blob_row as row_key
from shared.ledger.runs import Run
from shared.messages import CopyRequest, CopyResult
from shared.redaction import sanitize_exceptions
from shared.services import services
from shared.telemetry import emit_event

bp = df.Blueprint()


@bp.activity_trigger(input_name="request")
@sanitize_exceptions  # no library's words leave an activity: design, section 4
async def copy_blobs(request: CopyRequest) -> CopyResult:
    app, names = services(), request["names"]
    run = await app.ledger.holding(request["run_id"])
    if not isinstance(run, Run) or run.version != request["version"]:
        return {"landed": 0, "failed": len(names), "retry_after_seconds": 0}
    work = CopyWork(
        run_id=run.run_id,
        operation_id=run.operation_id,
        folder=version_path(run.export_key, run.version),
        manifest_etag=run.manifest_etag,
        root_directory=run.root_directory,
        proof=app.settings.proof,
        mode=app.settings.copy_mode,
    )
    known = await app.ledger.blobs.some(run.export_key, run.version, names)
    proven = {name: row.destination_etag for name, row in known.items() if row.ok}
    fates = await app.copier.land(work, names, proven)
    await app.ledger.blobs.record(
        run.export_key,
        run.version,
        [blob_row(fate, run.run_id) for fate in fates if fate.proven and not fate.unchanged],
    )
    for fate in fates:
        if not fate.proven:
            await app.ledger.blobs.record_failure(
                run.export_key, run.version, blob_row(fate, run.run_id), known.get(fate.name)
            )
            emit_event(
                "blob_failed",
                f"{run.run_id}/blob-{row_key(fate.name)[:8]}/{request['plan']}",
                run_id=run.run_id,
                key=run.key,
                version=run.version,
                blob=fate.name,
                code=fate.code,
                rung=fate.rung,
                tries=fate.tries,
            )
    return {
        "landed": sum(fate.proven for fate in fates),
        "failed": sum(not fate.proven for fate in fates),
        "retry_after_seconds": max((fate.retry_after_seconds for fate in fates), default=0),
    }


def blob_row(fate: BlobFate, run_id: str) -> BlobRow:
    return BlobRow(
        name=fate.name,
        ok=fate.proven,
        run_id=run_id,
        destination_etag=fate.destination_etag or "",
        bytes=fate.bytes or 0,
        rows=fate.rows or 0,
        md5=fate.md5 or "",
        sha256=fate.sha256 or "",
        source_etag=fate.source_etag or "",
        encoding=fate.encoding or "",
        columns=",".join(fate.columns),
        rung=fate.rung or "",
        tries=fate.tries,
        seconds=round(fate.seconds, 3),
        code=fate.code or "",
        detail=fate.detail,
    )
