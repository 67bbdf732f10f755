"""Closing runs: exactly one outcome, even after a crash."""

import asyncio
import logging
from typing import Any

import pytest

from shared.blob_facts import BlobFacts
from shared.errors import InfrastructureError
from shared.ledger.blobs import BlobRow
from shared.ledger.claims import claim
from shared.ledger.ledger import Ledger
from shared.ledger.outcomes import close_run
from shared.ledger.runs import Run
from shared.ledger.versions import Version, new_version
from tests.integration.ledger.ledger_rows import KEY, START, build_run, insert_complete_version
from tests.support.clocks import FakeClock


async def claim_run(ledger: Ledger, suffix: str = "aaaa") -> Run:
    run = build_run(suffix)
    assert await claim(ledger, run) == {"status": "claimed"}
    return run


async def get_run(ledger: Ledger, run: Run) -> Run:
    row = await ledger.runs.get(run.run_id)
    assert row is not None
    return row


async def set_version(ledger: Ledger, run: Run, version: Version, blobs: int = 3) -> None:
    await ledger.runs.merge(
        run.run_id,
        version=version.version,
        version_n=version.n,
        manifest_etag=version.manifest_etag,
        blobs_total=blobs,
    )


async def read_state(ledger: Ledger) -> Any:
    """Return the rows in the runs, catalogue and locks tables, with their ETags."""
    return [
        [(row.values, row.etag) async for row in ledger.tables.list(table, partition)]
        for table, partition in (
            ("runs", "202611"),
            ("catalogue", "billed_usage"),
            ("locks", "lock"),
        )
    ]


