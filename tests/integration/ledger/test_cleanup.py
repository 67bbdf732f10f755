"""The orphaned-run cleanup with the real tables: what it closes, starts again and keeps."""

from typing import Any

import pytest

from shared.errors import InfrastructureError
from shared.instances import InstanceState
from shared.ledger.backfills import Backfill
from shared.ledger.claims import claim
from shared.ledger.cleanup import MAX_RESTARTS, Engine, clean_up_orphaned_runs
from shared.ledger.cycles import Cycle
from shared.ledger.ledger import Ledger
from shared.ledger.outcomes import close_run
from shared.ledger.runs import Run
from tests.integration.ledger.ledger_rows import START, build_run
from tests.support.clocks import FakeClock
from tests.support.fake_engine import FakeEngine, close_orphans

CYCLE_ID = "cycle-20261121t060000z"
BACKFILL_ID = "backfill-20261121t060000z-aaaa"


async def claim_run(ledger: Ledger, suffix: str = "aaaa", **columns: Any) -> Run:
    run = build_run(suffix, **columns)
    assert await claim(ledger, run) == {"status": "claimed"}
    return run


async def get_run(ledger: Ledger, run: Run) -> Run:
    row = await ledger.runs.get(run.run_id)
    assert row is not None
    return row


async def list_open(ledger: Ledger) -> list[str]:
    return [item.item_id async for item in ledger.open_items.list()]


@pytest.mark.parametrize(
    ("state", "result"),
    [
        ("terminated", {"outcome": "failed", "code": "terminated"}),
        ("completed", {"outcome": "failed", "code": "platform_fault"}),
    ],
)
async def test_clean_up_closes_orphaned_run(
    ledger: Ledger, state: InstanceState, result: dict[str, str]
) -> None:
    run = await claim_run(ledger)
    assert await close_orphans(ledger, state) == [run.run_id]
    assert (await get_run(ledger, run)).result == result and await close_orphans(
        ledger, state
    ) == []


async def test_clean_up_cancels_orphaned_run_with_cancel_request(ledger: Ledger) -> None:
    run = await claim_run(ledger)
    await ledger.runs.mark_cancelled(run.run_id, START, "ada")
    await close_orphans(ledger, "terminated")
    assert (await get_run(ledger, run)).result == {"outcome": "cancelled", "code": "cancelled"}


async def test_clean_up_keeps_live_run(ledger: Ledger, clock: FakeClock) -> None:
    run = await claim_run(ledger)
    clock.advance(days=30)
    assert await close_orphans(ledger, "live") == [] and (await get_run(ledger, run)).outcome == ""


async def test_clean_up_closes_run_unknown_for_five_minutes(
    ledger: Ledger, clock: FakeClock
) -> None:
    run = await claim_run(ledger)
    assert await close_orphans(ledger, "unknown") == []
    clock.advance(minutes=4)
    assert await close_orphans(ledger, "unknown") == []
    # The "live" state resets the time at which the state became unknown.
    assert await close_orphans(ledger, "live") == []
    clock.advance(minutes=4)
    assert await close_orphans(ledger, "unknown") == []
    clock.advance(minutes=4, seconds=45)  # the timer might be 15 seconds early
    assert await close_orphans(ledger, "unknown") == [run.run_id]
    assert (await get_run(ledger, run)).result == {"outcome": "failed", "code": "run_lost"}


async def test_clean_up_keeps_run_of_other_hub_until_lease_expires(
    ledger: Ledger, clock: FakeClock
) -> None:
    run = await claim_run(ledger)
    ledger.hub = "Other"
    clock.advance(minutes=59)
    assert await close_orphans(ledger, "unknown") == [] == await close_orphans(ledger, "terminated")
    clock.advance(minutes=2)
    assert await close_orphans(ledger, "live") == [run.run_id]
    assert (await get_run(ledger, run)).code == "run_lost"


async def test_clean_up_closes_only_orphaned_run(ledger: Ledger) -> None:
    run = await claim_run(ledger)
    other = Run(
        run_id="unbilled-usage-2026-11-usd-full-20261121t060000z-aaaa",
        key="unbilled_usage/2026-11/USD/full",
    )
    await claim(ledger, other)

    engine = FakeEngine(states={other.run_id: "terminated"})
    assert (await engine.clean_up(ledger)).closed == [other.run_id] and (
        await get_run(ledger, run)
    ).outcome == ""


async def test_clean_up_taken_over_run_closes_it_and_keeps_the_holder(ledger: Ledger) -> None:
    run = await claim_run(ledger)
    await ledger.runs.mark_cancelled(run.run_id, START, "ada")
    holder = await claim_run(ledger, "bbbb")
    engine = FakeEngine(states={run.run_id: "terminated"})
    assert (await engine.clean_up(ledger)).closed == [run.run_id]
    assert (await get_run(ledger, run)).outcome == "cancelled"
    lock = await ledger.locks.get(run.key)
    assert lock is not None and lock.run_id == holder.run_id
    assert await list_open(ledger) == [holder.run_id]


