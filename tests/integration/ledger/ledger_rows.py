"""Export keys, runs and versions for the ledger tests."""

from datetime import UTC, datetime
from typing import Any

from shared.exports import ExportKey
from shared.ledger.keys import run_id
from shared.ledger.ledger import Ledger
from shared.ledger.runs import Run
from shared.ledger.versions import Version, new_version, select_by_etag

START = datetime(2026, 11, 21, 6, 0, tzinfo=UTC)
KEY = ExportKey.parse("billed_usage/G016907411/full")
OTHER_KEY = ExportKey.parse("unbilled_usage/2026-11/USD/full")


def build_run(suffix: str = "aaaa", key: ExportKey = KEY, **columns: Any) -> Run:
    return Run(
        run_id=run_id(key, START, suffix),
        key=str(key),
        started_at="2026-11-21T06:00:00Z",
        **columns,
    )


async def list_versions(ledger: Ledger) -> list[Version]:
    return [version async for version in ledger.versions.list_by_key(KEY)]


async def list_by_etag(ledger: Ledger, etag: str) -> list[Version]:
    return select_by_etag(await list_versions(ledger), etag)


async def insert_complete_version(
    ledger: Ledger,
    key: ExportKey = KEY,
    etag: str = "e1",
    *,
    day: int = 8,
    run: str = "",
    **columns: Any,
) -> Version:
    """Insert a complete version whose data was created on the given day in November 2026."""
    created = datetime(2026, 11, day, tzinfo=UTC)
    inserted = await ledger.versions.insert(
        new_version(
            key,
            etag,
            1,
            f"202611{day:02}T000000Z-{etag}",
            created=created,
            now=ledger.clock.now(),
            run_id=run,
        )
    )
    assert inserted is not None
    changed = await ledger.versions.change_state(
        inserted, "complete", path=f"data/{etag}", **columns
    )
    assert changed is not None
    return changed
