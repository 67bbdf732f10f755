"""How runs end: once, in order, and the same however often they are closed."""

import asyncio
import logging
from typing import Any

import pytest

from shared.errors import InfrastructureError
from shared.ledger.blobs import BlobRow
from shared.ledger.claims import claim
from shared.ledger.ledger import Ledger
from shared.ledger.outcomes import clean_up_orphaned_runs, close_run
from shared.ledger.runs import Run
from shared.ledger.versions import Version
from tests.integration.ledger.ledger_rows import KEY, START, build_run, insert_complete_version
from tests.support.clocks import FakeClock


async def live(ledger: Ledger, suffix: str = "aaaa") -> Run:
    run = build_run(suffix)
    assert await claim(ledger, run) == {"status": "claimed"}
    return run


async def stored(ledger: Ledger, run: Run) -> Run:
    there = await ledger.runs.get(run.run_id)
    assert there is not None
    return there


async def copying(ledger: Ledger, run: Run, version: Version, blobs: int = 3) -> None:
    await ledger.runs.merge(
        run.run_id,
        version=version.version,
        version_n=version.n,
        manifest_etag=version.manifest_etag,
        blobs_total=blobs,
    )


async def whole_state(ledger: Ledger) -> Any:
    """Runs, catalogue and locks, ETags included."""
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
    run = await live(ledger)
    with caplog.at_level(logging.INFO, "partner_billing.events"):
        assert await close_run(
            ledger, run.run_id, {"outcome": "failed", "code": "graph_forbidden"}
        ) == {"outcome": "failed", "code": "graph_forbidden"}
        state = await whole_state(ledger)
        clock.advance(hours=1)
        assert await close_run(ledger, run.run_id, {"outcome": "no_data"}) == {
            "outcome": "failed",
            "code": "graph_forbidden",
        }
    assert await whole_state(ledger) == state
    events = [
        record.getMessage() for record in caplog.records if record.name == "partner_billing.events"
    ]
    assert len(events) == 2 and all(
        f'"event_id":"{run.run_id}/ended/1"' in event for event in events
    )
    row, lock, entry = (
        await stored(ledger, run),
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
    run = await live(ledger)
    codes = ["graph_forbidden", "deadline_passed", "platform_fault", "run_lost", "terminated"]
    ends = await asyncio.gather(
        *(close_run(ledger, run.run_id, {"outcome": "failed", "code": code}) for code in codes)
    )
    assert all(end == ends[0] for end in ends) and (await stored(ledger, run)).code == ends[0].get(
        "code"
    )


async def test_close_run_with_complete_version_ends_landed(ledger: Ledger) -> None:
    run = await live(ledger)
    version = await insert_complete_version(ledger, run=run.run_id, blobs=3, bytes=30, rows=6)
    await copying(ledger, run, version)
    assert await close_run(ledger, run.run_id, {"outcome": "failed", "code": "platform_fault"}) == {
        "outcome": "landed",
        "version": version.version,
    }
    row = await stored(ledger, run)
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
    run = await live(ledger)
    await copying(
        ledger,
        run,
        await insert_complete_version(ledger, run="somebody", blobs=3, bytes=30, rows=6),
    )
    assert await close_run(ledger, run.run_id, {"outcome": "failed", "code": "platform_fault"}) == {
        "outcome": "failed",
        "code": "platform_fault",
    }


@pytest.mark.parametrize("outcome", ["unchanged", "landed"])
async def test_close_run_unchanged_stores_counts_of_version(ledger: Ledger, outcome: Any) -> None:
    run = await live(ledger)
    version = await insert_complete_version(ledger, run="somebody", blobs=3, bytes=30, rows=6)
    await copying(ledger, run, version)
    assert await close_run(
        ledger, run.run_id, {"outcome": outcome, "version": version.version}
    ) == {"outcome": outcome, "version": version.version}
    row = await stored(ledger, run)
    assert (row.blobs_total, row.blobs_landed, row.bytes, row.rows, row.path) == (
        3,
        3,
        30,
        6,
        "data/e1",
    )


async def test_close_run_incomplete_stores_counts_of_verified_blobs(ledger: Ledger) -> None:
    run = await live(ledger)
    version = await insert_complete_version(ledger, run=run.run_id)
    await ledger.versions.update(version, state="landing")
    await copying(ledger, run, version)
    await ledger.blobs.record(
        KEY,
        version.version,
        [
            BlobRow("a", True, run.run_id, bytes=10, rows=1),
            BlobRow("b", True, run.run_id, bytes=20, rows=2),
            BlobRow("c", False, run.run_id, bytes=99, rows=99, code="proof_gzip"),
        ],
    )
    assert await close_run(
        ledger, run.run_id, {"outcome": "incomplete", "code": "blobs_missing"}
    ) == {"outcome": "incomplete", "code": "blobs_missing"}
    row = await stored(ledger, run)
    assert (row.blobs_landed, row.blobs_failed, row.bytes, row.rows) == (2, 1, 30, 3)


async def test_close_run_without_lock_updates_only_its_row(ledger: Ledger) -> None:
    run = await live(ledger)
    await ledger.locks.release(run.key, run.run_id)
    following = await live(ledger, "bbbb")
    await insert_complete_version(ledger)
    assert await close_run(
        ledger, run.run_id, {"outcome": "superseded", "live_run_id": following.run_id}
    ) == {"outcome": "superseded", "live_run_id": following.run_id}
    lock = await ledger.locks.get(run.key)
    assert (
        lock is not None
        and lock.run_id == following.run_id
        and await ledger.catalogue.get(KEY) is None
    )


@pytest.mark.parametrize("step", ["catalogue", "release"])
async def test_close_run_after_crash_completes_remaining_steps(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    run = await live(ledger)

    async def crash(*args: Any) -> None:
        raise RuntimeError("the process is gone")

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
        and (await stored(ledger, run)).outcome == "no_data"
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


def looks(state: str) -> Any:
    async def look(run_id: str) -> Any:
        return state

    return look


@pytest.mark.parametrize(
    ("state", "end"),
    [
        ("terminated", {"outcome": "failed", "code": "terminated"}),
        ("over", {"outcome": "failed", "code": "platform_fault"}),
    ],
)
async def test_clean_up_closes_orphaned_run(
    ledger: Ledger, state: str, end: dict[str, str]
) -> None:
    run = await live(ledger)
    assert await clean_up_orphaned_runs(ledger, looks(state)) == [run.run_id]
    assert (await stored(ledger, run)).result == end and await clean_up_orphaned_runs(
        ledger, looks(state)
    ) == []


async def test_clean_up_cancels_orphaned_run_with_cancel_request(ledger: Ledger) -> None:
    run = await live(ledger)
    await ledger.runs.mark_cancelled(run.run_id, START, "ada")
    await clean_up_orphaned_runs(ledger, looks("terminated"))
    assert (await stored(ledger, run)).result == {"outcome": "cancelled", "code": "cancelled"}


async def test_clean_up_keeps_live_run(ledger: Ledger, clock: FakeClock) -> None:
    run = await live(ledger)
    clock.advance(days=30)
    assert (
        await clean_up_orphaned_runs(ledger, looks("live")) == []
        and (await stored(ledger, run)).outcome == ""
    )


async def test_clean_up_closes_run_unknown_for_five_minutes(
    ledger: Ledger, clock: FakeClock
) -> None:
    run = await live(ledger)
    assert await clean_up_orphaned_runs(ledger, looks("unknown")) == []
    clock.advance(minutes=4)
    assert await clean_up_orphaned_runs(ledger, looks("unknown")) == []
    assert await clean_up_orphaned_runs(ledger, looks("live")) == []  # and is forgotten
    clock.advance(minutes=4)
    assert await clean_up_orphaned_runs(ledger, looks("unknown")) == []
    clock.advance(minutes=4, seconds=45)  # the timer is not exact
    assert await clean_up_orphaned_runs(ledger, looks("unknown")) == [run.run_id]
    assert (await stored(ledger, run)).result == {"outcome": "failed", "code": "run_lost"}


async def test_clean_up_keeps_run_of_other_hub_until_lease_expires(
    ledger: Ledger, clock: FakeClock
) -> None:
    run = await live(ledger)
    ledger.hub = "Other"
    clock.advance(minutes=59)
    assert (
        await clean_up_orphaned_runs(ledger, looks("unknown"))
        == []
        == await clean_up_orphaned_runs(ledger, looks("terminated"))
    )
    clock.advance(minutes=2)
    assert await clean_up_orphaned_runs(ledger, looks("live")) == [run.run_id]
    assert (await stored(ledger, run)).code == "run_lost"


async def test_clean_up_closes_only_orphaned_run(ledger: Ledger) -> None:
    run = await live(ledger)
    other = Run(
        run_id="unbilled-usage-2026-11-usd-full-20261121t060000z-aaaa",
        key="unbilled_usage/2026-11/USD/full",
    )
    await claim(ledger, other)

    async def look(run_id: str) -> Any:
        return "terminated" if run_id == other.run_id else "live"

    assert (
        await clean_up_orphaned_runs(ledger, look) == [other.run_id]
        and (await stored(ledger, run)).outcome == ""
    )
