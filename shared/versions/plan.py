"""Plans the copy of a version: finds its row, and lists the blobs that are not landed and proven.

Planning is idempotent. The first run that observes an eTag inserts the version row, which
determines the folder; a repeated plan finds the row and overwrites its own pages. names.json and
the pages are written first, the row of the run last.
"""

import asyncio
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from shared.clock import iso, parse_iso
from shared.errors import InvalidDataError
from shared.landing.layout import names_path, page_path, version_id, version_path
from shared.landing.store import LandingStore
from shared.ledger.ledger import Ledger
from shared.ledger.runs import Run
from shared.ledger.versions import (
    Version,
    get_newest,
    get_next_n,
    new_version,
    select_by_etag,
)
from shared.manifest import Manifest, billing_month
from shared.optimistic_concurrency import CONFLICT, Conflict, update
from shared.versions.folder import mark_damaged, read_folder
from shared.versions.publication import publish, withdraw

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
    """Plan the copy of a validated manifest for a run. `number` is the round, starting at 1.

    A complete version that is not intact becomes "damaged". While a version has lost blobs, readers
    do not see it.

    Raises:
        InvalidDataError: `manifest_inconsistent` if the version has landed with other blobs.
    """
    await landing.ensure_container()
    version = await find_version(ledger, run, manifest)
    folder = await read_folder(ledger, landing, version)
    names = [blob.name for blob in manifest.blobs]
    if version.state == "complete":
        if folder.is_intact(names):
            await publish(ledger, landing, version)
            await _save_to_run(ledger, run, version, manifest, number)
            return Plan(version, 0, 0, complete=True)
        folder = await mark_damaged(ledger, folder)
    if folder.list_lost(names):
        folder = replace(folder, version=await withdraw(ledger, landing, folder))
    missing = folder.list_unproven(names)
    pages = list(_split_pages(missing))
    await _write_plan(landing, run, folder.version, manifest, number, pages)
    await _save_to_run(ledger, run, folder.version, manifest, number)
    return Plan(folder.version, len(pages), len(missing), complete=False)


async def find_version(ledger: Ledger, run: Run, manifest: Manifest) -> Version:
    """Return the version row to copy into: a complete one, one in progress, or a new one.

    A run with `force` ignores versions that have landed, except one that it has completed itself.
    If Microsoft returns the data of an earlier version again after other data, it lands again as a
    new version.

    Raises:
        InvalidDataError: `manifest_inconsistent` if the version has landed with other blobs.
    """

    async def read() -> list[Version]:
        return [version async for version in ledger.versions.list_by_key(run.export_key)]

    async def write(versions: list[Version]) -> Version | Conflict:
        existing = select_by_etag(versions, manifest.etag)
        newest = get_newest(versions, "complete")
        candidates = [
            version for version in existing if not _is_superseded(version, newest, manifest)
        ]
        landed = [
            version
            for version in candidates
            if version.state in ("complete", "damaged")
            and (not run.force or version.run_id == run.run_id)
        ]
        if any(version.names_hash != manifest.names_hash for version in landed):
            raise InvalidDataError(
                "manifest_inconsistent",
                f"The manifest lists {len(manifest.blobs)} blobs, which differ from the "
                f"{landed[-1].blobs} blobs of version {landed[-1].version}",
            )
        complete = [version for version in landed if version.state == "complete"]
        if complete:
            return complete[-1]
        unfinished = [
            version
            for version in candidates
            if version in landed
            or (version.state == "landing" and version.names_hash == manifest.names_hash)
        ]
        if unfinished:
            return (
                await ledger.versions.update(
                    unfinished[-1], run_id=run.run_id, last_planned_at=iso(ledger.clock.now())
                )
                or CONFLICT
            )
        n = get_next_n(versions, manifest.etag)  # the insert fails if another run uses it meanwhile
        return await ledger.versions.insert(_create_version(ledger, run, manifest, n)) or CONFLICT

    return await update(read, write, contended_code="version_contended", component="Version")


def _is_superseded(version: Version, newest: Version | None, manifest: Manifest) -> bool:
    """Return whether other data landed after a version and before the manifest was created."""
    return (
        newest is not None
        and newest.manifest_etag != manifest.etag
        and version.age < newest.age
        and parse_iso(newest.created_at) < manifest.created
    )


def _create_version(ledger: Ledger, run: Run, manifest: Manifest, n: int) -> Version:
    return new_version(
        run.export_key,
        manifest.etag,
        n,
        version_id(manifest.created, manifest.etag, n),
        created=manifest.created,
        now=ledger.clock.now(),
        run_id=run.run_id,
        names_hash=manifest.names_hash,
        billing_month=str(billing_month(manifest.root_directory) or ""),
    )


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