async def test_close_run_is_idempotent(
    ledger: Ledger, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    run = await claim_run(ledger)
    with caplog.at_level(logging.INFO, "partner_billing.events"):
        assert await close_run(
            ledger, run.run_id, {"outcome": "failed", "code": "graph_forbidden"}
        ) == {"outcome": "failed", "code": "graph_forbidden"}
        state = await read_state(ledger)
        clock.advance(hours=1)
        assert await close_run(ledger, run.run_id, {"outcome": "no_data"}) == {
            "outcome": "failed",
            "code": "graph_forbidden",
        }
    assert await read_state(ledger) == state
    events = [
        record.getMessage() for record in caplog.records if record.name == "partner_billing.events"
    ]
    assert len(events) == 2 and all(
        f'"event_id":"{run.run_id}/ended/1"' in event for event in events
    )
    row, lock, entry = (
        await get_run(ledger, run),
        await ledger.locks.get(run.key),
        await ledger.catalogue.get(KEY),
    )
    assert (
        (row.stage, row.ended_at) == ("ended", "2026-11-21T06:00:00Z")
        and lock is not None
        and lock.run_id == ""
    )
    assert entry is not None and (entry.last_outcome, entry.version) == ("failed", "")


async def test_close_run_concurrently_stores_one_outcome(ledger: Ledger) -> None:
    run = await claim_run(ledger)
    codes = ["graph_forbidden", "deadline_passed", "platform_fault", "run_lost", "terminated"]
    results = await asyncio.gather(
        *(close_run(ledger, run.run_id, {"outcome": "failed", "code": code}) for code in codes)
    )
    assert all(result == results[0] for result in results) and (
        await get_run(ledger, run)
    ).code == results[0].get("code")


async def test_close_run_with_complete_version_ends_landed(ledger: Ledger) -> None:
    run = await claim_run(ledger)
    version = await insert_complete_version(ledger, run=run.run_id, blobs=3, bytes=30, rows=6)
    await set_version(ledger, run, version)
    assert await close_run(ledger, run.run_id, {"outcome": "failed", "code": "platform_fault"}) == {
        "outcome": "landed",
        "version": version.version,
    }
    row = await get_run(ledger, run)
    assert (row.blobs_landed, row.blobs_failed, row.bytes, row.rows, row.path, row.code) == (
        3,
        0,
        30,
        6,
        "data/e1",
        "",
    )
    entry = await ledger.catalogue.get(KEY)
    assert entry is not None and (entry.version, entry.last_outcome) == (version.version, "landed")


async def test_close_run_ignores_version_of_other_run(ledger: Ledger) -> None:
    run = await claim_run(ledger)
    await set_version(
        ledger,
        run,
        await insert_complete_version(ledger, run="other-run", blobs=3, bytes=30, rows=6),
    )
    assert await close_run(ledger, run.run_id, {"outcome": "failed", "code": "platform_fault"}) == {
        "outcome": "failed",
        "code": "platform_fault",
    }


@pytest.mark.parametrize("outcome", ["unchanged", "landed"])
async def test_close_run_unchanged_stores_counts_of_version(ledger: Ledger, outcome: Any) -> None:
    run = await claim_run(ledger)
    version = await insert_complete_version(ledger, run="other-run", blobs=3, bytes=30, rows=6)
    await set_version(ledger, run, version)
    assert await close_run(
        ledger, run.run_id, {"outcome": outcome, "version": version.version}
    ) == {"outcome": outcome, "version": version.version}
    row = await get_run(ledger, run)
    assert (row.blobs_total, row.blobs_landed, row.bytes, row.rows, row.path) == (
        3,
        3,
        30,
        6,
        "data/e1",
    )


@pytest.mark.parametrize(
    ("state", "code"), [("landing", "blobs_missing"), ("damaged", "version_damaged")]
)
async def test_close_run_incomplete_stores_counts_of_verified_blobs(
    ledger: Ledger, state: str, code: str
) -> None:
    run = await claim_run(ledger)
    version = await insert_complete_version(ledger, run=run.run_id)
    if state == "damaged":
        assert await ledger.versions.change_state(version, "damaged")
    else:
        version = new_version(
            KEY, "e2", 1, "v-2", created=START, now=ledger.clock.now(), run_id=run.run_id
        )
        assert await ledger.versions.insert(version)
    await set_version(ledger, run, version)
    await ledger.blobs.record(
        KEY,
        version.version,
        [
            BlobRow("a", True, run.run_id, facts=BlobFacts(10, rows=1, encoding="gzip")),
            BlobRow("b", True, run.run_id, facts=BlobFacts(20, rows=2, encoding="gzip")),
            BlobRow(
                "c",
                False,
                run.run_id,
                facts=BlobFacts(99, rows=99, encoding="gzip"),
                code="proof_gzip",
            ),
        ],
    )
    assert await close_run(
        ledger, run.run_id, {"outcome": "incomplete", "code": "blobs_missing"}
    ) == {"outcome": "incomplete", "code": code}
    row = await get_run(ledger, run)
    assert (row.blobs_landed, row.blobs_failed, row.bytes, row.rows) == (2, 1, 30, 3)


async def test_close_run_without_lock_updates_only_its_row(ledger: Ledger) -> None:
    run = await claim_run(ledger)
    await ledger.locks.release(run.key, run.run_id)
    next_run = await claim_run(ledger, "bbbb")
    await insert_complete_version(ledger)
    assert await close_run(
        ledger, run.run_id, {"outcome": "superseded", "live_run_id": next_run.run_id}
    ) == {"outcome": "superseded", "live_run_id": next_run.run_id}
    lock = await ledger.locks.get(run.key)
    assert (
        lock is not None
        and lock.run_id == next_run.run_id
        and await ledger.catalogue.get(KEY) is None
    )


@pytest.mark.parametrize("step", ["catalogue", "release"])
async def test_close_run_after_crash_completes_remaining_steps(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    run = await claim_run(ledger)

    async def crash(*args: Any) -> None:
        raise RuntimeError("simulated crash")

    with monkeypatch.context() as patch:
        patch.setattr(
            *(
                (ledger.catalogue, "refresh", crash)
                if step == "catalogue"
                else (ledger.locks, "release", crash)
            )
        )
        with pytest.raises(RuntimeError):
            await close_run(ledger, run.run_id, {"outcome": "no_data"})
    lock = await ledger.locks.get(run.key)
    assert (
        lock is not None
        and lock.run_id == run.run_id
        and (await get_run(ledger, run)).outcome == "no_data"
    )
    assert await close_run(ledger, run.run_id, {"outcome": "failed", "code": "run_lost"}) == {
        "outcome": "no_data"
    }
    lock, entry = await ledger.locks.get(run.key), await ledger.catalogue.get(KEY)
    assert (
        lock is not None
        and lock.run_id == ""
        and entry is not None
        and entry.last_outcome == "no_data"
    )


async def test_close_run_unknown_run_raises(ledger: Ledger) -> None:
    with pytest.raises(InfrastructureError, match="run_unknown"):
        await close_run(ledger, build_run().run_id, {"outcome": "no_data"})
