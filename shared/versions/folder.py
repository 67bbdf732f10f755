"""The folder of a version: its blobs, compared with the ledger and the completion marker."""

import asyncio
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from shared.clock import iso
from shared.errors import InfrastructureError
from shared.exports import ExportKey
from shared.landing.documents import MarkerBlob, parse_completion_marker
from shared.landing.layout import COMPLETION_MARKER, latest_path, marker_path, version_path
from shared.landing.store import LandedBlob, LandingStore
from shared.ledger.blobs import BlobRow
from shared.ledger.ledger import Ledger
from shared.ledger.versions import Version
from shared.telemetry import emit_event


@dataclass(frozen=True)
class Folder:
    """What the landing container and the ledger contain for a version.

    `marker` and `latest` were read before the folder was listed. `marker` is None if the completion
    marker is missing or invalid.
    """

    version: Version
    landed: Mapping[str, LandedBlob]
    rows: Mapping[str, BlobRow]
    marker: Mapping[str, MarkerBlob] | None
    marker_etag: str | None
    latest: tuple[bytes, str] | None

    @property
    def key(self) -> ExportKey:
        """The export key."""
        return ExportKey.parse(self.version.key)

    def is_proven(self, name: str) -> bool:
        """Return whether the row proves the current state of the blob."""
        blob, row = self.landed.get(name), self.rows.get(name)
        return (
            blob is not None
            and row is not None
            and row.ok
            and row.destination_etag == blob.etag
            and row.facts.bytes == blob.size
        )

    def list_unproven(self, names: Collection[str]) -> list[str]:
        """Return the names of the blobs that are missing or whose current state is not proven."""
        return [name for name in names if not self.is_proven(name)]

    def list_lost(self, names: Collection[str]) -> list[str]:
        """Return the names of the blobs that are missing or have other content.

        If only the ETag of a blob has changed, its content is proven again in place.
        """
        return [name for name in names if self._is_lost(name)]

    def _is_lost(self, name: str) -> bool:
        blob, row, listed = self.landed.get(name), self.rows.get(name), self._get_listed(name)
        recorded = row or listed
        return (
            blob is None
            or recorded is None
            or (row is not None and not row.ok)
            or recorded.facts.bytes != blob.size
            or (
                recorded.facts.md5 != "" and blob.md5 is not None and recorded.facts.md5 != blob.md5
            )
        )

    def is_readable(self) -> bool:
        """Return whether readers find the blobs that the completion marker lists."""
        return self.marker is not None and not self.list_lost(self.marker.keys())

    def is_intact(self, names: Collection[str]) -> bool:
        """Return whether a complete version of these blobs is unchanged since its commit.

        The completion marker replaces the blob rows that retention has deleted. If both exist,
        they must describe the same content.
        """
        return (
            self.marker is not None
            and self.marker.keys() == set(names)
            and all(
                self.is_proven(name) and self.rows[name].facts.content == blob.facts.content
                if name in self.rows
                else self.matches_marker(name)
                for name, blob in self.marker.items()
            )
        )

    def _get_listed(self, name: str) -> MarkerBlob | None:
        return self.marker.get(name) if self.marker is not None else None

    def matches_marker(self, name: str) -> bool:
        """Return whether the size and MD5 hash of a blob equal those in the completion marker."""
        blob, expected = self.landed.get(name), self._get_listed(name)
        return (
            blob is not None
            and expected is not None
            and blob.size == expected.facts.bytes
            and (blob.md5 or "") == expected.facts.md5 != ""
        )


async def read_folder(ledger: Ledger, landing: LandingStore, version: Version) -> Folder:
    """Read the folder, the blob rows and what readers see of a version."""
    key = ExportKey.parse(version.key)
    marker, latest = await asyncio.gather(
        landing.read(marker_path(key, version.version)), landing.read(latest_path(key))
    )
    blobs, rows = await asyncio.gather(
        landing.list(version_path(key, version.version)),
        ledger.blobs.get_by_version(key, version.version),
    )
    return Folder(
        version,
        {blob.name: blob for blob in blobs if blob.name != COMPLETION_MARKER},
        rows,
        parse_completion_marker(marker[0], version.version, version.manifest_etag)
        if marker
        else None,
        marker[1] if marker else None,
        latest,
    )


async def mark_damaged(ledger: Ledger, folder: Folder) -> Folder:
    """Set a complete version to "damaged", and return its folder.

    The blob rows that retention has deleted are restored from the completion marker first, because
    the repair needs the hashes of the blobs and can delete the marker.

    Raises:
        InfrastructureError: Another run changed the row; the retry observes its result.
    """
    rows = {
        name: _restore_row(folder, blob)
        for name, blob in (folder.marker or {}).items()
        if name not in folder.rows
    }
    await ledger.blobs.record(folder.key, folder.version.version, rows.values())
    now = iso(ledger.clock.now())
    changed = await ledger.versions.change_state(
        folder.version, "damaged", damaged_at=now, last_planned_at=now, blob_rows_removed_at=""
    )
    if changed is None:
        raise InfrastructureError("version_contended", "Version")
    emit_event(
        "version_damaged",
        f"{changed.key}/{changed.version}/{now}",
        key=changed.key,
        version=changed.version,
        code="version_damaged",
    )
    return replace(folder, version=changed, rows={**folder.rows, **rows})


def _restore_row(folder: Folder, blob: MarkerBlob) -> BlobRow:
    """Return the row of a blob; the blob is proven if it still matches the completion marker."""
    landed = folder.landed.get(blob.name)
    return BlobRow(
        name=blob.name,
        ok=folder.matches_marker(blob.name),
        run_id=folder.version.run_id,
        destination_etag=landed.etag if landed else "",
        facts=blob.facts,
        source_etag=blob.source_etag,
    )
