"""Claims: a run acquires the lock of its export key, even after a crash or a repeated call."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from shared.ledger.claims import claim, create_run
from shared.ledger.ledger import Ledger
from shared.ledger.outcomes import close_run
from shared.ledger.runs import Run
from shared.messages import RunRequest
from shared.telemetry import APP_VERSION
from tests.integration.ledger.ledger_rows import KEY, START, build_run
from tests.support.clocks import FakeClock
from tests.support.fake_engine import close_orphans


async def get_run(ledger: Ledger, run: Run) -> Run:
    row = await ledger.runs.get(run.run_id)
    assert row is not None
    return row


async def test_claim_creates_lock_and_row(ledger: Ledger) -> None:
    run = build_run()
    assert await claim(ledger, run) == {"status": "claimed"}
    lock, row = await ledger.locks.get(run.key), await get_run(ledger, run)
    assert lock is not None and (lock.run_id, lock.hub, lock.epoch) == (run.run_id, "Tests", 1)
    assert (row.epoch, row.hub, row.stage) == (1, "Tests", "starting")
    assert isinstance(await ledger.holding(run.run_id), Run)


async def test_claim_is_idempotent(ledger: Ledger) -> None:
    run = build_run()
    await claim(ledger, run)
    first = await get_run(ledger, run)
    assert await claim(ledger, replace(run, reason="again")) == {"status": "claimed"}
    assert await get_run(ledger, run) == first


async def test_claim_concurrently_succeeds_once(ledger: Ledger) -> None:
    runs = [build_run(f"aa{a}{b}") for a in "abcde" for b in "abcd"]
    results: list[Any] = await asyncio.gather(
        *(claim(ledger, run, leave_trace=False) for run in runs)
    )
    claimed = [
        run for run, result in zip(runs, results, strict=True) if result["status"] == "claimed"
    ]
    assert len(claimed) == 1
    assert all(
        result["live_run_id"] == claimed[0].run_id
        for result in results
        if result["status"] == "superseded"
    )
    assert [run.run_id async for run in ledger.runs.list("202611")] == [claimed[0].run_id]


@pytest.mark.parametrize("leave_trace", [True, False])
async def test_claim_of_held_key_records_superseded_run_on_request(
    ledger: Ledger, leave_trace: bool
) -> None:
    first, second = build_run("aaaa"), build_run("bbbb")
    await claim(ledger, first)
    assert await claim(ledger, second, leave_trace=leave_trace) == {
        "status": "superseded",
        "live_run_id": first.run_id,
    }
    row = await ledger.runs.get(second.run_id)
    if leave_trace:
        assert row is not None and row.result == {
            "outcome": "superseded",
            "live_run_id": first.run_id,
        }
    else:
        assert row is None
    lock = await ledger.locks.get(first.key)
    assert (
        lock is not None and lock.run_id == first.run_id and await ledger.catalogue.get(KEY) is None
    )


async def test_claim_after_crash_between_lock_and_row_recovers(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, other = build_run("aaaa"), build_run("bbbb")

    async def crash(run: Run) -> bool:
        raise RuntimeError("simulated crash")

    with monkeypatch.context() as patch:
        patch.setattr(ledger.runs, "insert", crash)
        with pytest.raises(RuntimeError):
            await claim(ledger, run)
    assert await ledger.runs.get(run.run_id) is None
    assert await claim(ledger, other, leave_trace=False) == {
        "status": "superseded",
        "live_run_id": run.run_id,
    }
    assert await claim(ledger, run) == {"status": "claimed"}
    assert (await get_run(ledger, run)).epoch == 1


async def test_claim_after_lock_without_row_was_released_takes_lock(
    ledger: Ledger,
) -> None:
    """The orphaned-run cleanup released the lock before the run row was written."""
    run = build_run()
    await claim(ledger, run)
    await ledger.locks.release(run.key, run.run_id)
    assert await claim(ledger, run) == {"status": "claimed"}
    lock = await ledger.locks.get(run.key)
    assert lock is not None and lock.epoch == 2 and (await get_run(ledger, run)).epoch == 2
    assert isinstance(await ledger.holding(run.run_id), Run)
    await close_run(ledger, run.run_id, {"outcome": "no_data"})
    lock = await ledger.locks.get(run.key)
    assert lock is not None and lock.run_id == ""


async def test_claim_of_ended_run_returns_result_and_releases_lock(ledger: Ledger) -> None:
    run = build_run()
    await claim(ledger, run)
    row = await get_run(ledger, run)
    # The process ends after it has stored the outcome.
    await ledger.runs.merge_if_unchanged(row, outcome="no_data", ended_at="2026-11-21T06:05:00Z")
    assert await claim(ledger, run) == {"status": "ended", "result": {"outcome": "no_data"}}
    lock, entry = await ledger.locks.get(run.key), await ledger.catalogue.get(KEY)
    assert (
        lock is not None
        and lock.run_id == ""
        and entry is not None
        and entry.last_run_id == run.run_id
    )


async def test_claim_of_cancelled_run_ends_cancelled(ledger: Ledger) -> None:
    run = build_run()
    await claim(ledger, run, leave_trace=False)
    await ledger.runs.mark_cancelled(run.run_id, START, "ada")
    assert await claim(ledger, run) == {"status": "cancelled"}
    assert (await get_run(ledger, run)).result == {"outcome": "cancelled", "code": "cancelled"}
    lock = await ledger.locks.get(run.key)
    assert lock is not None and lock.run_id == ""


async def test_claim_of_key_of_cancelled_run_succeeds_at_once(ledger: Ledger) -> None:
    cancelled, next_run = build_run("aaaa"), build_run("bbbb")
    await claim(ledger, cancelled)
    await ledger.runs.mark_cancelled(cancelled.run_id, START, "ada")
    assert await claim(ledger, next_run) == {"status": "claimed"}
    assert (await get_run(ledger, next_run)).epoch == 2
    assert await ledger.holding(cancelled.run_id) == {"status": "cancelled"}
    assert await close_run(
        ledger, cancelled.run_id, {"outcome": "cancelled", "code": "cancelled"}
    ) == {"outcome": "cancelled", "code": "cancelled"}
    lock = await ledger.locks.get(cancelled.key)
    # close_run() of the cancelled run updated only its own row.
    assert lock is not None and (lock.run_id, lock.epoch) == (next_run.run_id, 2)
    assert await ledger.catalogue.get(KEY) is None


async def test_claim_without_locks_always_succeeds(ledger: Ledger) -> None:
    ledger.locking = False
    assert (
        await claim(ledger, build_run("aaaa"))
        == await claim(ledger, build_run("bbbb"))
        == {"status": "claimed"}
    )
    assert (
        isinstance(await ledger.holding(build_run("bbbb").run_id), Run)
        and await ledger.locks.get(str(KEY)) is None
    )


async def test_clean_up_releases_lock_without_row(
    ledger: Ledger, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = build_run()
    await ledger.locks.acquire(
        run.key, run.run_id, "Tests", run.run_id, clock.now(), lambda lock: never_replace()
    )

    assert await close_orphans(ledger, "unknown") == []
    clock.advance(minutes=5)
    assert await close_orphans(ledger, "unknown") == [run.run_id]
    lock = await ledger.locks.get(run.key)
    assert lock is not None and lock.run_id == "" and await ledger.runs.get(run.run_id) is None


async def never_replace() -> bool:
    return False


def test_create_run_copies_request_to_row() -> None:
    request: RunRequest = {
        "run_id": build_run().run_id,
        "key": str(KEY),
        "force": True,
        "limits": {
            "deadline": "2026-11-22T06:00:00+00:00",
            "max_rounds": 3,
            "max_concurrent_pages": 4,
        },
    }
    row = create_run(request, START)
    assert (
        row.run_id,
        row.force,
        row.deadline,
        row.started_at,
        row.app_version,
        row.requested_by,
        row.cycle_id,
    ) == (
        build_run().run_id,
        True,
        "2026-11-22T06:00:00+00:00",
        "2026-11-21T06:00:00Z",
        APP_VERSION,
        "",
        "",
    )
    full: RunRequest = {**request, "requested_by": "ada", "reason": "why", "cycle_id": "cycle-1"}
    row = create_run(full, START)
    assert (row.requested_by, row.reason, row.cycle_id) == ("ada", "why", "cycle-1")


async def test_claim_of_one_run_by_two_hubs_succeeds_once(ledger: Ledger) -> None:
    """Two task hubs process the same tick, so both start a run with the same ID."""
    run, other = build_run(), Ledger(ledger.tables, ledger.clock, hub="Other")
    results = await asyncio.gather(claim(ledger, run), claim(other, run))
    assert sorted(result["status"] for result in results) == ["claimed", "superseded"]
    winner, loser = (ledger, other) if results[0]["status"] == "claimed" else (other, ledger)
    row = await get_run(ledger, run)
    assert row.hub == winner.hub
    await ledger.runs.mark_cancelled(run.run_id, START, "ada")
    row = await get_run(ledger, run)
    assert await claim(loser, run) == {"status": "superseded", "live_run_id": run.run_id}
    assert await get_run(ledger, run) == row  # the cancellation is left to the other hub
    await close_run(winner, run.run_id, {"outcome": "no_data"})
    row = await get_run(ledger, run)
    assert await claim(loser, run) == {"status": "ended", "result": row.result}
    assert await get_run(ledger, run) == row


@pytest.mark.parametrize("is_live", [True, False])
async def test_claim_by_another_attempt_replaces_only_a_dead_instance(
    ledger: Ledger, is_live: bool
) -> None:
    run = build_run()
    await claim(ledger, run)
    row, requested = await get_run(ledger, run), list[str]()

    async def get_is_live(instance_id: str) -> bool:
        requested.append(instance_id)
        return is_live

    attempt = replace(run, instance_id=f"{run.run_id}~2")
    result = await claim(ledger, attempt, is_live=get_is_live)
    assert requested == [run.run_id]
    if is_live:
        assert result == {"status": "superseded", "live_run_id": run.run_id}
        assert await get_run(ledger, run) == row
    else:
        assert result == {"status": "claimed"}
        claimed = await get_run(ledger, run)
        assert (claimed.instance_id, claimed.epoch) == (f"{run.run_id}~2", 2)
        assert isinstance(await ledger.holding(run.run_id), Run)
