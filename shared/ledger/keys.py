"""The partition keys and row keys of the tables, and the run IDs that they contain.

run ID       unbilled-usage-2026-11-usd-full-20261108t093700z        scheduled: the scheduled time
             billed-usage-g016907411-full-20261108t093700z-x7qa      manual: four random characters
instance ID  the run ID; in another attempt, followed by ~2 or ~restart-1, for example
runs         202611 / 8205833579-{run ID}                            newest first
versions     billed_usage / G016907411~full~3f9a1c20~1               n starts at 1
blobs        billed_usage~G016907411~full~{version} / first 32 hex digits of SHA-256(name)
"""

import hashlib
import re
import secrets
from datetime import UTC, datetime

from shared.exports import ExportKey

STAMP = re.compile(r"(\d{8}t\d{6}z)(-[a-z2-7]{4})?")
RUN_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,99}")
ATTEMPT = re.compile(r"[a-z0-9-]{1,40}")
NEWEST_FIRST = 9_999_999_999


def stamp(moment: datetime) -> str:
    """Return a time as it appears in IDs, such as `20261108t093700z`."""
    return moment.astimezone(UTC).strftime("%Y%m%dt%H%M%Sz")


def random_suffix() -> str:
    """Return four lower-case base32 characters."""
    return "".join(secrets.choice("abcdefghijklmnopqrstuvwxyz234567") for _ in range(4))


def run_id(key: ExportKey, moment: datetime, suffix: str = "") -> str:
    """Return the ID of a run of an export key.

    >>> key = ExportKey.parse("unbilled_usage/2026-11/USD/full")
    >>> run_id(key, datetime(2026, 11, 8, 9, 37, tzinfo=UTC), "x7qa")
    'unbilled-usage-2026-11-usd-full-20261108t093700z-x7qa'
    """
    words = str(key).lower().replace("_", "-").replace("/", "-")
    return f"{words}-{stamp(moment)}" + (f"-{suffix}" if suffix else "")


def started_at(instance_id: str) -> datetime | None:
    """Return the time in the ID of a run, cycle or backfill, or None if the ID is invalid."""
    match = STAMP.search(instance_id)
    if not RUN_ID.fullmatch(instance_id) or not match or match.end() != len(instance_id):
        return None
    try:
        return datetime.strptime(match[1], "%Y%m%dt%H%M%Sz").replace(tzinfo=UTC)
    except ValueError:
        return None


def is_run_id_of(instance_id: str, key: ExportKey) -> bool:
    """Return whether `run_id()` could have returned the ID for this export key."""
    moment = started_at(instance_id)
    return moment is not None and instance_id.startswith(run_id(key, moment))


def is_attempt_of(instance_id: str, item_id: str) -> bool:
    """Return whether an instance is the first or another attempt of a run, cycle or backfill.

    >>> is_attempt_of("a-20261108t093700z~2", "a-20261108t093700z")
    True
    """
    first, separator, attempt = instance_id.partition("~")
    return first == item_id and (not separator or ATTEMPT.fullmatch(attempt) is not None)


def run_keys(instance_id: str) -> tuple[str, str]:
    """Return the partition key and row key of a run.

    Raises:
        ValueError: The ID is not the ID of a run.
    """
    moment = started_at(instance_id)
    if moment is None:
        raise ValueError("The ID is not the ID of a run.")
    return moment.strftime("%Y%m"), f"{NEWEST_FIRST - int(moment.timestamp()):010}-{instance_id}"


def cycle_keys(cycle_id: str) -> tuple[str, str]:
    """Return the partition key and row key of a cycle."""
    partition, row = run_keys(cycle_id)
    return f"cycle-{partition}", row


def backfill_keys(backfill_id: str) -> tuple[str, str]:
    """Return the partition key and row key of a backfill."""
    partition, row = run_keys(backfill_id)
    return f"backfill-{partition}", row


def flatten_key(key: ExportKey) -> str:
    """Return an export key as part of a table key, such as `billed_usage~G016907411~full`.

    Export keys contain no characters that must be escaped.
    """
    return str(key).replace("/", "~")


def scope_key(key: ExportKey) -> str:
    """Return an export key without its dataset, such as `G016907411~full`."""
    return flatten_key(key).split("~", 1)[1]


def version_row(key: ExportKey, etag: str, n: int) -> str:
    """Return the row key of a version; its partition key is the dataset."""
    return f"{scope_key(key)}~{short_etag_hash(etag)}~{n}"


def short_etag_hash(etag: str) -> str:
    """Return the first 8 hex digits of the SHA-256 hash of an ETag."""
    return hashlib.sha256(etag.encode()).hexdigest()[:8]


def blob_partition(key: ExportKey, version: str) -> str:
    """Return the partition key of the blobs of a version."""
    return f"{flatten_key(key)}~{version}"


def blob_row(name: str) -> str:
    """Return the row key of a blob."""
    return hashlib.sha256(name.encode()).hexdigest()[:32]


def suffix_of(instance_id: str) -> str:
    """Return the random characters of an ID that a user requested; "" for a scheduled cycle.

    The runs of a cycle or a backfill have the same suffix.
    """
    match = STAMP.search(instance_id)
    return (match[2] or "").removeprefix("-") if match else ""
