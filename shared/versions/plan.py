"""Plans the copy of a version: finds its row, and lists the blobs that are not landed and proven.

Planning is idempotent. The first run that observes an eTag inserts the version row, which
determines the folder; a repeated plan finds the row and overwrites its own pages. names.json and
the pages are written first, the row of the run last.
"""

import asyncio
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from shared.blob_facts import BlobFacts
from shared.clock import iso
from shared.errors import InfrastructureError
from shared.landing.documents import is_newer, parse_latest, parse_marker_blobs
from shared.landing.layout import (
    latest_path,
    marker_path,
    names_path,
    page_path,
    version_id,
    version_path,
)
from shared.landing.store import LandedBlob, LandingStore
from shared.ledger.blobs import BlobRow
from shared.ledger.ledger import Ledger
from shared.ledger.runs import Run
from shared.ledger.versions import ABSENT, Version, new_version
from shared.manifest import Manifest
from shared.optimistic_concurrency import CONFLICT, Conflict, update

PAGE_BLOBS = 100
# Up to this number of blobs, each one has its own activity; above it, an activity copies a batch.
MAX_SINGLE_BLOBS = 200
BATCH_BLOBS = 10
MAX_CONCURRENT_WRITES = 16


@dataclass(frozen=True)
class Plan:
    """The result of planning.

    `pages` is 0 if no blob is missing. `complete` is true if the version has already been committed
    and is undamaged.
    """

    version: Version
    pages: int
    missing: int
    complete: bool


async def plan_copy(
    ledger: Ledger, landing: LandingStore, run: Run, manifest: Manifest, number: int
) -> Plan:
    """Plan the copy of a validated manifest for a run. `number` is the round, starting at 1."""
    await landing.ensure_container()
    version = await find_version(ledger, run, manifest)
    if version.state == "complete":
        # Read before the folder is listed; see reopen().
        marker = await landing.read(marker_path(run.export_key, version.version))
        if marker is not None and not await is_damaged(
            landing, ledger, run, version, manifest, marker[0]
        ):
            await _save_to_run(ledger, run, version, manifest, number)
            return Plan(version, 0, 0, complete=True)
        version = await reopen(ledger, landing, run, version, marker[1] if marker else None)
    missing = await list_unproven(landing, ledger, run, version, manifest)
    pages = list(_split_pages(missing))
    await _write_plan(landing, run, version, manifest, number, pages)
    await _save_to_run(ledger, run, version, manifest, number)
    return Plan(version, len(pages), len(missing), complete=False)


async def find_version(ledger: Ledger, run: Run, manifest: Manifest) -> Version:
    """Return the version row to copy into: a complete one, one in progress, or a new one.

    A run with `force` ignores complete versions, except one that it has completed itself.
    """

    async def read() -> tuple[int, list[Version]]:
        # The number is read first: a row that another run inserts afterwards is either included in
        # the list or has this number, so that the insert fails.
        n = await ledger.versions.get_next_n(run.export_key, manifest.etag)
        return n, await ledger.versions.list_by_etag(run.export_key, manifest.etag)

    async def write(current: tuple[int, list[Version]]) -> Version | Conflict:
        n, existing = current
        landing = [version for version in existing if version.state == "landing"]
        complete = [
            version
            for version in existing
            if version.state == "complete" and (not run.force or version.run_id == run.run_id)
        ]
        if complete:
            return complete[-1]
        if landing:
            return (
                await ledger.versions.update(
                    landing[-1], run_id=run.run_id, last_planned_at=iso(ledger.clock.now())
                )
                or CONFLICT
            )
        assert all(version.state in ABSENT or version.state == "complete" for version in existing)
        return await ledger.versions.insert(_create_version(ledger, run, manifest, n)) or CONFLICT

    return await update(read, write, contended_code="version_contended", component="Version")


def _create_version(ledger: Ledger, run: Run, manifest: Manifest, n: int) -> Version:
    return new_version(
        run.export_key,
        manifest.etag,
        n,
        version_id(manifest.created, manifest.etag, n),
        created=manifest.created,
        now=ledger.clock.now(),
        run_id=run.run_id,
    )


async def list_unproven(
    landing: LandingStore, ledger: Ledger, run: Run, version: Version, manifest: Manifest
) -> list[str]:
    """Return the names of the blobs that are missing or whose current state is not proven."""
    landed, rows = await asyncio.gather(
        list_version_blobs(landing, run, version),
        ledger.blobs.get_by_version(run.export_key, version.version),
    )
    return [
        blob.name
        for blob in manifest.blobs
        if not is_proven(landed.get(blob.name), rows.get(blob.name))
    ]


