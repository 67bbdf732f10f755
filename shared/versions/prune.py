"""Deletes what retention does not keep of an export key: old versions, and abandoned folders.

The row is changed first (If-Match), then the completion marker and the blobs are deleted. From the
first step on, the version does not count as complete, and the next call deletes the remaining blobs
if a call was interrupted or rejected (policy, legal hold). The report about the version and, in
accounts with a hierarchical namespace, the empty folders are deleted last. `emptied_at` in the row
means that nothing remains. The following are never deleted:

- The version that latest.json names, all newer versions, and all versions if latest.json is
  invalid.
- The versions of a key whose lock is held by a run.
- Blobs without the metadata of this app.

Ages are determined from the rows, not from the dates of storage, which change when an account is
copied or restored.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal
from urllib.parse import quote

from shared.clock import iso, parse_iso
from shared.errors import BillingExportError
from shared.exports import Dataset, ExportKey
from shared.landing.documents import parse_completion_marker, parse_latest_version
from shared.landing.layout import (
    COMPLETION_MARKER,
    DATA,
    REPORTS,
    RUNS,
    latest_path,
    marker_path,
    report_path,
    run_path,
    version_path,
)
from shared.landing.store import LandedBlob, LandingStore
from shared.ledger.ledger import Ledger
from shared.ledger.runs import Run
from shared.ledger.versions import REMOVED, Version

ABANDONED_AFTER = timedelta(days=7)


@dataclass(frozen=True)
class PrunedVersion:
    """The result for one version.

    `removed` is the number of deleted blobs including the marker, `left` the number of blobs that
    are foreign or could not be deleted, and `code` the last error.
    """

    version: str
    state: Literal["pruned", "abandoned"]
    removed: int
    left: int = 0
    code: str = ""


async def prune_key(
    ledger: Ledger,
    landing: LandingStore,
    key: ExportKey,
    *,
    keep: int,
    grace: timedelta,
    abandoned_after: timedelta = ABANDONED_AFTER,
) -> list[PrunedVersion]:
    """Delete the old and the abandoned versions of a key. Idempotent.

    Read errors are raised; delete errors are part of the result.

    Args:
        ledger: The ledger.
        landing: The landing container.
        key: The export key.
        keep: The number of complete versions to keep, newest first; 0 keeps all.
        grace: How long readers can use a version after a newer one has landed.
        abandoned_after: The age at which an incomplete version is abandoned.
    """
    if await ledger.locks.is_held(str(key)):
        return []
    now, latest = ledger.clock.now(), await _read_latest_version(landing, key)
    versions = sorted(
        [version async for version in ledger.versions.list_by_key(key)],
        key=lambda version: version.age,
        reverse=True,
    )
    results = []
    for version in versions:
        removable: Version | None = None
        if version.state in REMOVED:  # an earlier call may have been interrupted or rejected
            removable = None if version.emptied_at else version
        elif _is_old(version, versions, latest, now, keep, grace):
            removable = await ledger.versions.change_state(version, "pruned", pruned_at=iso(now))
        elif await _is_abandoned(landing, key, version, latest, now, abandoned_after):
            removable = await ledger.versions.change_state(version, "abandoned", pruned_at=iso(now))
        if removable is not None:
            results.append(await _delete_blobs(ledger, landing, key, removable))
    return results


async def prune_plans(landing: LandingStore, run: Run) -> int:
    """Delete the plans of a finished run and return the number of files. Idempotent."""
    if run.result is None:
        return 0
    files = await landing.list(run_path(run.run_id))
    for file in files:
        await landing.delete(f"{run_path(run.run_id)}/{file.name}")
    await landing.delete_empty_folders(run_path(run.run_id), root=RUNS)
    return len(files)


async def _read_latest_version(landing: LandingStore, key: ExportKey) -> str | None:
    """Return the version that latest.json names, or None if it is missing or invalid."""
    latest = await landing.read(latest_path(key))
    return parse_latest_version(latest[0]) if latest is not None else None


def _is_old(
    version: Version,
    versions: list[Version],
    latest: str | None,
    now: datetime,
    keep: int,
    grace: timedelta,
) -> bool:
    """Return whether a complete or damaged version can be deleted.

    `versions` are sorted newest first.
    """
    if (
        version.state not in ("complete", "damaged")
        or keep <= 0
        or latest is None
        or version.version == latest
    ):
        return False
    complete = [other for other in versions if other.state == "complete"]
    newer = [other for other in complete if other.age > version.age]
    published = next((other for other in complete if other.version == latest), None)
    if len(newer) < keep or published is None or published.age < version.age:
        return False
    superseded_at = max(
        parse_iso(version.landed_at), min(parse_iso(other.landed_at) for other in newer)
    )
    return now - superseded_at > grace


async def _is_abandoned(
    landing: LandingStore,
    key: ExportKey,
    version: Version,
    latest: str | None,
    now: datetime,
    abandoned_after: timedelta,
) -> bool:
    """Return whether no run will complete the version.

    If the completion marker exists, the next run of the key completes the row, however old it is.
    """
    if version.state != "landing" or version.version == latest:
        return False
    if now - parse_iso(version.last_planned_at or version.first_seen) <= abandoned_after:
        return False
    marker = await landing.read(marker_path(key, version.version))
    return (
        marker is None
        or parse_completion_marker(marker[0], version.version, version.manifest_etag) is None
    )


async def _delete_blobs(
    ledger: Ledger, landing: LandingStore, key: ExportKey, version: Version
) -> PrunedVersion:
    state: Literal["pruned", "abandoned"] = "pruned" if version.state == "pruned" else "abandoned"
    result = PrunedVersion(version.version, state, 0)
    has_remaining = False
    async for blob, is_own in _list_blobs(landing, key, version):
        if not is_own:
            result = replace(result, left=result.left + 1)
            continue
        try:
            deleted = await landing.delete(
                f"{version_path(key, version.version)}/{blob.name}", blob.etag
            )
        except BillingExportError as error:
            # A policy, a legal hold or a missing permission can affect single blobs only.
            result = replace(result, left=result.left + 1, code=error.code)
            has_remaining = True
            if blob.name == COMPLETION_MARKER:
                break  # a marker must never exist without its blobs
        else:
            result = replace(result, removed=result.removed + deleted)
            has_remaining = has_remaining or not deleted
    if not has_remaining:
        try:
            await _delete_report_and_folders(landing, key, version)
        except BillingExportError as error:
            return replace(result, code=error.code)
        await ledger.versions.update(version, emptied_at=iso(ledger.clock.now()))
    return result


async def _delete_report_and_folders(
    landing: LandingStore, key: ExportKey, version: Version
) -> None:
    """Delete the report about a version, and the folders that are empty without the version."""
    folder = version_path(key, version.version)
    await landing.delete_empty_folders(folder, root=f"{DATA}/{key.dataset}")
    if key.dataset is Dataset.BILLED_RECONCILIATION:
        report = report_path("tie_out", key, version.version)
        await landing.delete(report)
        folder = report.rpartition("/")[0]
        await landing.delete_empty_folders(folder, root=f"{REPORTS}/tie_out/{key.dataset}")


async def _list_blobs(
    landing: LandingStore, key: ExportKey, version: Version
) -> AsyncIterator[tuple[LandedBlob, bool]]:
    """Yield the blobs of a version, the marker first, and whether this app wrote each of them."""
    blobs = await landing.list(version_path(key, version.version))
    for blob in sorted(blobs, key=lambda blob: (blob.name != COMPLETION_MARKER, blob.name)):
        yield (
            blob,
            blob.name == COMPLETION_MARKER
            or blob.metadata.get("manifestetag") == quote(version.manifest_etag, safe=""),
        )
