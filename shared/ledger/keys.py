"""The keys of the tables, and the run id they follow from. Pure.

run id       unbilled-usage-2026-11-usd-full-20261108t093700z          scheduled: the tick being served
             billed-usage-g016907411-full-20261108t093700z-x7qa        manual: and four random characters
runs         202611 / 8205833579-{run id}                              newest first
versions     billed_usage / G016907411~full~3f9a1c20~1                 n from 1: the folder's suffix
blobs        billed_usage~G016907411~full~{version} / first 32 hex of SHA-256(name)
"""

import hashlib
import re
import secrets
from datetime import UTC, datetime

from shared.exports import ExportKey

STAMP = re.compile(r"(\d{8}t\d{6}z)(-[a-z2-7]{4})?")
RUN_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,99}")
NEWEST_FIRST = 9_999_999_999


def stamp(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y%m%dt%H%M%Sz")


def random_suffix() -> str:
    """Four characters of base32, lower case."""
    return "".join(secrets.choice("abcdefghijklmnopqrstuvwxyz234567") for _ in range(4))


def run_id(key: ExportKey, moment: datetime, suffix: str = "") -> str:
    """>>> run_id(ExportKey.parse("unbilled_usage/2026-11/USD/full"), datetime(2026, 11, 8, 9, 37, tzinfo=UTC), "x7qa")
    'unbilled-usage-2026-11-usd-full-20261108t093700z-x7qa'
    """
    words = str(key).lower().replace("_", "-").replace("/", "-")
    return f"{words}-{stamp(moment)}" + (f"-{suffix}" if suffix else "")


def started_at(id_of_run_or_cycle: str) -> datetime | None:
    """The moment in a run's or cycle's id; None where there is none: then it is nobody's id."""
    found = STAMP.search(id_of_run_or_cycle)
    if (
        not RUN_ID.fullmatch(id_of_run_or_cycle)
        or not found
        or found.end() != len(id_of_run_or_cycle)
    ):
        return None
    try:
        return datetime.strptime(found[1], "%Y%m%dt%H%M%Sz").replace(tzinfo=UTC)
    except ValueError:
        return None


def is_run_id_of(id_of_run: str, key: ExportKey) -> bool:
    """Whether the id is one that run_id() makes for this key."""
    moment = started_at(id_of_run)
    return moment is not None and id_of_run.startswith(run_id(key, moment))


def run_keys(id_of_run: str) -> tuple[str, str]:
    """Partition and row. Raises ValueError where started_at() gives None."""
    moment = started_at(id_of_run)
    if moment is None:
        raise ValueError("not the id of a run")
    return moment.strftime("%Y%m"), f"{NEWEST_FIRST - int(moment.timestamp()):010}-{id_of_run}"


def cycle_keys(cycle_id: str) -> tuple[str, str]:
    partition, row = run_keys(cycle_id)
    return f"cycle-{partition}", row


def backfill_keys(backfill_id: str) -> tuple[str, str]:
    partition, row = run_keys(backfill_id)
    return f"backfill-{partition}", row


def flatten_key(key: ExportKey) -> str:
    """The key as one word of a table key: `billed_usage~G016907411~full`; an export key holds nothing that needs escaping."""
    return str(key).replace("/", "~")


def scope_key(key: ExportKey) -> str:
    """The key without its dataset, which is the partition: `G016907411~full`."""
    return flatten_key(key).split("~", 1)[1]


def version_row(key: ExportKey, etag: str, n: int) -> str:
    return f"{scope_key(key)}~{short_etag_hash(etag)}~{n}"


def short_etag_hash(etag: str) -> str:
    return hashlib.sha256(etag.encode()).hexdigest()[:8]


def blob_partition(key: ExportKey, version: str) -> str:
    return f"{flatten_key(key)}~{version}"


def blob_row(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()[:32]


def suffix_of(instance_id: str) -> str:
    """Return the random characters of an ID that a user requested; "" for a scheduled cycle.

    The runs of a cycle or a backfill have the same suffix.
    """
    match = STAMP.search(instance_id)
    return (match[2] or "").removeprefix("-") if match else ""
