"""Compares the sum of a landed invoice with its listed total, and writes down what it found.

Idempotent: a repeat reads the same blobs and writes the same report and row. It never blocks a landing: whatever keeps it
from an answer is an answer, `no_total`, with a code.
"""

import asyncio
import json

import azure.durable_functions as df

from shared.clock import iso
from shared.errors import BillingExportError, InfrastructureError
from shared.exports import Dataset, InvoiceScope
from shared.landing.layout import COMPLETION_MARKER, blob_path, report_path, version_path
from shared.ledger.runs import Run
from shared.ledger.versions import Version
from shared.messages import TieOutRequest, TieOutResult
from shared.redaction import sanitize_exceptions
from shared.services import Services, services
from shared.tie_out import BlobTotalReader, LineTotals, compare, to_row_json

bp = df.Blueprint()

PART = 4 * 1024 * 1024  # bytes in memory at a time
MAX_ATTEMPTS = 20


@bp.activity_trigger(input_name="request")
@sanitize_exceptions
async def tie_out(request: TieOutRequest) -> TieOutResult:
    app = services()
    run = await app.ledger.runs.get(request["run_id"])
    if (
        run is None
        or not run.version
        or run.export_key.dataset is not Dataset.BILLED_RECONCILIATION
    ):
        return {"status": "no_total", "code": "input_invalid"}
    version = await app.ledger.versions.get(run.export_key, run.manifest_etag, run.version_n)
    if version is None or version.state != "complete":
        return {"status": "no_total", "code": "input_invalid"}
    try:
        return await compared(app, run, version)
    except BillingExportError as error:
        return {"status": "no_total", "code": error.code}


async def compared(app: Services, run: Run, version: Version) -> TieOutResult:
    key = run.export_key
    assert isinstance(key.scope, InvoiceScope)
    invoice = await app.ledger.invoices.get(key.scope.invoice_id)
    said = compare(
        await sums_of(app, run),
        invoice.total if invoice else None,
        invoice.currency if invoice else "",
    )
    report = {
        "format": 1,
        "key": str(key),
        "version": version.version,
        "etag": version.manifest_etag,
        "compared_at": iso(app.clock.now()),
        **said,
    }
    await app.landing.put(
        report_path("tie_out", key, version.version), json.dumps(report, indent=1).encode() + b"\n"
    )
    await note(app, run, to_row_json(said))
    answer: TieOutResult = {"status": said["status"]}
    if "difference" in said:
        answer["difference"] = said["difference"]
    if "code" in said:
        answer["code"] = said["code"]
    return answer


async def sums_of(app: Services, run: Run) -> LineTotals:
    """Over every blob of the landed version, piece by piece, each in exactly the state that was listed."""
    sums = LineTotals()
    for blob in await app.landing.list(version_path(run.export_key, run.version)):
        if blob.name == COMPLETION_MARKER:
            continue
        path, adding = blob_path(run.export_key, run.version, blob.name), BlobTotalReader(sums)
        for start in range(0, blob.size, PART):
            data = await app.landing.read_range(
                path, start, min(PART, blob.size - start), blob.etag
            )
            await asyncio.to_thread(adding.feed, data)
        adding.finish()
    return sums


async def note(app: Services, run: Run, text: str) -> None:
    for _ in range(MAX_ATTEMPTS):
        version = await app.ledger.versions.get(run.export_key, run.manifest_etag, run.version_n)
        if (
            version is None
            or version.tie_out == text
            or await app.ledger.versions.update(version, tie_out=text)
        ):
            return
    raise InfrastructureError("version_contended", "Version")
