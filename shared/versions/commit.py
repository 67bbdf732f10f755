"""Proves that all of a version is landed, and says so to readers: marker, latest.json, version row, in this order.

Every step may be repeated, by this run or another: each is a conditional write that leaves what is done already.
A version is complete when its marker and its row say so.
"""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from shared.clock import iso, parse_iso
from shared.errors import InfrastructureError, InvalidDataError
from shared.exports import InvoiceScope
from shared.invoices import facts_of, settles_on
from shared.landing.documents import MarkerBlob, is_newer, latest, marker, parse_latest
from shared.landing.layout import MANIFEST, latest_path, marker_path, names_path, version_path
from shared.landing.store import LandedBlob, LandingStore
from shared.ledger.blobs import BlobRow
from shared.ledger.ledger import Ledger
from shared.ledger.runs import Run
from shared.ledger.versions import Version
from shared.manifest import billing_month
from shared.telemetry import APP_VERSION
from shared.versions.plan import folder, is_proven, told_by

MOST_TRIES = 20


@dataclass(frozen=True)
class CommitOutcome:
    """`missing` 0: the version is complete. Else so many blobs are not landed and proven. `row` is the version's, as it is."""

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
    """Commits what plan `number` of the run planned; billed data settle `settle_days` after their invoice's date, or after
    they first landed where that is not known. Raises Rejected(foreign_blob).
    """
    stored = await landing.read(names_path(run.run_id, number))
    if stored is None:
        raise InfrastructureError("plan_missing", "Plan")
    names = json.loads(stored[0])
    for _ in range(MOST_TRIES):
        version = await ledger.versions.get(run.export_key, run.manifest_etag, run.version_n)
        if version is None:
            raise InfrastructureError(
                "version_unknown", "Version"
            )  # version rows are never deleted
        if (
            version.state == "complete"
        ):  # by an earlier attempt of this activity, or by another run of the key
            await _point(landing, run, version)
            return CommitOutcome(version, 0)
        facts = await _proven(ledger, landing, run, version, dict(names["blobs"]))
        if version.state != "landing" or len(facts) < len(names["blobs"]):
            return CommitOutcome(version, max(1, len(names["blobs"]) - len(facts)))
        if landed := await _complete(
            ledger, landing, run, version, names, facts, proof, settle_days
        ):
            return CommitOutcome(landed, 0)
    raise InfrastructureError("version_contended", "Version")


async def _proven(
    ledger: Ledger,
    landing: LandingStore,
    run: Run,
    version: Version,
    wanted: Mapping[str, str],
) -> list[MarkerBlob]:
    """The wanted blobs (name -> partition value) that are landed and proven. Raises Rejected(foreign_blob)."""
    there, rows = await asyncio.gather(
        folder(landing, run, version), ledger.blobs.get_by_version(run.export_key, version.version)
    )
    if foreign := sorted(there.keys() - wanted.keys() - {MANIFEST}):
        raise InvalidDataError("foreign_blob", _whose(there[foreign[0]], len(foreign)))
    return [
        _fact(rows[name], value)
        for name, value in wanted.items()
        if is_proven(there.get(name), rows.get(name))
    ]


async def _complete(
    ledger: Ledger,
    landing: LandingStore,
    run: Run,
    version: Version,
    names: Mapping[str, Any],
    facts: list[MarkerBlob],
    proof: str,
    settle_days: int,
) -> Version | None:
    """Row, marker, latest.json, row. None where another run changed the row meanwhile: look again."""
    before = await ledger.versions.get_newest_complete(run.export_key, before=version)
    landed_at = version.landed_at or iso(ledger.clock.now())
    claimed = await ledger.versions.update(
        version,
        run_id=run.run_id,
        landed_at=landed_at,
        proof=proof,
        **await _invoiced(ledger, run, before, landed_at, settle_days),
        path=version_path(run.export_key, version.version),
        supersedes=before.version if before else "",
        blobs=len(facts),
        bytes=sum(fact.bytes for fact in facts),
        rows=sum(fact.rows for fact in facts),
    )
    if claimed is None:
        return None
    await _mark(landing, run, claimed, names, facts)
    await _point(landing, run, claimed)
    return await ledger.versions.update(claimed, state="complete")


