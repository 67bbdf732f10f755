"""Stores the sums of landed invoices and publishes the comparisons that have changed.

The sums are in the row of the version and, for readers of the API, in the row of the catalogue. A
comparison is published as a report in the landing and, for the newest version of an export key, as
an event. `reported_tie_out` in the version row is the comparison that was published last. All
functions are idempotent: a repeated call computes the same sums and writes the same report.
"""

import asyncio
import hashlib
import json
import logging

from shared.clock import iso
from shared.errors import (
    BillingExportError,
    InfrastructureError,
    InvalidDataError,
    UnavailableError,
)
from shared.exports import Dataset, ExportKey, InvoiceScope
from shared.invoices import Invoice
from shared.landing.layout import COMPLETION_MARKER, blob_path, report_path, version_path
from shared.landing.store import LandingStore
from shared.ledger.ledger import Ledger
from shared.ledger.versions import Version
from shared.lines.blob_lines import BlobLineReader
from shared.messages import TieOutResult
from shared.optimistic_concurrency import CONFLICT, Conflict, update
from shared.telemetry import emit_event
from shared.tie_out.comparison import Comparison, compare_stored
from shared.tie_out.line_sums import LineSums

READ_BYTES = 4 * 1024 * 1024  # in memory at a time
FAILURES = (BillingExportError, InfrastructureError)

logger = logging.getLogger("partner_billing.tie_out")


