"""Commits a version after all of its blobs are proven: completion marker, latest.json, version row.

Every step is a conditional write that can be repeated, by this run or another one. A version is
complete when both its completion marker and its row exist in that state.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from shared.clock import iso, parse_iso
from shared.errors import InfrastructureError, InvalidDataError
from shared.exports import InvoiceScope
from shared.invoices import facts_of, settles_on
from shared.landing.documents import (
    MarkerBlob,
    build_completion_marker,
    parse_completion_marker,
)
from shared.landing.layout import marker_path, names_path, version_path
from shared.landing.store import LandedBlob, LandingStore
from shared.ledger.ledger import Ledger
from shared.ledger.runs import Run
from shared.ledger.versions import INCOMPLETE, Version
from shared.optimistic_concurrency import CONFLICT, Conflict, update
from shared.telemetry import APP_VERSION
from shared.versions.folder import read_folder
from shared.versions.months import verify_month
from shared.versions.publication import publish, to_document


@dataclass(frozen=True)
class CommitOutcome:
    """The result of a commit.

    `missing` is the number of blobs that are not landed and proven; if it is 0, the version is
    complete. `row` is the current version row.
    """

    row: Version
    missing: int


async def commit_version(
    ledger: Ledger,
    landing: LandingStore,
    run: Run,
    number: int,
    proof: str,
    settle_days: int = 21,
) -> CommitOutcome:
    """Commit the version that plan `number` of the run contains.

    Billed data settles `settle_days` after the invoice date, or after it first landed if the date
    is unknown.

    Raises:
        InvalidDataError: `foreign_blob` if the folder contains a blob that the manifest does not.
        DifferentMonthError: The data is not confirmed to be of the month of the unbilled key.
        InfrastructureError: The plan or the version row is missing, or other runs change the row.
    """
    stored = await landing.read(names_path(run.run_id, number))
    if stored is None:
        raise InfrastructureError("plan_missing", "Plan")
    names = json.loads(stored[0])

    async def read() -> Version:
        version = await ledger.versions.get(run.export_key, run.manifest_etag, run.version_n)
        if version is None:  # version rows are never deleted
            raise InfrastructureError("version_unknown", "Version")
        return version

    async def write(version: Version) -> CommitOutcome | Conflict:
        if version.state == "complete":
            # An earlier attempt of the activity or another run of the key has committed it.
            await publish(ledger, landing, version)
            return CommitOutcome(version, 0)
        blobs = await _list_proven(ledger, landing, version, dict(names["blobs"]))
        if version.state not in INCOMPLETE or len(blobs) < len(names["blobs"]):
            return CommitOutcome(version, max(1, len(names["blobs"]) - len(blobs)))
        if version.state == "landing":  # a damaged version was confirmed before it landed
            dates = (blob.facts.newest_date for blob in blobs)
            verify_month(run.export_key, run.root_directory, dates)
        committed = await _commit(ledger, landing, run, version, names, blobs, proof, settle_days)
        return CommitOutcome(committed, 0) if committed else CONFLICT

    return await update(read, write, contended_code="version_contended", component="Version")


async def _list_proven(
    ledger: Ledger, landing: LandingStore, version: Version, partition_values: Mapping[str, str]
) -> list[MarkerBlob]:
    """Return the landed and proven blobs among `partition_values`, which is keyed by blob name."""
    folder = await read_folder(ledger, landing, version)
    if foreign := sorted(folder.landed.keys() - partition_values.keys()):
        blob = folder.landed[foreign[0]]
        raise InvalidDataError("foreign_blob", _describe_foreign(blob, len(foreign)))
    return [
        MarkerBlob(name, value, folder.rows[name].source_etag, folder.rows[name].facts)
        for name, value in partition_values.items()
        if folder.is_proven(name)
    ]


async def _commit(
    ledger: Ledger,
    landing: LandingStore,
    run: Run,
    version: Version,
    names: Mapping[str, Any],
    blobs: list[MarkerBlob],
    proof: str,
    settle_days: int,
) -> Version | None:
    """Write the row, the marker, latest.json and the final state of the row.

    Returns None if another run changed the row meanwhile.
    """
    previous = await ledger.versions.get_newest_complete(run.export_key, before=version)
    is_content_proven = all(blob.facts.is_content_proven for blob in blobs)
    landed_at = version.landed_at or iso(ledger.clock.now())
    claimed = await ledger.versions.update(
        version,
        run_id=run.run_id,
        landed_at=landed_at,
        # Blobs of one version can have been proven with different settings.
        proof=proof if is_content_proven else "transfer",
        **await _get_invoice_columns(ledger, run, previous, landed_at, settle_days),
        path=version_path(run.export_key, version.version),
        supersedes=previous.version if previous else "",
        blobs=len(blobs),
        bytes=sum(blob.facts.bytes for blob in blobs),
        rows=sum(blob.facts.rows for blob in blobs),
    )
    if claimed is None:
        return None
    await _write_marker(landing, run, claimed, names, blobs)
    sequence = await publish(ledger, landing, claimed)
    return await ledger.versions.change_state(claimed, "complete", sequence=sequence)


async def _get_invoice_columns(
    ledger: Ledger,
    run: Run,
    previous: Version | None,
    landed_at: str,
    settle_days: int,
) -> dict[str, str]:
    """Return the columns that the invoice, as last listed, adds to the row of a billed version."""
    scope = run.export_key.scope
    if not isinstance(scope, InvoiceScope):
        return {}
    invoice = await ledger.invoices.get(scope.invoice_id)
    day = settles_on(invoice.issued if invoice else None, settle_days)
    known = str(day) if day else previous.settles_on if previous else ""
    return {
        "settles_on": known or str(settles_on(parse_iso(landed_at), settle_days)),
        "invoice": json.dumps(facts_of(invoice)) if invoice else "",
    }


async def _write_marker(
    landing: LandingStore,
    run: Run,
    version: Version,
    names: Mapping[str, Any],
    blobs: list[MarkerBlob],
) -> None:
    def build() -> Iterator[bytes]:
        return build_completion_marker(
            run.export_key,
            version=to_document(version),
            source={
                name: names[name] for name in ("manifest_id", "schema_version", "partner_tenant_id")
            },
            request={
                "period": run.asked_period or None,
                "requested_at": run.asked_at,
                "operation_id": run.operation_id,
                "request_ids": [value for value in run.request_ids.split(",") if value],
            },
            run={"run_id": run.run_id, "app_version": APP_VERSION},
            proof=version.proof,
            blobs=blobs,
            invoice=json.loads(version.invoice) if version.invoice else None,
        )

    path = marker_path(run.export_key, version.version)
    content = {blob.name: blob.facts.content for blob in blobs}

    async def write(existing: tuple[bytes, str] | None) -> Conflict | None:
        """Write the marker, unless it already describes the same content.

        The name belongs to this app. A marker that is invalid or describes other content results
        from an interrupted repair or was changed by someone else; it is replaced.
        """
        if existing is not None:
            listed = parse_completion_marker(existing[0], version.version, version.manifest_etag)
            if listed is not None and content == {
                name: blob.facts.content for name, blob in listed.items()
            }:
                return None
        etag = await landing.put_if_match(path, build(), existing[1] if existing else None)
        return CONFLICT if etag is None else None

    await update(
        lambda: landing.read(path), write, contended_code="marker_contended", component="Marker"
    )


def _describe_foreign(blob: LandedBlob, count: int) -> str:
    """Return the error detail. Names in the partner's container are not secret."""
    name = "".join(character for character in blob.name[:200] if character.isprintable())
    return (
        f"The folder of the version contains {count} blobs that the manifest does not name. "
        f"The first one is {name} ({blob.size} bytes)"
    )