async def test_clean_up_taken_over_run_of_other_hub_closes_it(ledger: Ledger) -> None:
    """Its lease ended when another run acquired the key."""
    run = await claim_run(ledger)
    await ledger.runs.mark_cancelled(run.run_id, START, "ada")
    ledger.hub = "Other"
    holder = await claim_run(ledger, "bbbb")
    assert await close_orphans(ledger, "live") == [run.run_id]
    assert await list_open(ledger) == [holder.run_id]


async def test_close_run_and_superseded_claim_leave_no_open_item(ledger: Ledger) -> None:
    run = await claim_run(ledger)
    assert (await claim(ledger, build_run("bbbb")))["status"] == "superseded"
    assert await list_open(ledger) == [run.run_id]
    await close_run(ledger, run.run_id, {"outcome": "no_data"})
    assert await list_open(ledger) == []


async def test_clean_up_failed_run_starts_it_again_three_times_per_key_and_day(
    ledger: Ledger, clock: FakeClock
) -> None:
    first, engine = await claim_run(ledger), FakeEngine("failed")
    for n in range(1, MAX_RESTARTS + 1):
        assert (await engine.clean_up(ledger)).restarted == [first.run_id]
        row = await get_run(ledger, first)
        assert (row.instance_id, row.restarts) == (f"{first.run_id}~restart-{n}", n)
        assert row.instance_id == engine.started[-1] and row.outcome == ""
    assert (await engine.clean_up(ledger)).closed == [first.run_id]
    assert (await get_run(ledger, first)).code == "restart_limit_reached"
    second = await claim_run(ledger, "bbbb")  # another run of the key on the same day
    assert (await engine.clean_up(ledger)).closed == [second.run_id]
    clock.advance(days=1)
    third = await claim_run(ledger, "cccc")
    assert (await engine.clean_up(ledger)).restarted == [third.run_id]


async def test_clean_up_restart_that_does_not_begin_is_repeated(
    ledger: Ledger, clock: FakeClock
) -> None:
    """The process ended after it had written the new instance ID and before it started it."""
    run = await claim_run(ledger)
    engine = FakeEngine("unknown", {run.run_id: "failed"})
    assert (await engine.clean_up(ledger)).restarted == [run.run_id]
    assert (await engine.clean_up(ledger)).restarted == []
    clock.advance(minutes=5)
    assert (await engine.clean_up(ledger)).restarted == [run.run_id]
    assert engine.started == [f"{run.run_id}~restart-{n}" for n in (1, 2)]


async def test_clean_up_failed_run_whose_outcome_is_stored_completes_the_close(
    ledger: Ledger,
) -> None:
    run = await claim_run(ledger)
    await ledger.runs.merge(run.run_id, outcome="no_data", ended_at="2026-11-21T06:05:00Z")
    engine = FakeEngine("failed")
    assert (await engine.clean_up(ledger)).closed == [run.run_id] and engine.started == []
    lock = await ledger.locks.get(run.key)
    assert lock is not None and lock.run_id == "" and await list_open(ledger) == []


@pytest.mark.parametrize("plan", ["cycle", "backfill"])
async def test_clean_up_failed_run_of_live_plan_waits_until_its_lane_is_gone(
    ledger: Ledger, clock: FakeClock, plan: str
) -> None:
    await insert_plan(ledger, plan)
    columns = (
        {"cycle_id": CYCLE_ID} if plan == "cycle" else {"requested_by": f"backfill:{BACKFILL_ID}"}
    )
    run = await claim_run(ledger, **columns)
    engine = FakeEngine(states={run.run_id: "failed"})
    assert (await engine.clean_up(ledger)).restarted == []
    clock.advance(minutes=5)
    assert (await engine.clean_up(ledger)).restarted == [run.run_id]


async def test_clean_up_failed_run_of_failed_cycle_starts_both_again(ledger: Ledger) -> None:
    await insert_plan(ledger, "cycle")
    run = await claim_run(ledger, cycle_id=CYCLE_ID)
    engine = FakeEngine("failed")
    assert (await engine.clean_up(ledger)).restarted == [run.run_id, CYCLE_ID]


