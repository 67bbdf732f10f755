"""Removes what retention need not keep of one key: old versions, and folders that no run will finish.

For the retention timer. The row goes first, by If-Match, then the marker, then the blobs: from the first step on nobody
takes the version for complete, and whatever is left of its folder is removed by the next call, however often one is cut
off or refused (a policy, a legal hold). A row says with `emptied_at` that nothing is left. Nothing is removed of

- the version that latest.json names, of any version if latest.json cannot be read, and of any newer than it;
- a key whose lock is held: a run is at work there;
- a blob without this app's marks: somebody else's.

Ages come from rows, never from storage's dates: those change when an account is copied or restored.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal
from urllib.parse import quote

from shared.clock import iso, parse_iso
from shared.errors import BillingExportError
from shared.exports import ExportKey
from shared.landing.documents import parse_latest_version
from shared.landing.layout import MANIFEST, latest_path, marker_path, run_path, version_path
from shared.landing.store import LandedBlob, LandingStore
from shared.ledger.ledger import Ledger
from shared.ledger.runs import Run
from shared.ledger.versions import ABSENT, Version
from shared.versions.plan import told_by

ABANDONED_AFTER = timedelta(days=7)


@dataclass(frozen=True)
class PrunedVersion:
    """What became of one version. `removed` blobs with the marker; `left`: refused, or not ours; `code`: of the last refusal."""

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
    """`keep` versions that are complete, the newest ones; 0 = all. `grace`: how long readers may go on with an old one.

    Raises what reading raises; a refusal to delete is in the answer. Idempotent: what is done is not done again.
    """
    if await _is_held(ledger, key):
        return []
    now, newest = ledger.clock.now(), await _newest(landing, key)
    versions = sorted(
        [one async for one in ledger.versions.list_by_key(key)],
        key=lambda one: one.age,
        reverse=True,
    )
    done = []
    for version in versions:
        if version.state in ABSENT:
            gone: Version | None = (
                None if version.emptied_at else version
            )  # an earlier call was cut off or refused
        elif _is_old(version, versions, newest, now, keep, grace):
            gone = await ledger.versions.update(version, state="pruned", pruned_at=iso(now))
        elif await _is_abandoned(landing, key, version, newest, now, abandoned_after):
            gone = await ledger.versions.update(version, state="abandoned", pruned_at=iso(now))
        else:
            gone = None
        if gone is not None:
            done.append(await _empty(ledger, landing, key, gone))
    return done


async def prune_plans(landing: LandingStore, run: Run) -> int:
    """The plans of a run that has an outcome; how many files. Raises what deleting raises; the next call goes on."""
    if run.result is None:
        return 0
    files = await landing.list(run_path(run.run_id))
    for file in files:
        await landing.delete(f"{run_path(run.run_id)}/{file.name}")
    return len(files)


async def _is_held(ledger: Ledger, key: ExportKey) -> bool:
    lock = await ledger.locks.get(str(key))
    return lock is not None and lock.run_id != ""


async def _newest(landing: LandingStore, key: ExportKey) -> str | None:
    """The version that readers are pointed to; None where nothing can be told, and so nothing may go."""
    latest = await landing.read(latest_path(key))
    return parse_latest_version(latest[0]) if latest is not None else None


def _is_old(
    version: Version,
    versions: list[Version],
    newest: str | None,
    now: datetime,
    keep: int,
    grace: timedelta,
) -> bool:
    """`versions` from new to old."""
    if version.state != "complete" or keep <= 0 or newest is None or version.version == newest:
        return False
    complete = [one for one in versions if one.state == "complete"]
    newer = [one for one in complete if one.age > version.age]
    pointed = next((one for one in complete if one.version == newest), None)
    if len(newer) < keep or pointed is None or pointed.age < version.age:
        return False
    superseded = max(parse_iso(version.landed_at), min(parse_iso(one.landed_at) for one in newer))
    return now - superseded > grace


async def _is_abandoned(
    landing: LandingStore,
    key: ExportKey,
    version: Version,
    newest: str | None,
    now: datetime,
    after: timedelta,
) -> bool:
    """A marker means that all is there: the next run of the key completes the row, however old it is."""
    if version.state != "landing" or version.version == newest:
        return False
    if now - parse_iso(version.last_planned_at or version.first_seen) <= after:
        return False
    marker = await landing.read(marker_path(key, version.version))
    return marker is None or told_by(marker[0], version) is None


async def _empty(
    ledger: Ledger, landing: LandingStore, key: ExportKey, version: Version
) -> PrunedVersion:
    result = PrunedVersion(
        version.version, "pruned" if version.state == "pruned" else "abandoned", 0
    )
    again = False
    async for blob, ours in _of_folder(landing, key, version):
        if not ours:
            result = replace(result, left=result.left + 1)
            continue
        try:
            gone = await landing.delete(
                f"{version_path(key, version.version)}/{blob.name}", blob.etag
            )
        except (
            BillingExportError
        ) as error:  # a policy, a legal hold, a missing right: the others may go all the same
            result, again = replace(result, left=result.left + 1, code=error.code), True
            if blob.name == MANIFEST:
                break  # nobody must find a marker over half of its blobs
        else:
            result, again = replace(result, removed=result.removed + gone), again or not gone
    if not again:
        await ledger.versions.update(version, emptied_at=iso(ledger.clock.now()))
    return result


async def _of_folder(
    landing: LandingStore, key: ExportKey, version: Version
) -> AsyncIterator[tuple[LandedBlob, bool]]:
    """What lies in the version's folder and whether it is ours: the marker first, then the blobs."""
    blobs = await landing.list(version_path(key, version.version))
    for blob in sorted(blobs, key=lambda blob: (blob.name != MANIFEST, blob.name)):
        yield (
            blob,
            blob.name == MANIFEST
            or blob.metadata.get("manifestetag") == quote(version.manifest_etag, safe=""),
        )
