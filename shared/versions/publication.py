"""What readers see of a version: its completion marker, and latest.json of its export key.

Every function can be repeated after an interruption at any point. A version is removed from what
readers see only as it was read before its folder was listed, so that the repair of another run is
never undone.
"""

from typing import Any

from shared.errors import InfrastructureError
from shared.exports import ExportKey
from shared.landing.documents import (
    build_latest,
    get_sequence,
    is_newer,
    parse_latest,
    parse_latest_version,
)
from shared.landing.layout import COMPLETION_MARKER, latest_path, marker_path, version_path
from shared.landing.store import LandingStore
from shared.ledger.ledger import Ledger
from shared.ledger.versions import Version, get_newest
from shared.optimistic_concurrency import CONFLICT, Conflict, update
from shared.versions.folder import Folder, mark_damaged, read_folder


async def publish(ledger: Ledger, landing: LandingStore, version: Version) -> int:
    """Point latest.json to a version, unless it names this version or a newer one.

    Returns:
        The `sequence` of latest.json.
    """
    key = ExportKey.parse(version.key)
    path, document = latest_path(key), to_document(version)

    async def write(stored: tuple[bytes, str] | None) -> int | Conflict:
        latest = parse_latest(stored[0]) if stored else None
        if latest is not None and not is_newer(document, latest):
            return get_sequence(latest)
        sequence = (
            get_sequence(latest) if latest else await ledger.versions.get_max_sequence(key)
        ) + 1
        body = _build_latest(version, sequence)
        etag = await landing.put_if_match(path, body, stored[1] if stored else None)
        return CONFLICT if etag is None else sequence

    return await update(
        lambda: landing.read(path), write, contended_code="latest_contended", component="Latest"
    )


async def withdraw(ledger: Ledger, landing: LandingStore, folder: Folder) -> Version:
    """Remove a version that has lost blobs from what readers see, and return its row.

    latest.json then names the newest complete version that has lost no blob, or is deleted if there
    is none. After that, the completion marker is deleted.
    """
    version, path = folder.version, latest_path(folder.key)
    latest = parse_latest(folder.latest[0]) if folder.latest else None
    if folder.latest and latest and latest["version"] == version.version:
        sequence = get_sequence(latest)
        version = await _save_sequence(ledger, version, sequence)
        previous = await find_readable_version(ledger, landing, folder.key)
        if previous is None:
            await landing.delete(path, folder.latest[1])
        else:
            body = _build_latest(previous, sequence + 1)
            await landing.put_if_match(path, body, folder.latest[1])
    if folder.marker_etag is not None:
        await landing.delete(marker_path(folder.key, version.version), folder.marker_etag)
    if version.state == "damaged":
        await ledger.catalogue.refresh(folder.key)
    return version


async def find_readable_version(
    ledger: Ledger, landing: LandingStore, key: ExportKey
) -> Version | None:
    """Return the newest complete version that has lost no blob. Mark the newer ones as damaged."""
    while (newest := await ledger.versions.get_newest_complete(key)) is not None:
        folder = await read_folder(ledger, landing, newest)
        if folder.is_readable():
            return newest
        await withdraw(ledger, landing, await mark_damaged(ledger, folder))
    return None


async def verify_published(ledger: Ledger, landing: LandingStore, key: ExportKey) -> None:
    """Verify that readers find the newest complete version of a key, and correct latest.json.

    No blobs are copied: the next run that finds the same data repairs a damaged version. A key
    that a run holds is skipped, because the run verifies its version itself.
    """
    if await ledger.locks.is_held(str(key)):
        return
    stored = await landing.read(latest_path(key))
    named = parse_latest_version(stored[0]) if stored else None
    versions = [version async for version in ledger.versions.list_by_key(key)]
    for version in versions:
        if version.state == "damaged" and version.version == named:  # a call was interrupted
            await withdraw(ledger, landing, await read_folder(ledger, landing, version))
    newest = get_newest(versions, "complete")
    if newest is not None and not await _has_expected_size(landing, newest):
        newest = await find_readable_version(ledger, landing, key)
    if newest is not None and newest.version != named:
        await publish(ledger, landing, newest)


async def _has_expected_size(landing: LandingStore, version: Version) -> bool:
    """Return whether the folder contains the completion marker and the expected number of bytes.

    This requires one request per 5,000 blobs, and not the completion marker and the blob rows.
    """
    key = ExportKey.parse(version.key)
    sizes = {
        blob.name: blob.size for blob in await landing.list(version_path(key, version.version))
    }
    has_marker = sizes.pop(COMPLETION_MARKER, None) is not None
    return has_marker and (len(sizes), sum(sizes.values())) == (version.blobs, version.bytes)


def to_document(version: Version) -> dict[str, Any]:
    """Return the members that the completion marker and latest.json share."""
    return {
        "version": version.version,
        "etag": version.manifest_etag,
        "created_at": version.created_at,
        "landed_at": version.landed_at,
        "first_seen": version.first_seen,
        "supersedes": version.supersedes or None,
        "path": version.path,
    }


def _build_latest(version: Version, sequence: int) -> bytes:
    return build_latest(
        ExportKey.parse(version.key),
        sequence=sequence,
        billing_month=version.billing_month,
        version={**to_document(version), "settles_on": version.settles_on or None},
        totals={"blobs": version.blobs, "bytes": version.bytes, "rows": version.known_rows},
    )


async def _save_sequence(ledger: Ledger, version: Version, sequence: int) -> Version:
    """Save the `sequence`, with which a later latest.json continues after it was deleted."""
    if version.sequence >= sequence:
        return version
    saved = await ledger.versions.update(version, sequence=sequence)
    if saved is None:
        raise InfrastructureError("version_contended", "Version")
    return saved
