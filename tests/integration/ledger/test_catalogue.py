"""The catalogue: what is landed. It moves forward only, and tells of the newest run that ended."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from shared.exports import Dataset, ExportKey
from shared.ledger.catalogue import CatalogueEntry
from shared.ledger.ledger import Ledger
from shared.ledger.runs import Run
from tests.integration.ledger.ledger_rows import KEY, OTHER_KEY, build_run, insert_complete_version
from tests.support.clocks import FakeClock


def ended(minute: int, outcome: str = "landed", suffix: str = "aaaa", **columns: Any) -> Run:
    return build_run(suffix, outcome=outcome, ended_at=f"2026-11-21T06:{minute:02}:00Z", **columns)


async def entry(ledger: Ledger, key: ExportKey = KEY) -> CatalogueEntry:
    there = await ledger.catalogue.get(key)
    assert there is not None
    return there


async def test_refresh_without_version_stores_last_outcome(ledger: Ledger) -> None:
    assert await ledger.catalogue.get(KEY) is None
    await ledger.catalogue.refresh(KEY, None, ended(5, "failed", code="graph_forbidden"))
    assert await entry(ledger) == CatalogueEntry(
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
    await ledger.catalogue.refresh(KEY, version, ended(5))
    there = await entry(ledger)
    assert (
        there.version,
        there.manifest_etag,
        there.path,
        there.blobs,
        there.bytes,
        there.rows,
        there.landed_at,
    ) == (version.version, "e1", "data/e1", 2, 2**40, 3, "2026-11-21T06:04:00Z")
    await ledger.catalogue.refresh(OTHER_KEY, None, replace(ended(6), key=str(OTHER_KEY)))
    assert (
        (await entry(ledger, OTHER_KEY)).billing_month,
        (await entry(ledger, OTHER_KEY)).currency_code,
    ) == ("2026-11", "USD")


async def test_refresh_is_idempotent(ledger: Ledger) -> None:
    version = await insert_complete_version(ledger)
    for _ in range(2):
        await ledger.catalogue.refresh(KEY, version, ended(5))
        row = await ledger.tables.get("catalogue", "billed_usage", "G016907411~full")
        assert row is not None
        etag = row.etag
    await ledger.catalogue.refresh(KEY, version, ended(5))
    row = await ledger.tables.get("catalogue", "billed_usage", "G016907411~full")
    assert row is not None and row.etag == etag


async def test_refresh_with_older_version_keeps_newer(ledger: Ledger, clock: FakeClock) -> None:
    older, newer = (
        await insert_complete_version(ledger, etag="e1", day=8),
        await insert_complete_version(ledger, etag="e2", day=9),
    )
    await ledger.catalogue.refresh(KEY, newer, ended(5))
    await ledger.catalogue.refresh(
        KEY, older, ended(6, suffix="bbbb")
    )  # it had looked before the newer one was complete
    there = await entry(ledger)
    assert there.version == newer.version and there.last_run_id == build_run("bbbb").run_id


async def test_refresh_after_failed_run_keeps_version(ledger: Ledger) -> None:
    version = await insert_complete_version(ledger)
    await ledger.catalogue.refresh(KEY, version, ended(5))
    await ledger.tables.merge(
        "catalogue", "billed_usage", "G016907411~full", {"tie_out": "matched"}
    )
    await ledger.catalogue.refresh(
        KEY, None, ended(6, "failed", code="graph_forbidden")
    )  # its version is being repaired
    there = await entry(ledger)
    assert there.version == version.version and there.last_outcome == "failed"
    row = await ledger.tables.get("catalogue", "billed_usage", "G016907411~full")
    assert row is not None and row.values["tie_out"] == "matched"  # columns of others stay


async def test_refresh_after_late_close_keeps_last_outcome(ledger: Ledger) -> None:
    version = await insert_complete_version(ledger)
    await ledger.catalogue.refresh(KEY, version, ended(10, "unchanged", "bbbb"))
    await ledger.catalogue.refresh(KEY, version, ended(5, "failed", code="run_lost"))
    there = await entry(ledger)
    assert (there.last_outcome, there.last_code, there.last_run_id) == (
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
            ledger.catalogue.refresh(KEY, version, ended(n, suffix=f"aaa{'abcdefgh'[n]}"))
            for n, version in enumerate(versions)
        )
    )
    there = await entry(ledger)
    assert there.version == versions[-1].version and there.last_run_id == build_run("aaah").run_id


@pytest.mark.parametrize("dataset", list(Dataset))
async def test_get_page_returns_only_the_dataset(ledger: Ledger, dataset: Dataset) -> None:
    keys = [str(KEY), "billed_usage/G016907412/basic", str(OTHER_KEY)]
    for key in keys:
        await ledger.catalogue.refresh(ExportKey.parse(key), None, ended(5))
    assert [one.key async for one in ledger.catalogue.list_by_dataset(dataset)] == [
        key for key in keys if key.startswith(f"{dataset}/")
    ]
