"""Cycle rows, which store the run IDs of a cycle in several columns."""

from datetime import timedelta

from shared.ledger.cycles import Cycle
from shared.ledger.keys import run_id
from shared.ledger.ledger import Ledger
from shared.ledger.plan_lists import RUNS_PER_COLUMN
from tests.integration.ledger.ledger_rows import KEY, START

CYCLE = Cycle(
    "cycle-20261121t060000z-aaaa", "starting", "2026-11-21T06:00:00Z", "ada", "2026-11-21T06:00:01Z"
)


async def test_cycle_is_stored_from_start_to_end(ledger: Ledger) -> None:
    assert await ledger.cycles.get(CYCLE.cycle_id) is None
    assert await ledger.cycles.insert(CYCLE) and not await ledger.cycles.insert(CYCLE)
    assert await ledger.cycles.get(CYCLE.cycle_id) == CYCLE
    runs = [run_id(KEY, START + timedelta(seconds=n), "aaaa") for n in range(1_000)]
    for _ in range(2):
        await ledger.cycles.save_plan(CYCLE.cycle_id, runs)
    stored = await ledger.cycles.get(CYCLE.cycle_id)
    assert stored is not None and stored.state == "running" and stored.runs == runs
    for _ in range(2):
        await ledger.cycles.save_result(
            CYCLE.cycle_id, {"landed": 999, "failed": 1}, "2026-11-21T07:00:00Z"
        )
    stored = await ledger.cycles.get(CYCLE.cycle_id)
    assert stored is not None and (stored.state, stored.outcomes, stored.ended_at) == (
        "ended",
        {"landed": 999, "failed": 1},
        "2026-11-21T07:00:00Z",
    )
    assert stored.runs == runs and stored.requested_by == "ada"


async def test_cycle_with_more_than_ten_columns_keeps_order(ledger: Ledger) -> None:
    await ledger.cycles.insert(CYCLE)
    runs = [f"r{n}" for n in range(RUNS_PER_COLUMN * 11 + 1)]
    await ledger.cycles.save_plan(CYCLE.cycle_id, runs)
    stored = await ledger.cycles.get(CYCLE.cycle_id)
    assert stored is not None and stored.runs == runs


async def test_cycle_without_runs_is_stored(ledger: Ledger) -> None:
    await ledger.cycles.insert(CYCLE)
    await ledger.cycles.save_plan(CYCLE.cycle_id, [])
    stored = await ledger.cycles.get(CYCLE.cycle_id)
    assert stored is not None and (stored.state, stored.runs) == ("running", [])


async def test_runs_page_does_not_contain_cycles(ledger: Ledger) -> None:
    await ledger.cycles.insert(CYCLE)
    assert [run async for run in ledger.runs.list("202611")] == [] and await ledger.runs.get(
        CYCLE.cycle_id
    ) is None
