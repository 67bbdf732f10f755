"""Checks of the landing account: the container, the ledger tables and the clock.

The checks perform the operations of a run with probes and delete the probes. They first delete a
probe that does not exist: storage checks the permission before the existence, so a probe is only
written if it can be deleted. A later check deletes the probe of a process that was killed.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

from shared.errors import BillingExportError
from shared.landing.storage_errors import get_error_code, get_status, is_library_error
from shared.ledger.keys import random_suffix, stamp, started_at
from shared.preflight.context import PreflightContext
from shared.preflight.findings import Finding, fail, from_error, ok, unknown, warn

PROBE_FOLDER = "preflight"  # next to data/, catalogue/ and runs/
PROBE_CONTENT = b'{"description": "A probe of the preflight; it can be deleted."}'
PROBE_TABLE = "locks"  # the partition of the probes contains no lock
MAX_PROBE_AGE = timedelta(hours=1)  # longer than any check takes
WARN_CLOCK_SKEW, FAIL_CLOCK_SKEW = timedelta(seconds=30), timedelta(minutes=5)
AUTHENTICATION_ERRORS = ("ClientAuthenticationError", "CredentialUnavailableError")


@dataclass
class Progress:
    """The operation that is in progress."""

    step: str


async def check_container(context: PreflightContext) -> Finding:
    """Delete, write, overwrite, read and list a probe in the landing container."""
    store = context.landing
    path = f"{PROBE_FOLDER}/{create_probe_name(context.machine_clock.now())}"
    progress = Progress("delete")
    facts = {"container": context.settings.landing_container}
    try:
        await store.delete(path)
        try:
            is_unchanged = await _write_and_read_blob(context, path, progress)
        finally:
            await store.delete(path)
    except BillingExportError as error:
        if error.error_code == "ContainerNotFound":
            return warn("container_missing", **facts)
        return from_error(error, failed_step=progress.step)
    return ok(**facts) if is_unchanged else fail("probe_not_found", **facts)


async def _write_and_read_blob(context: PreflightContext, path: str, progress: Progress) -> bool:
    """Return whether the probe is read and listed as it was written."""
    store = context.landing
    progress.step = "write"
    etag = await store.create(path, PROBE_CONTENT)
    progress.step = "overwrite"
    await store.put_if_match(path, PROBE_CONTENT, etag)
    progress.step = "read"
    blob = await store.read(path)
    progress.step = "list"
    paths = [f"{PROBE_FOLDER}/{item.name}" for item in await store.list(PROBE_FOLDER)]
    progress.step = "delete"
    for other in paths:
        if is_expired_probe(other.removeprefix(f"{PROBE_FOLDER}/"), context.machine_clock.now()):
            await store.delete(other)
    return blob is not None and blob[0] == PROBE_CONTENT and path in paths


async def check_tables(context: PreflightContext) -> Finding:
    """Insert, update, list and delete a probe in the locks table.

    As in every run, the first access creates missing tables.
    """
    row_key = create_probe_name(context.machine_clock.now())
    progress = Progress("read")
    try:
        await context.ledger.tables.get(PROBE_TABLE, PROBE_FOLDER, row_key)
        progress.step = "delete"
        await _delete_row(context, row_key)
        try:
            is_unchanged = await _insert_and_list_row(context, row_key, progress)
        finally:
            await _delete_row(context, row_key)
    except Exception as error:
        if not is_library_error(error):
            raise
        return _to_table_finding(error, progress.step)
    if not is_unchanged:
        return fail("probe_not_found", table=PROBE_TABLE)
    return ok(table_prefix=context.settings.landing_table_prefix)


async def _insert_and_list_row(context: PreflightContext, row_key: str, progress: Progress) -> bool:
    tables = context.ledger.tables
    progress.step = "insert"
    etag = await tables.insert(PROBE_TABLE, PROBE_FOLDER, row_key, {"run_id": ""})
    progress.step = "update"
    is_updated = bool(etag) and bool(
        await tables.merge(PROBE_TABLE, PROBE_FOLDER, row_key, {"run_id": "probe"}, etag)
    )
    progress.step = "list"
    row_keys = [str(row.values["RowKey"]) async for row in tables.list(PROBE_TABLE, PROBE_FOLDER)]
    progress.step = "delete"
    for other in row_keys:
        if is_expired_probe(other, context.machine_clock.now()):
            await _delete_row(context, other)
    return is_updated and row_key in row_keys


async def _delete_row(context: PreflightContext, row_key: str) -> None:
    """Delete the row if it exists."""
    try:
        await context.ledger.tables.delete(PROBE_TABLE, PROBE_FOLDER, [row_key])
    except Exception as error:
        if get_status(error) != 404:
            raise


def _to_table_finding(error: BaseException, step: str) -> Finding:
    status, code = get_status(error), get_error_code(error)
    if status is None and type(error).__name__ in AUTHENTICATION_ERRORS:
        return fail("identity_unavailable")
    values: dict[str, Any] = {"failed_step": step, "http_status": status, "error_code": code}
    facts = {name: value for name, value in values.items() if value is not None}
    return fail("tables_forbidden" if status in (401, 403) else "tables_unreachable", **facts)


async def check_clock(context: PreflightContext) -> Finding:
    """Compare the clock of this computer with the Date header of storage.

    Storage rejects signatures if the clocks differ by several minutes.
    """
    dates: list[str] = []

    def keep_date(response: Any) -> None:
        dates.append(response.http_response.headers.get("Date", ""))

    before = context.machine_clock.now()
    try:
        await context.landing.get_blob_client(f"{PROBE_FOLDER}/none", for_transfer=False).exists(
            raw_response_hook=keep_date
        )
    except Exception as error:
        if not is_library_error(error):
            raise
    after = context.machine_clock.now()
    try:
        date = parsedate_to_datetime(dates[-1])
    except (IndexError, ValueError, TypeError):
        return unknown("clock_unknown")
    # A Date header has a resolution of one second.
    skew = max(before - date - timedelta(seconds=1), date - after, timedelta(0))
    facts = {"skew_seconds": round(skew.total_seconds(), 1)}
    if skew < WARN_CLOCK_SKEW:
        return ok(**facts)
    if skew < FAIL_CLOCK_SKEW:
        return warn("clock_skewed", **facts)
    return fail("clock_skewed", **facts)


def create_probe_name(now: datetime) -> str:
    """Return a unique name that contains the time."""
    return f"probe-{stamp(now)}-{random_suffix()}"


def is_expired_probe(name: str, now: datetime) -> bool:
    """Return whether `name` is a probe that no running check uses.

    >>> from datetime import timezone
    >>> noon = datetime(2026, 11, 8, 12, tzinfo=timezone.utc)
    >>> names = ("probe-20261108t093700z-x7qa", "probe-20261108t115900z-x7qa", "x")
    >>> [is_expired_probe(name, noon) for name in names]
    [True, False, False]
    """
    created_at = started_at(name) if name.startswith("probe-") else None
    return created_at is not None and now - created_at > MAX_PROBE_AGE