async def _invoiced(
    ledger: Ledger,
    run: Run,
    before: Version | None,
    landed_at: str,
    settle_days: int,
) -> dict[str, str]:
    """What the invoice, as it was last listed, adds to a billed version's row; nothing for an unbilled one."""
    scope = run.export_key.scope
    if not isinstance(scope, InvoiceScope):
        return {}
    invoice = await ledger.invoices.get(scope.invoice_id)
    day = settles_on(invoice.issued if invoice else None, settle_days)
    known = str(day) if day else before.settles_on if before else ""
    return {
        "settles_on": known or str(settles_on(parse_iso(landed_at), settle_days)),
        "invoice": json.dumps(facts_of(invoice)) if invoice else "",
    }


async def _mark(
    landing: LandingStore,
    run: Run,
    version: Version,
    names: Mapping[str, Any],
    facts: list[MarkerBlob],
) -> None:
    body = marker(
        run.export_key,
        version={**_told(version), "path": version.path},
        source={
            name: names[name] for name in ("manifest_id", "schema_version", "partner_tenant_id")
        },
        asked={
            "period": run.asked_period or None,
            "asked_at": run.asked_at,
            "operation_id": run.operation_id,
            "request_ids": [one for one in run.request_ids.split(",") if one],
        },
        run={"run_id": run.run_id, "app_version": APP_VERSION},
        proof=version.proof,
        blobs=facts,
        invoice=json.loads(version.invoice) if version.invoice else None,
    )
    path = marker_path(run.export_key, version.version)
    if await landing.create(path, body) is None:
        there = await landing.read(path)
        if there is None or told_by(there[0], version) is None:
            raise InvalidDataError(
                "foreign_blob", f"{MANIFEST} is there, and is not of this version"
            )


async def _point(landing: LandingStore, run: Run, version: Version) -> None:
    """Moves latest.json to this version, unless it names it or a newer one."""
    path, told = latest_path(run.export_key), _told(version)
    body = latest(
        run.export_key,
        billing_month=billing_month(run.root_directory),
        version={**told, "path": version.path, "settles_on": version.settles_on or None},
        totals={"blobs": version.blobs, "bytes": version.bytes, "rows": version.rows},
    )
    for _ in range(MOST_TRIES):
        there = await landing.read(path)
        says = parse_latest(there[0]) if there else None
        if says is not None and not is_newer(told, says):
            return
        if await landing.put_if_match(path, body, there[1] if there else None) is not None:
            return
    raise InfrastructureError("latest_contended", "Latest")


def _whose(blob: LandedBlob, foreign: int) -> str:
    """Names in the partner's own container are no secret; what no operator could read is left out of them."""
    name = "".join(one for one in blob.name[:200] if one.isprintable())
    return f"{foreign} in the version's folder that the manifest does not name; the first: {name}, {blob.size} bytes"


def _told(version: Version) -> dict[str, Any]:
    return {
        "version": version.version,
        "etag": version.manifest_etag,
        "created_at": version.created_at,
        "landed_at": version.landed_at,
        "first_seen": version.first_seen,
        "supersedes": version.supersedes or None,
    }


def _fact(row: BlobRow, partition_value: str) -> MarkerBlob:
    return MarkerBlob(
        name=row.name,
        partition_value=partition_value,
        bytes=row.bytes,
        rows=row.rows,
        md5=row.md5,
        sha256=row.sha256,
        source_etag=row.source_etag,
        encoding=row.encoding,
        columns=tuple(one for one in row.columns.split(",") if one),
    )