class TieOuts:
    """The tie-outs of all landed invoices."""

    def __init__(self, ledger: Ledger, landing: LandingStore) -> None:
        self._ledger, self._landing = ledger, landing

    async def add_landed(self, run_id: str) -> TieOutResult:
        """Add the sums of the version that a run has landed, and publish its comparison.

        A tie-out never blocks a landing: if the lines cannot be read, the result has an error code.
        """
        run = await self._ledger.runs.get(run_id)
        if run is None or run.export_key.dataset is not Dataset.BILLED_RECONCILIATION:
            return {"status": "no_total", "code": "input_invalid"}
        key = run.export_key
        version = await self._ledger.versions.get(key, run.manifest_etag, run.version_n)
        if version is None or version.state != "complete":
            return {"status": "no_total", "code": "input_invalid"}
        try:
            version = await self._add_sums(key, version)
            newest = await self._ledger.versions.get_newest_complete(key)
            comparison = await self._publish(
                key,
                version,
                await self._ledger.invoices.get(_get_invoice_id(key)),
                is_newest=newest is not None and newest.age == version.age,
                repeat_event=False,
            )
        except FAILURES as error:
            return {"status": "no_total", "code": error.code}
        result: TieOutResult = {"status": comparison["status"]}
        if "difference" in comparison:
            result["difference"] = comparison["difference"]
        if "code" in comparison:
            result["code"] = comparison["code"]
        return result

    async def publish_changes(self) -> None:
        """Publish the comparisons that have changed, after the invoices have been listed.

        A comparison that cannot be published is logged: the daily check publishes it.
        """
        try:
            await self._publish_all(is_daily=False)
        except FAILURES as error:
            logger.warning("a tie-out could not be published: %s", error.code)

    async def check_daily(self) -> int:
        """Add the sums that are missing, publish all changes, and repeat the events.

        Log alerts evaluate only two days of logs, so the events are repeated. An error for one
        version does not stop the others: it is raised at the end.

        Returns:
            The number of published reports.
        """
        return await self._publish_all(is_daily=True)

    async def _publish_all(self, *, is_daily: bool) -> int:
        invoices = await self._ledger.invoices.list_by_id()
        dataset, published = Dataset.BILLED_RECONCILIATION, 0
        versions = [
            version
            async for version in self._ledger.versions.list_by_dataset(dataset)
            if version.state == "complete"
        ]
        newest: dict[str, Version] = {}
        for version in sorted(versions, key=lambda version: version.age):
            newest[version.key] = version
        last_error: BillingExportError | InfrastructureError | None = None
        for version in versions:
            key, is_newest = ExportKey.parse(version.key), version is newest[version.key]
            try:
                if is_daily:
                    version = await self._add_sums(key, version)
                if not version.sums:
                    continue
                if is_newest:
                    await self._ledger.catalogue.save_sums(key, version)
                before = version.reported_tie_out
                comparison = await self._publish(
                    key,
                    version,
                    invoices.get(_get_invoice_id(key)),
                    is_newest=is_newest,
                    repeat_event=is_daily,
                )
                published += _to_row_json(comparison) != before
            except FAILURES as error:
                last_error = error
        if last_error is not None:
            raise last_error
        return published

    async def _publish(
        self,
        key: ExportKey,
        version: Version,
        invoice: Invoice | None,
        *,
        is_newest: bool,
        repeat_event: bool,
    ) -> Comparison:
        """Write the report and emit the event, if the comparison differs from the reported one."""
        comparison = compare_stored(version.sums, invoice)
        assert comparison is not None, "the version has no sums"
        row_json = _to_row_json(comparison)
        is_changed = row_json != version.reported_tie_out
        path = report_path("tie_out", key, version.version)
        if is_changed:
            await self._landing.put(path, self._build_report(key, version, comparison))
        if is_newest and (is_changed or repeat_event):
            self._emit_event(key, version, comparison, row_json)
        if is_changed and await self._save(key, version, reported_tie_out=row_json) is None:
            await self._landing.delete(path)  # retention has started to delete the version
        return comparison

    def _build_report(self, key: ExportKey, version: Version, comparison: Comparison) -> bytes:
        report = {
            "format": 1,
            "key": str(key),
            "version": version.version,
            "etag": version.manifest_etag,
            "compared_at": iso(self._ledger.clock.now()),
            **comparison,
        }
        return json.dumps(report, indent=1).encode() + b"\n"

    def _emit_event(
        self, key: ExportKey, version: Version, comparison: Comparison, row_json: str
    ) -> None:
        day = f"{self._ledger.clock.now():%Y%m%d}"
        digest = hashlib.sha256(row_json.encode()).hexdigest()[:8]
        emit_event(
            "invoice_compared",
            f"{key}/{version.version}/compared-{day}/{digest}",
            key=str(key),
            version=version.version,
            status=comparison["status"],
            code=comparison.get("code"),
            difference=comparison.get("difference"),
            currency=comparison["currency"],
            listed_total=comparison["listed_total"],
            settles_on=version.settles_on,
        )

    async def _add_sums(self, key: ExportKey, version: Version) -> Version:
        """Return the version with the sums of its lines, which are added once."""
        if version.sums:
            return version
        try:
            sums = await self._sum_lines(key, version)
        except InvalidDataError as error:  # a fact of the version: its lines stay unreadable
            sums = LineSums(code=error.code)
        return await self._save(key, version, sums=sums.to_json()) or version

    async def _sum_lines(self, key: ExportKey, version: Version) -> LineSums:
        """Return the sums over all blobs of a version.

        Each range is read on the condition that the blob still has the listed ETag.

        Raises:
            UnavailableError: The folder does not contain the blobs of the version.
        """
        sums = LineSums()
        blobs = [
            blob
            for blob in await self._landing.list(version_path(key, version.version))
            if blob.name != COMPLETION_MARKER
        ]
        if (len(blobs), sum(blob.size for blob in blobs)) != (version.blobs, version.bytes):
            raise UnavailableError("blobs_missing")
        for blob in blobs:
            path = blob_path(key, version.version, blob.name)
            reader = BlobLineReader(sums.add)
            for start in range(0, blob.size, READ_BYTES):
                data = await self._landing.read_range(
                    path, start, min(READ_BYTES, blob.size - start), blob.etag
                )
                await asyncio.to_thread(reader.feed, data)
            reader.finish()
        return sums

    async def _save(self, key: ExportKey, version: Version, **columns: str) -> Version | None:
        """Save columns in the row of a version; return None if it is no longer complete."""

        async def read() -> Version | None:
            return await self._ledger.versions.get(key, version.manifest_etag, version.n)

        async def write(current: Version | None) -> Version | Conflict | None:
            if current is None or current.state != "complete":
                return None
            return await self._ledger.versions.update(current, **columns) or CONFLICT

        return await update(read, write, contended_code="version_contended", component="Version")


def _get_invoice_id(key: ExportKey) -> str:
    assert isinstance(key.scope, InvoiceScope)
    return key.scope.invoice_id


def _to_row_json(comparison: Comparison) -> str:
    """Return the part of a comparison that the version row contains: the sums are omitted."""
    members = {
        name: value for name, value in comparison.items() if name != "sums" and value is not None
    }
    return json.dumps(members, separators=(",", ":"))
