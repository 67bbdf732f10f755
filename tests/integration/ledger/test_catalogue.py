"""Catalogue entries: the newest complete version and the last ended run of each key."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from shared.exports import Dataset, ExportKey
from shared.ledger.catalogue import CatalogueEntry
from shared.ledger.ledger import Ledger
from shared.ledger.runs import Run
from shared.ledger.versions import Version
from tests.integration.ledger.ledger_rows import KEY, OTHER_KEY, build_run, insert_complete_version


def build_ended_run(
    minute: int, outcome: str = "landed", suffix: str = "aaaa", **columns: Any
) -> Run:
    return build_run(suffix, outcome=outcome, ended_at=f"2026-11-21T06:{minute:02}:00Z", **columns)


async def get_entry(ledger: Ledger, key: ExportKey = KEY) -> CatalogueEntry:
    entry = await ledger.catalogue.get(key)
    assert entry is not None
    return entry


async def test_refresh_without_version_stores_last_outcome(ledger: Ledger) -> None:
    assert await ledger.catalogue.get(KEY) is None
    await ledger.catalogue.refresh(KEY, build_ended_run(5, "failed", code="graph_forbidden"))
    assert await get_entry(ledger) == CatalogueEntry(
        key=str(KEY),
        invoice_id="G016907411",
        attribute_set="full",
        last_outcome="failed",
        last_code="graph_forbidden",
        last_run_id=build_run().run_id,
        last_ended_at="2026-11-21T06:05:00Z",
    )


async def test_refresh_stores_newest_version(ledger: Ledger) -> None:
    version = await insert_complete_version(
        ledger, blobs=2, bytes=2**40, rows=3, landed_at="2026-11-21T06:04:00Z"
    )
    await ledger.catalogue.refresh(KEY, build_ended_run(5))
    entry = await get_entry(ledger)
    assert (
        entry.version,
        entry.manifest_etag,
        entry.path,
        entry.blobs,
        entry.bytes,
        entry.rows,
        entry.landed_at,
    ) == (version.version, "e1", "data/e1", 2, 2**40, 3, "2026-11-21T06:04:00Z")
    await ledger.catalogue.refresh(OTHER_KEY, replace(build_ended_run(6), key=str(OTHER_KEY)))
    assert (
        (await get_entry(ledger, OTHER_KEY)).billing_month,
        (await get_entry(ledger, OTHER_KEY)).currency_code,
    ) == ("2026-11", "USD")


async def test_refresh_is_idempotent(ledger: Ledger) -> None:
    await insert_complete_version(ledger)
    for _ in range(2):
        await ledger.catalogue.refresh(KEY, build_ended_run(5))
        row = await ledger.tables.get("catalogue", "billed_usage", "G016907411~full")
        assert row is not None
        etag = row.etag
    await ledger.catalogue.refresh(KEY, build_ended_run(5))
    row = await ledger.tables.get("catalogue", "billed_usage", "G016907411~full")
    assert row is not None and row.etag == etag


async def test_refresh_by_slow_caller_keeps_newer_version(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another run lands a newer version after the slow caller has read the versions."""
    await insert_complete_version(ledger, etag="e1", day=8)
    await ledger.catalogue.refresh(KEY, build_ended_run(5))
    list_by_key, newer = ledger.versions.list_by_key, list[Version]()

    async def list_slowly(key: ExportKey) -> AsyncIterator[Version]:
        versions = [version async for version in list_by_key(key)]
        if not newer:
            newer.append(await insert_complete_version(ledger, etag="e2", day=9))
            await ledger.catalogue.refresh(KEY, build_ended_run(6, suffix="bbbb"))
        for version in versions:
            yield version

    monkeypatch.setattr(ledger.versions, "list_by_key", list_slowly)
    await ledger.catalogue.refresh(KEY, build_ended_run(5))
    entry = await get_entry(ledger)
    assert entry.version == newer[0].version and entry.last_run_id == build_run("bbbb").run_id


async def test_refresh_after_failed_run_keeps_version(ledger: Ledger) -> None:
    version = await insert_complete_version(ledger)
    await ledger.catalogue.refresh(KEY, build_ended_run(5))
    await ledger.tables.merge("catalogue", "billed_usage", "G016907411~full", {"other": "matched"})
    await ledger.catalogue.refresh(KEY, build_ended_run(6, "failed", code="graph_forbidden"))
    entry = await get_entry(ledger)
    assert entry.version == version.version and entry.last_outcome == "failed"
    row = await ledger.tables.get("catalogue", "billed_usage", "G016907411~full")
    # refresh() keeps the columns that other functions write.
    assert row is not None and row.values["other"] == "matched"


async def test_refresh_with_damaged_versions_shows_newest_only(ledger: Ledger) -> None:
    first, second, third = [
        await insert_complete_version(ledger, etag=f"e{day}", day=day, rows=day)
        for day in (7, 8, 9)
    ]
    for version in (first, third):
        assert await ledger.versions.change_state(
            version, "damaged", damaged_at="2026-11-21T06:00:00Z"
        )
    await ledger.catalogue.refresh(KEY)
    entry = await get_entry(ledger)
    assert (entry.version, entry.rows, entry.damaged_version, entry.damaged_at) == (
        second.version,
        8,
        third.version,
        "2026-11-21T06:00:00Z",
    )
    assert entry.last_outcome == ""
    newest = await insert_complete_version(ledger, etag="e10", day=10)
    await ledger.catalogue.refresh(KEY)
    entry = await get_entry(ledger)
    assert (entry.version, entry.damaged_version) == (newest.version, "")


async def test_refresh_after_late_close_keeps_last_outcome(ledger: Ledger) -> None:
    await insert_complete_version(ledger)
    await ledger.catalogue.refresh(KEY, build_ended_run(10, "unchanged", "bbbb"))
    await ledger.catalogue.refresh(KEY, build_ended_run(5, "failed", code="run_lost"))
    entry = await get_entry(ledger)
    assert (entry.last_outcome, entry.last_code, entry.last_run_id) == (
        "unchanged",
        "",
        build_run("bbbb").run_id,
    )


async def test_refresh_concurrently_stores_newest_version(ledger: Ledger) -> None:
    versions = [
        await insert_complete_version(ledger, etag=f"e{day}", day=day) for day in range(1, 9)
    ]
    await asyncio.gather(
        *(
            ledger.catalogue.refresh(KEY, build_ended_run(n, suffix=f"aaa{'abcdefgh'[n]}"))
            for n, version in enumerate(versions)
        )
    )
    entry = await get_entry(ledger)
    assert entry.version == versions[-1].version and entry.last_run_id == build_run("aaah").run_id


@pytest.mark.parametrize("dataset", list(Dataset))
async def test_get_page_returns_only_the_dataset(ledger: Ledger, dataset: Dataset) -> None:
    keys = [str(KEY), "billed_usage/G016907412/basic", str(OTHER_KEY)]
    for key in keys:
        await ledger.catalogue.refresh(ExportKey.parse(key), build_ended_run(5))
    assert [entry.key async for entry in ledger.catalogue.list_by_dataset(dataset)] == [
        key for key in keys if key.startswith(f"{dataset}/")
    ]