async def list_version_blobs(
    landing: LandingStore, run: Run, version: Version
) -> dict[str, LandedBlob]:
    """Return the blobs in the folder of a version, by name."""
    return {
        blob.name: blob
        for blob in await landing.list(version_path(run.export_key, version.version))
    }


def is_proven(landed: LandedBlob | None, row: BlobRow | None) -> bool:
    """Return whether the row proves the current state of the blob."""
    return (
        landed is not None
        and row is not None
        and row.ok
        and row.destination_etag == landed.etag
        and row.facts.bytes == landed.size
    )


async def is_damaged(
    landing: LandingStore,
    ledger: Ledger,
    run: Run,
    version: Version,
    manifest: Manifest,
    marker: bytes,
) -> bool:
    """Return whether a complete version has changed since its commit.

    The completion marker replaces the blob rows that retention has deleted.
    """
    marker_blobs = parse_marker_blobs(marker, version.manifest_etag)
    if marker_blobs is None or not await is_published(landing, run, version):
        return True
    landed, rows = await asyncio.gather(
        list_version_blobs(landing, run, version),
        ledger.blobs.get_by_version(run.export_key, version.version),
    )
    return any(
        not is_proven(landed.get(blob.name), rows.get(blob.name))
        and not (
            blob.name not in rows
            and matches_marker(landed.get(blob.name), marker_blobs.get(blob.name))
        )
        for blob in manifest.blobs
    )


async def is_published(landing: LandingStore, run: Run, version: Version) -> bool:
    """Return whether `latest.json` names this version or a newer one.

    It does for every complete version, unless someone has deleted or changed the file.
    """
    stored = await landing.read(latest_path(run.export_key))
    latest = parse_latest(stored[0]) if stored else None
    return latest is not None and not is_newer(
        {
            "created_at": version.created_at,
            "first_seen": version.first_seen,
            "version": version.version,
        },
        latest,
    )


def matches_marker(landed: LandedBlob | None, expected: BlobFacts | None) -> bool:
    """Return whether the size and MD5 hash of a blob equal those in the completion marker."""
    return (
        landed is not None
        and expected is not None
        and landed.size == expected.bytes
        and (landed.md5 or "") == expected.md5 != ""
    )


async def reopen(
    ledger: Ledger, landing: LandingStore, run: Run, version: Version, marker_etag: str | None
) -> Version:
    """Set a damaged version back to "landing" and delete its completion marker before the copy.

    `marker_etag` was read before the folder was listed. A marker that was written since then
    belongs to the repair of another run and is not deleted.
    """
    changed = await ledger.versions.update(
        version, state="landing", run_id=run.run_id, last_planned_at=iso(ledger.clock.now())
    )
    if changed is None:
        # Another run repairs the version; the retry of the activity observes its result.
        raise InfrastructureError("version_contended", "Version")
    if marker_etag is not None:
        await landing.delete(marker_path(run.export_key, version.version), marker_etag)
    return changed


def _split_pages(missing: Sequence[str]) -> Iterator[list[list[str]]]:
    batch_size = 1 if len(missing) <= MAX_SINGLE_BLOBS else BATCH_BLOBS
    for first in range(0, len(missing), PAGE_BLOBS):
        page = missing[first : first + PAGE_BLOBS]
        yield [list(page[start : start + batch_size]) for start in range(0, len(page), batch_size)]


async def _write_plan(
    landing: LandingStore,
    run: Run,
    version: Version,
    manifest: Manifest,
    number: int,
    pages: Sequence[list[list[str]]],
) -> None:
    names = {
        "version": version.version,
        "manifest_etag": manifest.etag,
        "manifest_id": manifest.id,
        "schema_version": manifest.schema_version,
        "partner_tenant_id": manifest.partner_tenant_id,
        "blobs": [[blob.name, blob.partition_value] for blob in manifest.blobs],
    }
    await landing.put(names_path(run.run_id, number), _to_json(names))
    semaphore = asyncio.Semaphore(MAX_CONCURRENT_WRITES)

    async def write(page: int) -> None:
        async with semaphore:
            await landing.put(
                page_path(run.run_id, number, page),
                _to_json({"version": version.version, "batches": pages[page]}),
            )

    await asyncio.gather(*(write(page) for page in range(len(pages))))


async def _save_to_run(
    ledger: Ledger, run: Run, version: Version, manifest: Manifest, number: int
) -> None:
    await ledger.runs.merge(
        run.run_id,
        stage="copying",
        plan=number,
        version=version.version,
        version_n=version.n,
        manifest_etag=manifest.etag,
        manifest_created=iso(manifest.created),
        root_directory=manifest.root_directory,
        blobs_total=len(manifest.blobs),
        path=version_path(run.export_key, version.version),
        next_check_at="",
    )


def _to_json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