async def insert_plan(ledger: Ledger, plan: str) -> str:
    if plan == "cycle":
        assert await ledger.insert_cycle(Cycle(CYCLE_ID, "starting", "2026-11-21T06:00:00Z"))
        await ledger.cycles.save_plan(CYCLE_ID, [build_run().run_id])
        return CYCLE_ID
    backfill = Backfill(BACKFILL_ID, "starting", "2026-09", "2026-10", ["billed_usage"])
    assert await ledger.insert_backfill(backfill)
    await ledger.backfills.save_plan(BACKFILL_ID, [build_run().run_id], {}, "")
    return BACKFILL_ID


async def get_plan(ledger: Ledger, plan_id: str) -> Cycle | Backfill:
    plans: Any = ledger.cycles if plan_id == CYCLE_ID else ledger.backfills
    plan: Cycle | Backfill | None = await plans.get(plan_id)
    assert plan is not None
    return plan


@pytest.mark.parametrize("plan", ["cycle", "backfill"])
@pytest.mark.parametrize(
    ("state", "code"), [("terminated", "terminated"), ("completed", "platform_fault")]
)
async def test_clean_up_orphaned_plan_stores_failed(
    ledger: Ledger, clock: FakeClock, plan: str, state: InstanceState, code: str
) -> None:
    plan_id = await insert_plan(ledger, plan)
    assert await close_orphans(ledger, state) == [plan_id]
    row = await get_plan(ledger, plan_id)
    assert (row.state, row.code, row.outcomes) == ("failed", code, {"lost": 1})
    assert row.ended_at and await list_open(ledger) == []
    clock.advance(days=90)  # its history is purged
    assert await close_orphans(ledger, "unknown") == []
    assert await get_plan(ledger, plan_id) == row


@pytest.mark.parametrize("plan", ["cycle", "backfill"])
async def test_clean_up_failed_plan_starts_it_again_three_times(ledger: Ledger, plan: str) -> None:
    plan_id, engine = await insert_plan(ledger, plan), FakeEngine("failed")
    for n in range(1, MAX_RESTARTS + 1):
        assert (await engine.clean_up(ledger)).restarted == [plan_id]
        row = await get_plan(ledger, plan_id)
        assert (row.restarts, row.instance_id) == (n, engine.started[-1]) and not row.is_over
    assert (await engine.clean_up(ledger)).closed == [plan_id]
    row = await get_plan(ledger, plan_id)
    assert (row.state, row.code) == ("failed", "restart_limit_reached")


async def test_clean_up_cancelled_backfill_stores_cancelled(ledger: Ledger) -> None:
    await insert_plan(ledger, "backfill")
    await ledger.backfills.mark_cancelled(BACKFILL_ID, START)
    assert await close_orphans(ledger, "failed") == [BACKFILL_ID]
    row = await get_plan(ledger, BACKFILL_ID)
    assert (row.state, row.code, row.outcomes) == ("failed", "cancelled", {"cancelled": 1})


async def test_clean_up_cycle_of_other_hub_is_closed_after_its_lease(
    ledger: Ledger, clock: FakeClock
) -> None:
    await insert_plan(ledger, "cycle")
    run = await claim_run(ledger, cycle_id=CYCLE_ID)
    ledger.hub = "Other"
    clock.advance(minutes=59)
    assert await close_orphans(ledger, "unknown") == []
    clock.advance(minutes=2)
    assert await close_orphans(ledger, "unknown") == [run.run_id]
    assert await close_orphans(ledger, "unknown") == []  # its last run ended less than an hour ago
    clock.advance(minutes=61)
    assert await close_orphans(ledger, "unknown") == [CYCLE_ID]
    assert (await get_plan(ledger, CYCLE_ID)).code == "run_lost"


@pytest.mark.parametrize("kind", ["cycle", "backfill"])
async def test_clean_up_item_without_row_is_removed(
    ledger: Ledger, clock: FakeClock, kind: Any
) -> None:
    item_id = CYCLE_ID if kind == "cycle" else BACKFILL_ID
    await ledger.open_items.add(item_id, kind, ledger.hub, clock.now())
    await close_orphans(ledger, "unknown")
    assert await list_open(ledger) == [item_id]
    clock.advance(minutes=5)
    await close_orphans(ledger, "unknown")
    assert await list_open(ledger) == []


async def test_clean_up_error_of_one_item_is_reported_and_others_continue(ledger: Ledger) -> None:
    run, plan_id = await claim_run(ledger), await insert_plan(ledger, "cycle")

    class SlowEngine(FakeEngine):
        async def get_state(self, instance_id: str) -> InstanceState:
            if instance_id == run.run_id:
                raise InfrastructureError("task_hub_timeout", "Task hub")
            return await super().get_state(instance_id)

    engine = SlowEngine("terminated")
    report = await clean_up_orphaned_runs(ledger, Engine(engine.get_state, engine.start))
    assert report.closed == [plan_id]
    assert {key: error.code for key, error in report.errors.items()} == {
        run.run_id: "task_hub_timeout"
    }
