"""Compares the sum of a landed invoice with its listed total and saves the result.

Idempotent: a repeated call reads the same blobs and writes the same report and row. A tie-out never
blocks a landing: if the totals cannot be compared, the result is `no_total` with an error code.
"""

import asyncio
import json

import azure.durable_functions as df

from shared.clock import iso
from shared.errors import BillingExportError
from shared.exports import Dataset, InvoiceScope
from shared.landing.layout import COMPLETION_MARKER, blob_path, report_path, version_path
from shared.ledger.runs import Run
from shared.ledger.versions import Version
from shared.messages import TieOutRequest, TieOutResult
from shared.optimistic_concurrency import CONFLICT, Conflict, update
from shared.redaction import sanitize_exceptions
from shared.services import Services, services
from shared.tie_out import BlobTotalReader, LineTotals, compare, to_row_json

bp = df.Blueprint()

READ_BYTES = 4 * 1024 * 1024  # in memory at a time


@bp.activity_trigger(input_name="request")
@sanitize_exceptions
async def tie_out(request: TieOutRequest) -> TieOutResult:
    """Compare the invoice that a run has landed with its listed total."""
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
        return await _compare_and_save(app, run, version)
    except BillingExportError as error:
        return {"status": "no_total", "code": error.code}


async def _compare_and_save(app: Services, run: Run, version: Version) -> TieOutResult:
    key = run.export_key
    assert isinstance(key.scope, InvoiceScope)
    invoice = await app.ledger.invoices.get(key.scope.invoice_id)
    comparison = compare(
        await _sum_lines(app, run),
        invoice.total if invoice else None,
        invoice.currency if invoice else "",
    )
    report = {
        "format": 1,
        "key": str(key),
        "version": version.version,
        "etag": version.manifest_etag,
        "compared_at": iso(app.clock.now()),
        **comparison,
    }
    await app.landing.put(
        report_path("tie_out", key, version.version), json.dumps(report, indent=1).encode() + b"\n"
    )
    await _save_to_version(app, run, to_row_json(comparison))
    result: TieOutResult = {"status": comparison["status"]}
    if "difference" in comparison:
        result["difference"] = comparison["difference"]
    if "code" in comparison:
        result["code"] = comparison["code"]
    return result


async def _sum_lines(app: Services, run: Run) -> LineTotals:
    """Return the totals over all blobs of the landed version.

    Each range is read on the condition that the blob still has the listed ETag.
    """
    totals = LineTotals()
    for blob in await app.landing.list(version_path(run.export_key, run.version)):
        if blob.name == COMPLETION_MARKER:
            continue
        path = blob_path(run.export_key, run.version, blob.name)
        reader = BlobTotalReader(totals)
        for start in range(0, blob.size, READ_BYTES):
            data = await app.landing.read_range(
                path, start, min(READ_BYTES, blob.size - start), blob.etag
            )
            await asyncio.to_thread(reader.feed, data)
        reader.finish()
    return totals


async def _save_to_version(app: Services, run: Run, row_json: str) -> None:
    """Save the comparison in the version row, if the row still exists."""

    async def read() -> Version | None:
        return await app.ledger.versions.get(run.export_key, run.manifest_etag, run.version_n)

    async def write(version: Version | None) -> Conflict | None:
        if version is None or version.tie_out == row_json:
            return None
        updated = await app.ledger.versions.update(version, tie_out=row_json)
        return CONFLICT if updated is None else None

    await update(read, write, contended_code="version_contended", component="Version")
