"""Run rows, and the lock check at the start of each activity."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from shared.ledger.claims import claim
from shared.ledger.keys import run_id
from shared.ledger.ledger import Ledger
from shared.ledger.outcomes import close_run
from shared.ledger.runs import COLUMNS, MAX_REQUEST_IDS, Run, seconds_between
from tests.integration.ledger.ledger_rows import KEY, OTHER_KEY, START, build_run
from tests.support.clocks import FakeClock


async def test_row_round_trips(ledger: Ledger) -> None:
    run = build_run(force=True, reason="ü", bytes=2**40, rows=7, epoch=3, request_ids="a,b")
    assert await ledger.runs.insert(run) and not await ledger.runs.insert(build_run(reason="other"))
    stored = await ledger.runs.get(run.run_id)
    assert stored is not None and {name: getattr(stored, name) for name in COLUMNS} == {
        name: getattr(run, name) for name in COLUMNS
    }
    assert await ledger.runs.get(run_id(KEY, START, "zzzz")) is None


async def test_update_merges_columns(ledger: Ledger) -> None:
    run = build_run()
    await ledger.runs.insert(run)
    await asyncio.gather(
        *(
            ledger.runs.merge(run.run_id, **{column: 5})
            for column in ("polls", "posts", "operations", "bytes", "rows")
        )
    )
    stored = await ledger.runs.get(run.run_id)
    assert stored is not None and (
        stored.polls,
        stored.posts,
        stored.operations,
        stored.bytes,
        stored.rows,
    ) == (5, 5, 5, 5, 5)
    # A merge does not create a missing row.
    await ledger.runs.merge(run_id(KEY, START, "zzzz"), polls=1)
    assert await ledger.runs.get(run_id(KEY, START, "zzzz")) is None


async def test_outcome_requires_current_etag_but_cancel_does_not(
    ledger: Ledger,
) -> None:
    run = build_run()
    await ledger.runs.insert(run)
    stale_row = await ledger.runs.get(run.run_id)
    assert stale_row is not None
    await ledger.runs.mark_cancelled(run.run_id, START, "ada")
    assert not await ledger.runs.merge_if_unchanged(stale_row, outcome="landed")
    stored = await ledger.runs.get(run.run_id)
    assert (
        stored is not None
        and stored.cancelled
        and stored.outcome == ""
        and stored.cancel_requested_by == "ada"
    )


async def test_concurrent_outcome_and_cancel_are_both_stored(ledger: Ledger) -> None:
    runs = [build_run(f"aa{a}{b}", OTHER_KEY) for a in "abcde" for b in "ab"]
    for run in runs:
        await ledger.runs.insert(run)
    await asyncio.gather(
        *(
            call
            for run in runs
            for call in (
                close_run(ledger, run.run_id, {"outcome": "no_data"}),
                ledger.runs.mark_cancelled(run.run_id, START, "ada"),
            )
        )
    )
    for run in runs:
        stored = await ledger.runs.get(run.run_id)
        assert stored is not None and stored.cancelled and stored.outcome == "no_data"


async def test_get_page_returns_newest_run_first(ledger: Ledger) -> None:
    ids = [run_id(KEY, START + timedelta(hours=n), "aaaa") for n in range(5)] + [
        run_id(KEY, START + timedelta(days=20), "aaaa")
    ]
    for new_id in ids:
        await ledger.runs.insert(Run(run_id=new_id, key=str(KEY)))
    assert [run.run_id async for run in ledger.runs.list("202611")] == ids[:5][::-1]
    assert [run.run_id async for run in ledger.runs.list("202612")] == ids[5:]
    assert [run async for run in ledger.runs.list("202610")] == []


def test_request_ids_are_unique_and_newest_last() -> None:
    run = build_run(request_ids=",".join(f"r{n}" for n in range(MAX_REQUEST_IDS)))
    assert run.with_request_id("new").split(",") == [f"r{n}" for n in range(1, MAX_REQUEST_IDS)] + [
        "new"
    ]
    assert run.with_request_id("r3") == run.with_request_id(None) == run.request_ids
    assert build_run().with_request_id(None) == "" and build_run().with_request_id("a") == "a"


@pytest.mark.parametrize(
    ("columns", "result"),
    [
        ({}, None),
        ({"outcome": "landed", "version": "v"}, {"outcome": "landed", "version": "v"}),
        (
            {"outcome": "failed", "code": "graph_forbidden", "version": "v"},
            {"outcome": "failed", "code": "graph_forbidden"},
        ),
        (
            {"outcome": "superseded", "live_run_id": "r"},
            {"outcome": "superseded", "live_run_id": "r"},
        ),
    ],
)
def test_run_result_is_derived_from_columns(
    columns: dict[str, Any], result: dict[str, str] | None
) -> None:
    assert build_run(**columns).result == result


def test_run_duration_is_difference_of_start_and_end() -> None:
    assert seconds_between(build_run(), START + timedelta(minutes=1)) == 60
    assert (
        seconds_between(build_run(ended_at="2026-11-21T06:00:05Z"), START + timedelta(minutes=1))
        == 5
    )
    assert seconds_between(Run(run_id="r", key="k"), START) == 0


async def test_holding_returns_run_while_lock_is_held(ledger: Ledger, clock: FakeClock) -> None:
    run, other = build_run("aaaa"), build_run("bbbb")
    # The run has no row.
    assert await ledger.holding(run.run_id) == {"status": "superseded", "live_run_id": ""}
    await claim(ledger, run)
    held = await ledger.holding(run.run_id)
    assert isinstance(held, Run) and held.run_id == run.run_id
    await ledger.locks.release(run.key, run.run_id)
    assert await ledger.holding(run.run_id) == {"status": "superseded", "live_run_id": ""}
    await claim(ledger, other)
    assert await ledger.holding(run.run_id) == {"status": "superseded", "live_run_id": other.run_id}
    await ledger.runs.mark_cancelled(run.run_id, START, "ada")
    assert await ledger.holding(run.run_id) == {"status": "cancelled"}
    await close_run(ledger, run.run_id, {"outcome": "cancelled", "code": "cancelled"})
    assert await ledger.holding(run.run_id) == {
        "status": "ended",
        "result": {"outcome": "cancelled", "code": "cancelled"},
    }


async def test_holding_with_other_epoch_stops_run(ledger: Ledger) -> None:
    run = build_run()
    await claim(ledger, run)
    await ledger.locks.release(run.key, run.run_id)
    await ledger.locks.acquire(
        run.key, run.run_id, "Tests", run.run_id, START, lambda lock: never_replace()
    )
    assert await ledger.holding(run.run_id) == {"status": "superseded", "live_run_id": run.run_id}


async def never_replace() -> bool:
    return False


async def test_heartbeat_extends_lease(ledger: Ledger, clock: FakeClock) -> None:
    run = build_run()
    await claim(ledger, run)
    lock = await ledger.locks.get(run.key)
    assert lock is not None
    await ledger.holding(run.run_id)
    assert await ledger.locks.get(run.key) == lock
    clock.advance(minutes=31)
    await ledger.holding(run.run_id)
    renewed = await ledger.locks.get(run.key)
    assert renewed is not None and renewed.lease_until == "2026-11-21T07:31:00Z"
    held = await ledger.runs.get(run.run_id)
    assert held is not None
    await ledger.extend_lease(held, 12 * 3600)
    renewed = await ledger.locks.get(run.key)
    assert renewed is not None and renewed.lease_until == "2026-11-21T19:31:00Z"
