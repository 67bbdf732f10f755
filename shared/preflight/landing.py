"""May the app do in the partner's storage what a run does there? Every probe is gone afterwards.

Deleting is tried first, where there is nothing: storage refuses before it looks, so that a probe is written only where
it can be taken away again. One that a killed process left is taken away by a later check.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

from shared.errors import BillingExportError
from shared.landing.storage_errors import code_of, from_library, status_of
from shared.ledger.keys import random_suffix, stamp, started_at
from shared.preflight.context import PreflightContext
from shared.preflight.findings import Finding, fail, from_error, ok, unknown, warn

FOLDER = "preflight"  # beside data/, catalogue/ and runs/
BODY = b'{"what": "a probe of the preflight; it may be deleted"}'
FORGOTTEN = timedelta(hours=1)  # longer than any check goes on
ODD, WRONG = timedelta(seconds=30), timedelta(minutes=5)


async def container(parts: PreflightContext) -> Finding:
    """Delete, write, overwrite, read, list: what plans, markers and pointers need."""
    store, path = parts.landing, f"{FOLDER}/{probe_name(parts.machine.now())}"
    steps = Steps("delete")
    try:
        await store.delete(path)
        try:
            whole = await _write_and_read(parts, path, steps)
        finally:
            await store.delete(path)
    except BillingExportError as error:
        if error.error_code == "ContainerNotFound":
            return warn("container_missing", container=parts.settings.landing_container)
        return from_error(error, refused=steps.at)
    facts = {"container": parts.settings.landing_container}
    return ok(**facts) if whole else fail("probe_not_found", **facts)


async def _write_and_read(parts: PreflightContext, path: str, steps: "Steps") -> bool:
    """Whether the probe is found as it was written."""
    store = parts.landing
    steps.at = "write"
    etag = await store.create(path, BODY)
    steps.at = "overwrite"
    await store.put_if_match(path, BODY, etag)
    steps.at = "read"
    found = await store.read(path)
    steps.at = "list"
    listed = [f"{FOLDER}/{blob.name}" for blob in await store.list(FOLDER)]
    steps.at = "delete"
    for name in listed:
        if is_forgotten(name.removeprefix(f"{FOLDER}/"), parts.machine.now()):
            await store.delete(name)
    return found is not None and found[0] == BODY and path in listed


async def tables(parts: PreflightContext) -> Finding:
    """Insert, change, list and delete a row of the locks table, where no key has its lock."""
    row, steps = probe_name(parts.machine.now()), Steps("read")
    try:
        await parts.ledger.tables.get(
            "locks", FOLDER, row
        )  # the first use makes the tables, as that of any run
        steps.at = "delete"
        await _take_away(parts, row)
        try:
            whole = await _insert_and_list(parts, row, steps)
        finally:
            await _take_away(parts, row)
    except Exception as error:
        if not from_library(error):
            raise
        return _tables_said(error, steps.at)
    return (
        ok(table_prefix=parts.settings.landing_table_prefix)
        if whole
        else fail("probe_not_found", table="locks")
    )


async def _insert_and_list(parts: PreflightContext, row: str, steps: "Steps") -> bool:
    ledger = parts.ledger.tables
    steps.at = "insert"
    etag = await ledger.insert("locks", FOLDER, row, {"run_id": ""})
    steps.at = "change"
    changed = etag and await ledger.merge("locks", FOLDER, row, {"run_id": "probe"}, etag)
    steps.at = "list"
    listed = [str(each.values["RowKey"]) async for each in ledger.list("locks", FOLDER)]
    steps.at = "delete"
    for name in listed:
        if is_forgotten(name, parts.machine.now()):
            await _take_away(parts, name)
    return bool(changed) and row in listed


async def _take_away(parts: PreflightContext, row: str) -> None:
    """Whether it is there or not; a refusal is raised."""
    try:
        await parts.ledger.tables.delete("locks", FOLDER, [row])
    except Exception as error:
        if status_of(error) != 404:
            raise


@dataclass
class Steps:
    """What is being tried."""

    at: str


def _tables_said(error: BaseException, step: str) -> Finding:
    status, code = status_of(error), code_of(error)
    facts: dict[str, Any] = {"refused": step, "http_status": status, "error_code": code}
    facts = {name: value for name, value in facts.items() if value is not None}
    if status is None and type(error).__name__ in (
        "ClientAuthenticationError",
        "CredentialUnavailableError",
    ):
        return fail("identity_unavailable")
    return fail("tables_forbidden" if status in (401, 403) else "tables_unreachable", **facts)


async def clock_skew(parts: PreflightContext) -> Finding:
    """Storage's Date against this machine's clock: signatures are refused when the two are minutes apart."""
    dates: list[str] = []

    def note(response: Any) -> None:
        dates.append(response.http_response.headers.get("Date", ""))

    asked = parts.machine.now()
    try:
        await parts.landing.get_blob_client(f"{FOLDER}/none", for_transfer=False).exists(
            raw_response_hook=note
        )
    except Exception as error:
        if not from_library(error):
            raise
    answered = parts.machine.now()
    try:
        there = parsedate_to_datetime(dates[-1])
    except (IndexError, ValueError, TypeError):
        return unknown("clock_unknown")
    skew = max(
        asked - there - timedelta(seconds=1), there - answered, timedelta(0)
    )  # a Date has whole seconds
    facts = {"skew_seconds": round(skew.total_seconds(), 1)}
    if skew < ODD:
        return ok(**facts)
    return fail("clock_skewed", **facts) if skew >= WRONG else warn("clock_skewed", **facts)


def probe_name(now: datetime) -> str:
    return f"probe-{stamp(now)}-{random_suffix()}"


def is_forgotten(name: str, now: datetime) -> bool:
    """A probe that no check still works with.

    >>> from datetime import UTC
    >>> noon = datetime(2026, 11, 8, 12, tzinfo=UTC)
    >>> [is_forgotten(name, noon) for name in ("probe-20261108t093700z-x7qa", "probe-20261108t115900z-x7qa", "x")]
    [True, False, False]
    """
    made = started_at(name) if name.startswith("probe-") else None
    return made is not None and now - made > FORGOTTEN
