"""What is to be copied: the version that a manifest stands for, and which of its blobs are not landed and proven yet.

Idempotent: the first run that sees an eTag inserts the version's row and so fixes its folder; a repeated plan finds the
row and overwrites its own pages. names.json and the pages are written first, the run's row last.
"""

import asyncio
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from shared.clock import iso
from shared.errors import InfrastructureError
from shared.landing.documents import is_newer, parse_latest
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

PAGE = 100  # names
SMALL = 200  # up to so many blobs in all, each is an activity of its own
BATCH = 10  # above that, so many to an activity
MOST_TRIES = 20
WRITES_AT_ONCE = 16


@dataclass(frozen=True)
class Plan:
    """`pages` 0: nothing is missing. `complete`: the version is landed already, and whole."""

    version: Version
    pages: int
    missing: int
    complete: bool


async def plan_copy(
    ledger: Ledger, landing: LandingStore, run: Run, manifest: Manifest, number: int
) -> Plan:
    """Plans `manifest` (which has passed the guards) for `run`; `number` is the round, from 1."""
    await landing.ensure_container()
    version = await find_version(ledger, run, manifest)
    if version.state == "complete":
        marker = await landing.read(
            marker_path(run.export_key, version.version)
        )  # before the listing: see reopen()
        if marker is not None and not await is_damaged(
            landing, ledger, run, version, manifest, marker[0]
        ):
            await _note(ledger, run, version, manifest, number)
            return Plan(version, 0, 0, complete=True)
        version = await reopen(ledger, landing, run, version, marker[1] if marker else None)
    missing = await unproven(landing, ledger, run, version, manifest)
    pages = list(_pages(missing))
    await _write(landing, run, version, manifest, number, pages)
    await _note(ledger, run, version, manifest, number)
    return Plan(version, len(pages), len(missing), complete=False)


async def find_version(ledger: Ledger, run: Run, manifest: Manifest) -> Version:
    """The row to land into: the complete one of this eTag, the one still landing, or a new one.

    By force: never a complete one, unless this very run has completed it.
    """
    for _ in range(MOST_TRIES):
        # the number first: a row that a rival inserts behind it is seen in `known`, or keeps ours of the same number out
        n = await ledger.versions.get_next_n(run.export_key, manifest.etag)
        known = await ledger.versions.list_by_etag(run.export_key, manifest.etag)
        landing = [one for one in known if one.state == "landing"]
        complete = [
            one
            for one in known
            if one.state == "complete" and (not run.force or one.run_id == run.run_id)
        ]
        if complete:
            return complete[-1]
        if landing:
            planned = await ledger.versions.update(
                landing[-1], run_id=run.run_id, last_planned_at=iso(ledger.clock.now())
            )
        else:
            assert all(one.state in ABSENT or one.state == "complete" for one in known)
            planned = await ledger.versions.insert(_new(ledger, run, manifest, n))
        if planned is not None:
            return planned
    raise InfrastructureError("version_contended", "Version")


def _new(ledger: Ledger, run: Run, manifest: Manifest, n: int) -> Version:
    return new_version(
        run.export_key,
        manifest.etag,
        n,
        version_id(manifest.created, manifest.etag, n),
        created=manifest.created,
        now=ledger.clock.now(),
        run_id=run.run_id,
    )


async def unproven(
    landing: LandingStore, ledger: Ledger, run: Run, version: Version, manifest: Manifest
) -> list[str]:
    """The names that are not in the folder, or whose row does not prove the very state that lies there."""
    there, rows = await asyncio.gather(
        folder(landing, run, version), ledger.blobs.get_by_version(run.export_key, version.version)
    )
    return [
        blob.name
        for blob in manifest.blobs
        if not is_proven(there.get(blob.name), rows.get(blob.name))
    ]


async def folder(landing: LandingStore, run: Run, version: Version) -> dict[str, LandedBlob]:
    """What lies in the version's folder, by name."""
    return {
        blob.name: blob
        for blob in await landing.list(version_path(run.export_key, version.version))
    }


def is_proven(there: LandedBlob | None, row: BlobRow | None) -> bool:
    """Proven once, and the same state of the blob still lies there."""
    return (
        there is not None
        and row is not None
        and row.ok
        and row.destination_etag == there.etag
        and row.bytes == there.size
    )


async def is_damaged(
    landing: LandingStore,
    ledger: Ledger,
    run: Run,
    version: Version,
    manifest: Manifest,
    marker: bytes,
) -> bool:
    """Whether anything is not as it was when the version was completed; the marker stands in for rows that retention removed."""
    told = told_by(marker, version)
    if told is None or not await is_pointed_to(landing, run, version):
        return True
    there, rows = await asyncio.gather(
        folder(landing, run, version), ledger.blobs.get_by_version(run.export_key, version.version)
    )
    return any(
        not is_proven(there.get(blob.name), rows.get(blob.name))
        and not (blob.name not in rows and is_as_told(there.get(blob.name), told.get(blob.name)))
        for blob in manifest.blobs
    )


async def is_pointed_to(landing: LandingStore, run: Run, version: Version) -> bool:
    """Whether readers find this version, or a newer one: a complete one always was, so else somebody took latest.json away."""
    there = await landing.read(latest_path(run.export_key))
    says = parse_latest(there[0]) if there else None
    return says is not None and not is_newer(
        {
            "created_at": version.created_at,
            "first_seen": version.first_seen,
            "version": version.version,
        },
        says,
    )


def told_by(marker: bytes, version: Version) -> dict[str, dict[str, Any]] | None:
    """The blobs that a marker tells of, by name; None where it is not the marker of this version, or not whole."""
    try:
        document = json.loads(marker)
        blobs = {
            str(blob["name"]): {"bytes": blob["bytes"], "md5": blob["md5"]}
            for blob in document["blobs"]
        }
        return blobs if document["etag"] == version.manifest_etag else None
    except (ValueError, KeyError, TypeError):
        return None


def is_as_told(there: LandedBlob | None, told: dict[str, Any] | None) -> bool:
    return (
        there is not None
        and told is not None
        and there.size == told["bytes"]
        and (there.md5 or "") == told["md5"] != ""
    )


async def reopen(
    ledger: Ledger, landing: LandingStore, run: Run, version: Version, marker_etag: str | None
) -> Version:
    """A complete version that somebody damaged: back to landing, and its marker away, before anything is copied into it.

    `marker_etag` was read before the folder was listed: a marker that was written since is another repair's, and stays.
    """
    changed = await ledger.versions.update(
        version, state="landing", run_id=run.run_id, last_planned_at=iso(ledger.clock.now())
    )
    if changed is None:
        raise InfrastructureError(
            "version_contended", "Version"
        )  # another run repairs it: the repeat sees what became of it
    if marker_etag is not None:
        await landing.delete(marker_path(run.export_key, version.version), marker_etag)
    return changed


def _pages(missing: Sequence[str]) -> Iterator[list[list[str]]]:
    width = 1 if len(missing) <= SMALL else BATCH
    for first in range(0, len(missing), PAGE):
        page = missing[first : first + PAGE]
        yield [list(page[start : start + width]) for start in range(0, len(page), width)]


async def _write(
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
    await landing.put(names_path(run.run_id, number), _json(names))
    gate = asyncio.Semaphore(WRITES_AT_ONCE)

    async def write(page: int) -> None:
        async with gate:
            await landing.put(
                page_path(run.run_id, number, page),
                _json({"version": version.version, "batches": pages[page]}),
            )

    await asyncio.gather(*(write(page) for page in range(len(pages))))


async def _note(
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


def _json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
